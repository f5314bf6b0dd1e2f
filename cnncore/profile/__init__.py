"""A profile by op: how long, how often, in kernels or in Python.  ``cnncore profile`` prints it."""

from cnncore.profile.output import page, text, to_json, trace
from cnncore.profile.recorder import OpRow, Profile, Span, profile

__all__ = ["OpRow", "Profile", "Span", "page", "profile", "text", "to_json", "trace"]
