"""A profile by op: how long, how often, in kernels or in Python.  ``cnncore profile`` prints it."""

from cnncore.profile.output import page, text, to_json, trace
from cnncore.profile.overhead import OverheadRow, overhead, overhead_text
from cnncore.profile.recorder import OpRow, Profile, Span, profile

__all__ = [
    "OpRow",
    "OverheadRow",
    "Profile",
    "Span",
    "overhead",
    "overhead_text",
    "page",
    "profile",
    "text",
    "to_json",
    "trace",
]
