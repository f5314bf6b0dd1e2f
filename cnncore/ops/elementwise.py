"""Arithmetic element by element, with broadcasting.

These small ops are the hot path of a training loop, so they check little and keep little: a product
keeps an operand only if the other one wants a gradient.  Python numbers take the tensor's type; two
tensors of different types are refused, because a silent conversion hides an error in one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cnncore import kernels
from cnncore.autograd import Function, Tensor
from cnncore.autograd.tensor import to_device
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.kernels.checks.arrays import same_device
from cnncore.kernels.dispatch import array_module
from cnncore.ops.arguments import as_tensor, float_tensor
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.shape import sum_to

Array = Any
Gradients = tuple[Tensor | None, ...]


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Two operands as tensors of one element type; a number takes the type of the other."""
    if not isinstance(x, Tensor):
        x = as_tensor("x", x, y if isinstance(y, Tensor) else None)
    if not isinstance(y, Tensor):
        y = as_tensor("y", y, x)
    if x.data.dtype != y.data.dtype:
        raise DTypeError(
            "y", f"the element type of x ({x.dtype})", str(y.dtype), f".to({str(x.dtype)!r})"
        )
    return x, y


def _float_pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    x, y = _pair(x, y)
    if x.data.dtype.kind != "f":
        raise DTypeError("x", "float32 or float64", str(x.dtype), ".to('float32')")
    return x, y


class _Binary(Function):
    """What ops of two broadcast operands share: their shapes, and an error that names them."""

    def _ufunc(self, name: str, x: Array, y: Array) -> Array:
        self.operands = x.shape, y.shape
        try:
            return kernels.ufunc(name, x, y)
        except ArgumentError:
            raise
        except ValueError:
            raise ShapeError(
                "y", f"a shape that broadcasts with x {x.shape}", y.shape, "reshape or unsqueeze"
            ) from None

    def _fit(self, gx: Tensor | None, gy: Tensor | None) -> Gradients:
        shape_x, shape_y = self.operands
        return (
            None if gx is None else sum_to(gx, shape_x),
            None if gy is None else sum_to(gy, shape_y),
        )


class Add(_Binary):
    """``x + y``.  Keeps nothing."""

    def forward(self, x: Array, y: Array) -> Array:
        return self._ufunc("add", x, y)

    def backward(self, gz: Tensor) -> Gradients:
        return self._fit(gz if self.needs[0] else None, gz if self.needs[1] else None)


class Sub(_Binary):
    """``x − y``.  Keeps nothing."""

    def forward(self, x: Array, y: Array) -> Array:
        return self._ufunc("subtract", x, y)

    def backward(self, gz: Tensor) -> Gradients:
        return self._fit(gz if self.needs[0] else None, neg(gz) if self.needs[1] else None)


class Mul(_Binary):
    """``x · y``.  Keeps each operand only if the other wants a gradient."""

    def forward(self, x: Array, y: Array) -> Array:
        self.keep_input(0 if self.needs[1] else None, 1 if self.needs[0] else None)
        return self._ufunc("multiply", x, y)

    def backward(self, gz: Tensor) -> Gradients:
        x, y = self.kept()
        return self._fit(
            mul(gz, y) if self.needs[0] else None, mul(gz, x) if self.needs[1] else None
        )


class Div(_Binary):
    """``x / y``.  Keeps y, and x if y wants a gradient."""

    def forward(self, x: Array, y: Array) -> Array:
        self.keep_input(0 if self.needs[1] else None, 1)
        return self._ufunc("divide", x, y)

    def backward(self, gz: Tensor) -> Gradients:
        x, y = self.kept()
        gx = div(gz, y)
        return self._fit(
            gx if self.needs[0] else None, neg(mul(gx, div(x, y))) if self.needs[1] else None
        )


class Pow(_Binary):
    """``x ** y``.  Keeps both operands.

    Where the exponent is 0 the base has gradient 0 (not 0·inf), and where base is 0 and exponent
    >= 0 the exponent has gradient 0, as in PyTorch.
    """

    def forward(self, x: Array, y: Array) -> Array:
        self.keep_input(0, 1)
        return self._ufunc("power", x, y)

    def backward(self, gz: Tensor) -> Gradients:
        x, y = self.kept()
        gx = gy = None
        if self.needs[0]:
            slope = mul(gz, mul(y, pow(x, sub(y, 1.0))))
            gx = slope if bool((y.data != 0).all()) else where(y.data == 0, 0.0, slope)
        if self.needs[1]:
            flat = (x.data == 0) & (y.data >= 0)
            logarithm = log(where(flat, 1.0, x))
            gy = mul(gz, where(flat, 0.0, mul(pow(x, y), logarithm)))
        return self._fit(gx, gy)


class Extremum(_Binary):
    """``maximum`` or ``minimum``; NaN wins; at a tie each operand takes half the gradient.

    Keeps the share of x (0, 1/2 or 1 per element).
    """

    def __init__(self, ufunc: str) -> None:
        self.ufunc = ufunc

    @property
    def name(self) -> str:
        return self.ufunc.capitalize()

    def forward(self, x: Array, y: Array) -> Array:
        z = self._ufunc(self.ufunc, x, y)
        if True in self.needs:
            wins = x > y if self.ufunc == "maximum" else x < y
            self.keep((wins + (x == y) * 0.5).astype(z.dtype))
        return z

    def backward(self, gz: Tensor) -> Gradients:
        (share,) = self.kept()
        return self._fit(
            mul(gz, Tensor(share)) if self.needs[0] else None,
            mul(gz, Tensor(1 - share)) if self.needs[1] else None,
        )


def add(x: Any, y: Any) -> Tensor:
    """``x + y``, broadcast.  Keeps nothing.

    >>> from cnncore import tensor
    >>> add(tensor([1.0, 2.0]), 1).numpy()
    array([2., 3.], dtype=float32)
    """
    return Add()(*_pair(x, y))  # type: ignore[no-any-return]


def sub(x: Any, y: Any) -> Tensor:
    """``x − y``, broadcast.  Keeps nothing."""
    return Sub()(*_pair(x, y))  # type: ignore[no-any-return]


def mul(x: Any, y: Any) -> Tensor:
    """``x · y``, broadcast.  Keeps each operand only if the other wants a gradient."""
    return Mul()(*_pair(x, y))  # type: ignore[no-any-return]


def div(x: Any, y: Any) -> Tensor:
    """``x / y``, broadcast, floating types only.  Keeps y, and x if y wants a gradient."""
    return Div()(*_float_pair(x, y))  # type: ignore[no-any-return]


def pow(x: Any, y: Any) -> Tensor:
    """``x ** y``, broadcast, floating types only.  Keeps both.

    >>> from cnncore import tensor
    >>> pow(tensor([1.0, 2.0, 3.0]), 2).numpy()
    array([1., 4., 9.], dtype=float32)
    """
    return Pow()(*_float_pair(x, y))  # type: ignore[no-any-return]


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of x and y, broadcast; NaN wins; a tie shares the gradient equally."""
    return Extremum("maximum")(*_pair(x, y))  # type: ignore[no-any-return]


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of x and y, broadcast; NaN wins; a tie shares the gradient equally."""
    return Extremum("minimum")(*_pair(x, y))  # type: ignore[no-any-return]


# --- one operand ----------------------------------------------------------------------------------


class _Rule(NamedTuple):
    """A function's derivative: what it needs (the input or the output) and how it uses it."""

    keeps_output: bool
    backward: Callable[[Tensor, Tensor], Tensor]  # (gy, what was kept) -> gx


RULES: dict[str, _Rule] = {
    "exp": _Rule(True, lambda gy, y: mul(gy, y)),
    "log": _Rule(False, lambda gy, x: div(gy, x)),
    "sqrt": _Rule(True, lambda gy, y: div(gy, mul(y, 2.0))),
    "sin": _Rule(False, lambda gy, x: mul(gy, cos(x))),
    "cos": _Rule(False, lambda gy, x: neg(mul(gy, sin(x)))),
    "tan": _Rule(True, lambda gy, y: mul(gy, add(mul(y, y), 1.0))),
    "sinh": _Rule(False, lambda gy, x: mul(gy, Unary("cosh")(x))),
    "cosh": _Rule(False, lambda gy, x: mul(gy, Unary("sinh")(x))),
    "arcsin": _Rule(False, lambda gy, x: div(gy, sqrt(sub(1.0, mul(x, x))))),
    "arccos": _Rule(False, lambda gy, x: neg(div(gy, sqrt(sub(1.0, mul(x, x)))))),
    "arctan": _Rule(False, lambda gy, x: div(gy, add(mul(x, x), 1.0))),
    "arcsinh": _Rule(False, lambda gy, x: div(gy, sqrt(add(mul(x, x), 1.0)))),
    "arccosh": _Rule(False, lambda gy, x: div(gy, sqrt(sub(mul(x, x), 1.0)))),
    "arctanh": _Rule(False, lambda gy, x: div(gy, sub(1.0, mul(x, x)))),
    "absolute": _Rule(False, lambda gy, x: mul(gy, Tensor(kernels.ufunc("sign", x.data)))),
}


class Unary(Function):
    """One of the functions of ``RULES``.  Keeps its input or its output, as the rule says."""

    def __init__(self, ufunc: str) -> None:
        self.ufunc, self.rule = ufunc, RULES[ufunc]

    @property
    def name(self) -> str:
        return self.ufunc.capitalize()

    def forward(self, x: Array) -> Array:
        (self.keep_output if self.rule.keeps_output else self.keep_input)(0)
        return kernels.ufunc(self.ufunc, x)

    def backward(self, gy: Tensor) -> tuple[Tensor]:
        (kept,) = self.kept()
        return (self.rule.backward(gy, kept),)


def exp(x: Any) -> Tensor:
    """``eˣ``.  Keeps its result."""
    return Unary("exp")(float_tensor("x", x))  # type: ignore[no-any-return]


def log(x: Any) -> Tensor:
    """The natural logarithm; −inf at 0, NaN below.  Keeps x."""
    return Unary("log")(float_tensor("x", x))  # type: ignore[no-any-return]


def sqrt(x: Any) -> Tensor:
    """The square root; NaN below 0; its derivative at 0 is infinite.  Keeps its result."""
    return Unary("sqrt")(float_tensor("x", x))  # type: ignore[no-any-return]


def sin(x: Any) -> Tensor:
    """The sine.  Keeps x."""
    return Unary("sin")(float_tensor("x", x))  # type: ignore[no-any-return]


def cos(x: Any) -> Tensor:
    """The cosine.  Keeps x."""
    return Unary("cos")(float_tensor("x", x))  # type: ignore[no-any-return]


def abs(x: Any) -> Tensor:
    """``|x|``, with derivative 0 at 0.  Keeps x.

    >>> from cnncore import tensor
    >>> abs(tensor([-1.0, 2.0])).numpy()
    array([1., 2.], dtype=float32)
    """
    return Unary("absolute")(as_tensor("x", x))  # type: ignore[no-any-return]


def _negative(x: Array) -> Array:
    return kernels.ufunc("negative", x)


_NEG = LinearMap("Neg", "Neg", _negative, _negative)


def neg(x: Any) -> Tensor:
    """``−x``: linear, its own transpose.  Keeps nothing."""
    return apply(_NEG, as_tensor("x", x))


def to(x: Any, target: Any) -> Tensor:
    """Move to ``"cpu"`` or ``"cuda"``, or convert to an element type; gradients travel back.

    >>> from cnncore import tensor
    >>> to(tensor([1.0]), "float64").dtype
    dtype('float64')
    """
    x = as_tensor("x", x)
    if target in ("cpu", "cuda"):
        device = x.device
        if target == device:
            return x  # type: ignore[no-any-return]
        move = LinearMap("To", "To", lambda a: to_device(a, target), lambda g: to_device(g, device))
        return apply(move, x)
    try:
        wanted, present = np.dtype(target), x.dtype
    except TypeError:
        raise ArgumentError("target", '"cpu", "cuda" or an element type', repr(target)) from None
    if wanted.kind not in "fiub":
        raise DTypeError("target", "an element type for numbers", str(wanted))
    if wanted == present:
        return x  # type: ignore[no-any-return]
    return apply(LinearMap("To", "To", lambda a: a.astype(wanted), lambda g: g.astype(present)), x)


# --- choosing -------------------------------------------------------------------------------------


class Where(Function):
    """``x`` where the condition holds, ``y`` elsewhere.  Keeps the condition.

    The gradient is chosen, not multiplied by 0 and 1: an Inf on the other side cannot leak.
    """

    def __init__(self, condition: Array) -> None:
        self.condition = condition

    def forward(self, x: Array, y: Array) -> Array:
        self.operands = x.shape, y.shape
        self.keep(self.condition)
        return array_module(x).where(self.condition, x, y)

    def backward(self, gz: Tensor) -> Gradients:
        (condition,) = self.kept()
        shape_x, shape_y = self.operands
        return (
            sum_to(where(condition, gz, 0.0), shape_x) if self.needs[0] else None,
            sum_to(where(condition, 0.0, gz), shape_y) if self.needs[1] else None,
        )


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where ``condition`` (booleans, an array or tensor) holds, else ``y``; all broadcast.

    >>> from cnncore import tensor
    >>> x = tensor([-1.0, 4.0])
    >>> where(x > 0, x, 0.0).numpy()
    array([0., 4.], dtype=float32)
    """
    x, y = _pair(x, y)
    chosen = condition.data if isinstance(condition, Tensor) else condition
    if not hasattr(chosen, "dtype") or isinstance(chosen, np.generic):
        chosen = array_module(x.data).asarray(chosen)
    if chosen.dtype.kind != "b":
        raise DTypeError("condition", "booleans", str(chosen.dtype), "condition != 0")
    same_device(("x", "y", "condition"), (x.data, y.data, chosen))
    try:
        return Where(chosen)(x, y)  # type: ignore[no-any-return]
    except ArgumentError:
        raise
    except ValueError:
        raise ShapeError(
            "condition", f"shapes that broadcast with x {x.shape} and y {y.shape}", chosen.shape
        ) from None


class Clamp(Function):
    """``min(max(x, low), high)``.  Keeps which elements lie inside (ends included)."""

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low, self.high = low, high

    def forward(self, x: Array) -> Array:
        xp, y = array_module(x), x
        if self.low is not None:
            y = kernels.ufunc("maximum", y, xp.asarray(self.low, x.dtype))
        if self.high is not None:
            y = kernels.ufunc("minimum", y, xp.asarray(self.high, x.dtype))
        if self.needs[0]:
            self.keep(y == x)
        return y

    def backward(self, gy: Tensor) -> tuple[Tensor]:
        (inside,) = self.kept()
        return (where(inside, gy, 0.0),)


def clamp(x: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """``x`` limited to ``[min, max]`` (numbers; None: no limit); derivative 1 from end to end.

    For limits that are tensors use ``maximum`` and ``minimum``.

    >>> from cnncore import tensor
    >>> clamp(tensor([-2.0, 0.5, 2.0]), -1.0, 1.0).numpy()
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    x = as_tensor("x", x)
    for name, limit in (("min", min), ("max", max)):
        if limit is not None and not isinstance(limit, (int, float, np.number)):
            raise ArgumentError(name, "a number or None", type(limit).__name__, "ops.maximum")
    if min is None and max is None:
        raise ArgumentError("min", "min or max", "neither")
    return Clamp(min, max)(x)  # type: ignore[no-any-return]


# --- comparisons: plain tensors of booleans, outside the graph ------------------------------------


def _comparison(name: str, ufunc: str, sign: str) -> Callable[[Any, Any], Tensor]:
    def compare(x: Any, y: Any) -> Tensor:
        x, y = _pair(x, y)
        try:
            return Tensor(kernels.ufunc(ufunc, x.data, y.data))
        except ArgumentError:
            raise
        except ValueError:
            raise ShapeError(
                "y", f"a shape that broadcasts with x {x.shape}", y.shape, "reshape"
            ) from None

    compare.__name__ = compare.__qualname__ = name
    compare.__doc__ = f"``x {sign} y`` element by element, as a tensor of booleans."
    return compare


lt = _comparison("lt", "less", "<")
le = _comparison("le", "less_equal", "<=")
gt = _comparison("gt", "greater", ">")
ge = _comparison("ge", "greater_equal", ">=")
eq = _comparison("eq", "equal", "==")
