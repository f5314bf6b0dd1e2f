"""Checks for gradients, yours and ours.

``gradcheck`` and ``gradgradcheck`` compare with finite differences, ``adjoint_check`` tests linear
ops exactly, ``strategies`` draws arguments for layers (needs Hypothesis), ``faults`` breaks cnncore
on purpose, and ``plugin`` brings all of it into pytest.  See ``docs/testing.md``.
"""

from cnncore.testing.adjoint import AdjointReport, adjoint_check
from cnncore.testing.gradients import gradcheck, gradgradcheck
from cnncore.testing.report import CheckError, Entry, Kink, Report

__all__ = [
    "AdjointReport",
    "CheckError",
    "Entry",
    "Kink",
    "Report",
    "adjoint_check",
    "gradcheck",
    "gradgradcheck",
]
