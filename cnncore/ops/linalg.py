"""Matrix products.  The two gradients of a product are products with a transpose."""

from __future__ import annotations

from typing import Any

from cnncore import kernels
from cnncore.autograd import Function, Tensor, events
from cnncore.errors import DTypeError, ShapeError
from cnncore.ops.arguments import float_tensor
from cnncore.ops.elementwise import add
from cnncore.ops.reduce import sum
from cnncore.ops.shape import flatten, squeeze, sum_to, transpose, unsqueeze

Array = Any


class MatMul(Function):
    """``a @ b``.  Keeps each factor only if the other wants a gradient."""

    def forward(self, a: Array, b: Array) -> Array:
        self.keep_input(0 if self.needs[1] else None, 1 if self.needs[0] else None)
        self.operands = a.shape, b.shape
        self.by_columns = self.needs[1] and _by_columns(b)
        return kernels.matmul(a, b)

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        a, b = self.kept()
        shape_a, shape_b = self.operands
        ga = gb = None
        if self.needs[0]:
            ga = sum_to(matmul(gy, transpose(b)), shape_a)
        if self.needs[1] and self.by_columns:
            gb = sum_to(transpose(matmul(transpose(gy), a)), shape_b)
        elif self.needs[1]:
            gb = sum_to(matmul(transpose(a), gy), shape_b)
        return ga, gb


def _by_columns(b: Array) -> bool:
    """Whether a matrix is stored column by column, as the transposed weight of a dense layer is.

    Its gradient is then computed in the same order: transposed back it is contiguous, and becomes
    the weight's gradient without a copy (400 MB in the first dense layer of VGG-16).
    """
    return b.ndim == 2 and b.flags.f_contiguous and not b.flags.c_contiguous


def matmul(a: Any, b: Any) -> Tensor:
    """``a @ b``: ``(…, M, L) @ (…, L, N) -> (…, M, N)``, leading axes broadcast.

    A vector is a row on the left, a column on the right, and its axis disappears again.  Keeps each
    factor only if the other wants a gradient.

    >>> from cnncore import tensor
    >>> matmul(tensor([[1.0, 2.0]]), tensor([[3.0], [4.0]])).numpy()
    array([[11.]], dtype=float32)
    """
    a, b = float_tensor("a", a), float_tensor("b", b)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError("a" if a.ndim == 0 else "b", "at least one axis", "()", "use mul")
    left = unsqueeze(a, 0) if a.ndim == 1 else a
    right = unsqueeze(b, 1) if b.ndim == 1 else b
    y: Tensor = MatMul()(left, right)
    if a.ndim == 1:
        y = squeeze(y, -2)
    return squeeze(y, -1) if b.ndim == 1 else y


class Dense(Function):
    """``x · weightᵀ + bias`` of a matrix x as one op instead of three.

    Keeps x and the weight, each only if the other wants a gradient.
    """

    def forward(self, x: Array, weight: Array, bias: Array | None) -> Array:
        self.keep_input(0 if self.needs[1] else None, 1 if self.needs[0] else None)
        y = kernels.matmul(x, weight.T)
        return y if bias is None else kernels.ufunc("add", y, bias)

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = self.kept()
        return (
            matmul(gy, weight) if self.needs[0] else None,
            matmul(transpose(gy), x) if self.needs[1] else None,
            sum(gy, 0) if self.needs[2] else None,
        )


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """``y = x · weightᵀ + bias``: a fully connected layer.

    Shapes: x ``(…, I)``, weight ``(O, I)``, bias ``(O,)`` or None; result ``(…, O)``.  Keeps x and
    the weight, each only if the other wants a gradient.  One op; those who observe every layer see
    a transpose, a product and a sum.

    >>> from cnncore import tensor
    >>> linear(tensor([[1.0, 2.0]]), tensor([[3.0, 4.0]]), tensor([0.5])).numpy()
    array([[11.5]], dtype=float32)
    """
    x, weight = float_tensor("x", x), float_tensor("weight", weight, 2)
    features = weight.shape[1]
    if x.ndim == 0 or x.shape[-1] != features:
        raise ShapeError("x", f"shape (…, {features}) for weight {weight.shape}", x.shape)
    if bias is not None:
        bias = float_tensor("bias", bias, 1)
        if bias.shape != (weight.shape[0],):
            raise ShapeError("bias", f"shape ({weight.shape[0]},)", bias.shape)
        if bias.dtype != x.dtype:
            raise DTypeError("bias", f"the element type of x ({x.dtype})", str(bias.dtype))
    rows = flatten(x, 0, -2) if x.ndim > 2 else x
    if x.ndim > 1 and not events.layer_by_layer():
        y: Tensor = Dense()(rows, weight, bias)
    else:
        y = matmul(rows, transpose(weight))
        y = y if bias is None else add(y, bias)
    return y.reshape(*x.shape[:-1], weight.shape[0]) if x.ndim > 2 else y
