"""Functions of one position."""

from __future__ import annotations

from collections.abc import Sequence

from cnncore.kernels.array.modules import array_module
from cnncore.kernels.cuda import runtime
from cnncore.kernels.cuda.runtime import Array, call, empty, ready


def pointwise(
    x: Array, kind: str, params: Sequence[float] = (), order: int = 0, scale: Array | None = None
) -> Array:
    """See ``contract.pointwise``."""
    xp = array_module(x)
    number, _ = runtime.compiled.activations()[kind]
    p, q = (*params, 0.0, 0.0)[:2]
    scale = scale if scale is None else ready(scale)
    y = empty("pointwise", xp, x.shape, x.dtype)
    call("pointwise", xp, ready(x), number, p, q, order, scale, y)
    return y
