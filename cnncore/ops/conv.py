"""Convolution, its transpose, and its gradient towards the weight: closed under differentiation.

For a fixed weight a convolution is a matrix ``A`` (row = output pixel, column = input pixel).  Its
gradient towards the input is ``Aᵀ gy``, and ``Aᵀ`` used forwards is the transposed convolution: in
this file they are the same op.  Three kernels map any two of (input, output, weight) to the third,
and each derivative of one is another:

    Conv2d          x, weight  -> y
    ConvTranspose2d y, weight  -> x
    Conv2dWeight    x, gy      -> weight
"""

from __future__ import annotations

from typing import Any

from cnncore import kernels
from cnncore.autograd import Function, Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import Pair, Window2d, as_int, as_pair
from cnncore.kernels.contract import CONV_ALGORITHMS
from cnncore.ops.arguments import float_tensor
from cnncore.ops.linear import LinearMap, apply

Array = Any


class _Convolution(Function):
    """What the three share: the window, the channel groups and the algorithm."""

    def __init__(self, window: Window2d, groups: int, algorithm: str) -> None:
        self.window, self.groups, self.algorithm = window, groups, algorithm

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return Conv2d(self.window, self.groups, self.algorithm)(x, weight, None)  # type: ignore[no-any-return]

    def _transpose(self, y: Tensor, weight: Tensor, size: Pair) -> Tensor:
        return ConvTranspose2d(size, self.window, self.groups, self.algorithm)(y, weight, None)  # type: ignore[no-any-return]

    def _weight(self, x: Tensor, gy: Tensor) -> Tensor:
        return Conv2dWeight(self.window, self.groups, self.algorithm)(x, gy)  # type: ignore[no-any-return]


class Conv2d(_Convolution):
    """``y = A(weight) x + bias``.  Keeps x for gweight, the weight for gx."""

    def forward(self, x: Array, weight: Array, bias: Array | None) -> Array:
        self.keep_input(0 if self.needs[1] else None, 1 if self.needs[0] else None)
        self.size: Pair = x.shape[2:]
        return kernels.conv2d(x, weight, bias, self.window, self.groups, self.algorithm)

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = self.kept()
        gx = self._transpose(gy, weight, self.size) if self.needs[0] else None
        gweight = self._weight(x, gy) if self.needs[1] else None
        gbias = gy.sum((0, 2, 3)) if self.needs[2] else None
        return gx, gweight, gbias


class ConvTranspose2d(_Convolution):
    """``x = A(weight)ᵀ y + bias``: the transpose of ``Conv2d`` on an input plane of ``size``."""

    def __init__(self, size: Pair, window: Window2d, groups: int, algorithm: str) -> None:
        super().__init__(window, groups, algorithm)
        self.size = size

    def forward(self, y: Array, weight: Array, bias: Array | None) -> Array:
        self.keep_input(0 if self.needs[1] else None, 1 if self.needs[0] else None)
        return kernels.conv_transpose2d(
            y, weight, bias, self.size, self.window, self.groups, self.algorithm
        )

    def backward(self, gx: Tensor) -> tuple[Tensor | None, ...]:
        y, weight = self.kept()
        gy = self._convolve(gx, weight) if self.needs[0] else None
        gweight = self._weight(gx, y) if self.needs[1] else None
        gbias = gx.sum((0, 2, 3)) if self.needs[2] else None
        return gy, gweight, gbias


class Conv2dWeight(_Convolution):
    """``gweight`` with ``<gweight, weight> = <A(weight) x, gy>`` for every weight: bilinear."""

    def forward(self, x: Array, gy: Array) -> Array:
        self.keep_input(0 if self.needs[1] else None, 1 if self.needs[0] else None)
        self.size: Pair = x.shape[2:]
        return kernels.conv2d_weight(x, gy, self.window, self.groups, self.algorithm)

    def backward(self, gweight: Tensor) -> tuple[Tensor | None, ...]:
        x, gy = self.kept()
        gx = self._transpose(gy, gweight, self.size) if self.needs[0] else None
        ggy = self._convolve(x, gweight) if self.needs[1] else None
        return gx, ggy


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> Tensor:
    """Slide ``weight`` over ``x``: the cross-correlation that deep learning calls convolution.

    ``y[n, o, i, j] = bias[o] + Σ_{c,u,v} weight[o, c, u, v] · x[n, c, h, w]`` with
    ``h = i·sh + u·dh − top``, ``w = j·sw + v·dw − left`` and zeros outside the plane.

    Shapes: x ``(N, C, H, W)``, weight ``(O, C/groups, KH, KW)``, bias ``(O,)``; result
    ``(N, O, OH, OW)``, ``OH = floor((H + top + bottom − dh·(KH−1) − 1)/sh) + 1``; float32 or
    float64.
    ``padding``: ``p``, ``(ph, pw)``, ``((top, bottom), (left, right))``, ``"same"`` (stride 1) or
    ``"valid"``.  ``algorithm``: one of ``kernels.contract.CONV_ALGORITHMS``.

    Kept for backward: x if the weight wants a gradient, the weight if x does.

    Errors: ``ArgumentError`` naming the argument for wrong ranks, types, channels, sizes.

    >>> from cnncore import tensor
    >>> x = tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    >>> conv2d(x, tensor([[[[1.0, 0.0], [0.0, -1.0]]]])).numpy()[0, 0]
    array([[-4., -4.],
           [-4., -4.]], dtype=float32)

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, II-A;
    sizes as in Dumoulin & Visin, "A guide to convolution arithmetic", 2016.
    """
    x, weight = float_tensor("x", x, 4), float_tensor("weight", weight, 4)
    bias = None if bias is None else float_tensor("bias", bias, 1)
    window = _window(weight, stride, padding, dilation)
    return Conv2d(window, as_int("groups", groups, 1), _algorithm(algorithm))(x, weight, bias)  # type: ignore[no-any-return]


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    output_size: Any = None,
    algorithm: str = "auto",
) -> Tensor:
    """The transpose of ``conv2d``, used forwards: x is spread through weight over a larger plane.

    If ``A`` is the matrix of ``conv2d(·, weight, stride, …)``, this is ``Aᵀ x``.

    Shapes: x ``(N, O, OH, OW)``, weight ``(O, C/groups, KH, KW)``, bias ``(C,)``; result
    ``(N, C, H, W)``, ``H = (OH − 1)·sh − top − bottom + dh·(KH − 1) + 1 + output_padding``.
    Several H give the same OH;
    ``output_padding`` (smaller than the stride; PyTorch also takes what is smaller than the
    dilation, which adds rows that no window reaches) or ``output_size`` chooses one, and the error
    of a wrong ``output_size`` lists the candidates.

    Kept for backward: x if the weight wants a gradient, the weight if x does.

    >>> from cnncore import tensor
    >>> one = tensor([[[[1.0]]]])
    >>> conv_transpose2d(one, tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), stride=2).numpy()[0, 0]
    array([[1., 2.],
           [3., 4.]], dtype=float32)

    Source: Dumoulin & Visin, "A guide to convolution arithmetic", 2016, chapter 4;
    Long, Shelhamer & Darrell, "Fully convolutional networks", 2015, 3.3.
    """
    x, weight = float_tensor("x", x, 4), float_tensor("weight", weight, 4)
    bias = None if bias is None else float_tensor("bias", bias, 1)
    window = _window(weight, stride, padding, dilation)
    plane: Pair = x.shape[2:]
    if output_size is not None:
        size = window.resolve_output_size(plane, output_size)
    else:
        extra = as_pair("output_padding", output_padding, 0)
        for axis in (0, 1):
            if extra[axis] >= window.stride[axis]:
                raise ArgumentError(
                    "output_padding", f"less than the stride ({window.stride[axis]})", extra[axis]
                )
        size = window.transposed_size(plane, extra)
    if min(size) < 1:
        raise ShapeError("x", "a plane whose transposed size is at least 1", size, "less padding")
    return ConvTranspose2d(size, window, as_int("groups", groups, 1), _algorithm(algorithm))(  # type: ignore[no-any-return]
        x, weight, bias
    )


def unfold(
    x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Every window of ``x`` as a column (im2col): ``(N, C, H, W) -> (N, C·KH·KW, OH·OW)``.

    Rows in the order (c, kh, kw): ``weight.reshape(O, -1) @ unfold(x)`` is ``conv2d(x, weight)``.
    Linear; its transpose is ``fold``.  Keeps nothing.

    >>> from cnncore import tensor
    >>> unfold(tensor([[[[1.0, 2.0, 3.0]]]]), (1, 2)).numpy()[0]
    array([[1., 2.],
           [2., 3.]], dtype=float32)
    """
    x = float_tensor("x", x, 4)
    window = Window2d.make(kernel_size, stride, padding, dilation)
    size: Pair = x.shape[2:]
    return apply(_im2col_map(window, size), x)


def fold(
    cols: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Add columns back to where their windows lie (col2im): the transpose of ``unfold``.

    ``(N, C·KH·KW, OH·OW) -> (N, C, *output_size)``; overlapping windows add up.

    >>> from cnncore import tensor
    >>> fold(unfold(tensor([[[[1.0, 2.0, 3.0]]]]), (1, 2)), (1, 3), (1, 2)).numpy()[0, 0]
    array([[1., 4., 3.]], dtype=float32)
    """
    cols = float_tensor("cols", cols, 3)
    window = Window2d.make(kernel_size, stride, padding, dilation)
    size = as_pair("output_size", output_size, 1)
    return apply(_im2col_map(window, size).T, cols)


im2col, col2im = unfold, fold


def _im2col_map(window: Window2d, size: Pair) -> LinearMap:
    return LinearMap(
        "Im2col",
        "Col2im",
        lambda x: kernels.im2col(x, window),
        lambda cols: kernels.col2im(cols, size, window),
    )


def _window(weight: Tensor, stride: Any, padding: Any, dilation: Any) -> Window2d:
    if 0 in weight.shape:
        raise ShapeError("weight", "no empty axis", weight.shape, "at least one filter of 1x1")
    return Window2d.make(weight.shape[2:], stride, padding, dilation)


def _algorithm(name: str) -> str:
    if name not in CONV_ALGORITHMS:
        raise ArgumentError("algorithm", f"one of {CONV_ALGORITHMS}", repr(name))
    return name
