"""The pytest plugin of cnncore, also where cnncore runs from the tree without being installed."""

from __future__ import annotations

from importlib.metadata import entry_points

from hypothesis import settings

if not any(entry.value == "cnncore.testing.plugin" for entry in entry_points(group="pytest11")):
    pytest_plugins = ["cnncore.testing.plugin"]

# A slow example on a busy machine is no failure.
settings.register_profile("cnncore", deadline=None)
settings.load_profile("cnncore")
