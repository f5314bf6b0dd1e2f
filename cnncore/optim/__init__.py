"""Layer 4: optimisers, gradient clipping, learning-rate schedules."""

from __future__ import annotations

from cnncore.optim import schedules
from cnncore.optim.optimizers import (
    SGD,
    Adam,
    AdamW,
    NonFiniteGradientError,
    Optimizer,
    clip_grad_norm,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "NonFiniteGradientError",
    "Optimizer",
    "clip_grad_norm",
    "schedules",
]
