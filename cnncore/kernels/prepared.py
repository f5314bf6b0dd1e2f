"""A convolution of one shape with weights of its own, made ready once to run many times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from cnncore.geometry import Pair, Window2d
from cnncore.kernels import conv2d, conv_transpose2d, dispatch, native
from cnncore.kernels.epilogue import Epilogue

Array = Any


class Prepared(Protocol):
    """What ``prepare`` gives."""

    @property
    def nbytes(self) -> int:
        """Memory that the weights take in the form they are kept in."""

    def run(self, x: Array, residual: Array | None, out: Array) -> None:
        """``out = f(conv(x) + bias + residual)``; ``out`` shares no memory with the others."""


def prepare(
    weight: Array,
    bias: Array | None,
    shape: tuple[int, int, int, int],
    window: Window2d,
    groups: int = 1,
    size: Pair | None = None,
    activation: str = "",
    params: Sequence[float] = (),
) -> Prepared:
    """``conv2d`` (or, where ``size`` is given, ``conv_transpose2d``) for inputs of one shape.

    The native backend packs the weights now, others keep them as they are.  Later changes of
    ``weight`` have no effect.

    >>> import numpy as np
    >>> layer = prepare(np.ones((1, 1, 1, 1)), np.ones(1), (1, 1, 1, 2), Window2d((1, 1)))
    >>> out = np.empty((1, 1, 1, 2))
    >>> layer.run(np.array([[[[1.0, 2.0]]]]), None, out)
    >>> out
    array([[[[2., 3.]]]])
    """
    settings = (weight, bias, shape, window, groups, size, activation, params)
    if dispatch.resolve("conv2d")[0] == "native":
        return native.prepare_convolution(*settings)  # type: ignore[no-any-return]
    return _Plain(*settings)


class _Plain:
    """Nothing prepared: the public kernel and a copy."""

    def __init__(
        self,
        weight: Array,
        bias: Array | None,
        shape: tuple[int, ...],
        window: Window2d,
        groups: int,
        size: Pair | None,
        activation: str,
        params: Sequence[float],
    ) -> None:
        self.weight, self.bias = weight.copy(), None if bias is None else bias.copy()
        self.window, self.groups, self.size = window, groups, size
        self.activation, self.params = activation, tuple(params)
        self.nbytes = int(weight.nbytes) + (0 if bias is None else int(bias.nbytes))

    def run(self, x: Array, residual: Array | None, out: Array) -> None:
        epilogue = Epilogue(residual, self.activation, self.params)
        if self.size is None:
            out[...] = conv2d(
                x, self.weight, self.bias, self.window, self.groups, epilogue=epilogue
            )
        else:
            out[...] = conv_transpose2d(
                x, self.weight, self.bias, self.size, self.window, self.groups, epilogue=epilogue
            )
