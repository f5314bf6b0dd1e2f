"""Networks made ready to run many times: traced, fused, planned, packed."""

from cnncore.inference.compiled import Compiled, compile
from cnncore.inference.report import Report, StepReport

__all__ = ["Compiled", "Report", "StepReport", "compile"]
