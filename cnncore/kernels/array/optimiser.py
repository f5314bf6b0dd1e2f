"""Updates of parameters, in place."""

from __future__ import annotations

from cnncore.kernels.array.modules import Array, array_module, native, quiet


@quiet
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
    g = native(grad)
    if weight_decay:
        g = g + weight_decay * param
    if velocity is not None:
        velocity[...] = momentum * velocity + (1.0 - dampening) * g
        g = g + momentum * velocity if nesterov else velocity
    param[...] = param - lr * g


@quiet
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
    xp = array_module(param)
    g = native(grad)
    if weight_decay and decoupled:
        param[...] = param - lr * weight_decay * param
    elif weight_decay:
        g = g + weight_decay * param
    m[...] = beta1 * m + (1.0 - beta1) * g
    v[...] = beta2 * v + (1.0 - beta2) * (g * g)
    mean, square = m / (1.0 - beta1**step), v / (1.0 - beta2**step)
    param[...] = param - lr * mean / (xp.sqrt(square) + eps)
