"""Updates of parameters, in place."""

from __future__ import annotations

from cnncore.kernels.array.modules import Array, array_module
from cnncore.kernels.cuda.runtime import call, ready


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """See ``contract.sgd_update``."""
    settings = (lr, momentum, dampening, weight_decay, nesterov)
    call("sgd_update", array_module(param), param, ready(grad), velocity, *settings)


def adam_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    """See ``contract.adam_update``."""
    settings = (step, lr, beta1, beta2, eps, weight_decay, decoupled)
    call("adam_update", array_module(param), param, ready(grad), m, v, *settings)
