"""Layer 2: tensors, the graph of ops, and the walk backwards through it."""

from cnncore.autograd.events import Event, emit, observe
from cnncore.autograd.function import Function
from cnncore.autograd.graph import describe, grad, to_dot
from cnncore.autograd.modes import (
    detect_anomaly,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from cnncore.autograd.tensor import OPERATORS, Tensor, beside, from_dlpack, tensor

__all__ = [
    "OPERATORS",
    "Event",
    "Function",
    "Tensor",
    "beside",
    "describe",
    "detect_anomaly",
    "emit",
    "enable_grad",
    "from_dlpack",
    "grad",
    "is_grad_enabled",
    "no_grad",
    "observe",
    "set_grad_enabled",
    "tensor",
    "to_dot",
]
