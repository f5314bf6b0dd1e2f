"""The pytest plugin of cnncore, also where cnncore runs from the tree without being installed."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

from hypothesis import settings

if not any(entry.value == "cnncore.testing.plugin" for entry in entry_points(group="pytest11")):
    pytest_plugins = ["cnncore.testing.plugin"]

# A slow example on a busy machine is no failure.  Where CI is set the examples are the same in
# every run, so that a change is judged by what it changes; elsewhere each run looks at new ones.
settings.register_profile("cnncore", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("cnncore")


def pytest_sessionstart() -> None:
    """`make sanitize` must not run the plain build by mistake: an editable install comes first."""
    wanted = os.environ.get("CNNCORE_EXPECT_SANITIZERS")
    if wanted:
        from cnncore.kernels import native

        found = native.describe().get("sanitizers")
        assert found == wanted, f"the module under test has sanitizers {found!r}, not {wanted!r}"
