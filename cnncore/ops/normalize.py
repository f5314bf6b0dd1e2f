"""The mechanism of batch, layer, group and instance norm, and its derivatives.

All four subtract a mean and divide by a deviation; they differ only in which elements share them.
Every input is seen as rows ``(N, G, M, I)`` of I adjacent elements, whose statistics are joined
over N (batch norm) or over M (the others).

    op              N G M I                        joined over
    batch_norm      N C 1 H·W                      N
    instance_norm   N C 1 H·W                      nothing
    group_norm      N groups C/groups H·W          M
    layer_norm      rows 1 1 elements              nothing
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.autograd import Function, Tensor, is_grad_enabled
from cnncore.kernels.dispatch import array_module
from cnncore.kernels.epilogue import Epilogue, Gate
from cnncore.ops.activation import Pointwise
from cnncore.ops.elementwise import add, mul, neg, pow, sub
from cnncore.ops.reduce import sum
from cnncore.ops.shape import reshape

Array = Any
Gradients = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Rows:
    """An input as rows ``(N, G, M, I)``, statistics joined over axis 0 or 2 of ``(N, G, M)``."""

    shape: tuple[int, int, int, int]
    joined: int
    # Mean and 1/deviation of each group given from outside (running statistics), or None.
    fixed: tuple[Array, Array] | None = None

    @property
    def count(self) -> int:
        """Elements that share one mean."""
        return self.shape[self.joined] * self.shape[3]

    def spread(self, groups: Array, like: Array) -> Array:
        """Values per group or per channel, as one per row in the type of ``like``: ``(R,)``."""
        wide = array_module(like).broadcast_to(groups, self.shape[:3])
        return wide.astype(like.dtype).reshape(-1)

    def per_channel(self, values: Array) -> Array:
        """``(C,)`` as ``(1, G, M)``, in float64."""
        return values.reshape(1, self.shape[1], self.shape[2]).astype(np.float64)

    @property
    def groups(self) -> tuple[int, int, int]:
        """Shape of one number a group: ``(1, G, M)`` or ``(N, G, 1)``."""
        N, G, M, _ = self.shape
        return (1, G, M) if self.joined == 0 else (N, G, 1)


class Normalize(Function):
    """``y = f(weight · (x − mean) · rstd + bias + residual)``, rows as ``Rows`` says.

    The activation f is one of ``OUTPUT_TELLS`` without parameters, "" for none; the residual has
    the shape of x.  Keeps x, the weight, the mean and rstd
    of every group, and with an activation y, which the next layer keeps anyway.
    """

    def __init__(self, rows: Rows, eps: float, activation: str = "") -> None:
        self.rows, self.eps, self.activation = rows, eps, activation

    @property
    def name(self) -> str:
        return "Normalize" + self.activation.capitalize()

    def forward(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        residual: Array | None = None,
    ) -> Array:
        rows, rank4 = self.rows, x.reshape(self.rows.shape)
        if rows.fixed is None:
            ending = self._ending(residual, rows.shape)
            y, mean, variance = kernels.normalize(
                rank4, weight, bias, rows.joined, self.eps, ending
            )
            self.mean, self.variance = mean, variance
            rstd = 1.0 / array_module(x).sqrt(variance + self.eps)
        else:
            mean, rstd = rows.fixed
            a = rstd if weight is None else rstd * rows.per_channel(weight)
            b = -mean * a if bias is None else rows.per_channel(bias) - mean * a
            flat = x.reshape(-1, rows.shape[3])
            ending = self._ending(residual, flat.shape)
            y = kernels.row_linear(flat, rows.spread(a, x), rows.spread(b, x), ending)
        self.keep_input(0, None if weight is None else 1)
        if self.activation:
            self.keep_output(0)
        self.keep(mean, rstd)
        return y.reshape(x.shape)

    def _ending(self, residual: Array | None, shape: tuple[int, ...]) -> Epilogue | None:
        if residual is None and not self.activation:
            return None
        return Epilogue(None if residual is None else residual.reshape(shape), self.activation)

    def backward(self, gy: Tensor) -> Gradients:
        """The activation's part is left to ``NormalizeBackward`` where nobody else asks for it.

        A residual does, and so does a graph of this backward pass, which needs it as an op.
        """
        x, weight, *result, mean, rstd = self.kept()
        residual = len(self.needs) == 4 and self.needs[3]
        gate = None
        if self.activation and (residual or is_grad_enabled()):
            gy = Pointwise(self.activation, (), 1)(result[0], gy)
        elif self.activation:
            gate = Gate(result[0].data.reshape(self.rows.shape), self.activation)
        further = NormalizeBackward(self.rows, self.eps, mean, rstd, gate)
        gx, gweight, gbias = further(gy, x, weight)
        return (gx, gweight, gbias, gy if residual else None)[: len(self.needs)]


class NormalizeBackward(Function):
    """The gradients of ``Normalize`` towards x, weight and bias, in two passes over the rows.

    With ``x̂ = (x − mean)·rstd``, ``g = weight·gy`` and ``M`` the mean over a group:
    ``gx = rstd · (g − M(g) − x̂·M(g·x̂))``, without the means if the statistics were fixed;
    ``gweight = Σ gy·x̂``, ``gbias = Σ gy``.  Keeps gy, x and the weight.  A ``gate`` is applied to
    gy first; with one there is no second derivative.
    """

    def __init__(
        self, rows: Rows, eps: float, mean: Array, rstd: Array, gate: Gate | None = None
    ) -> None:
        self.rows, self.eps, self.mean, self.rstd, self.gate = rows, eps, mean, rstd, gate

    def forward(self, gy: Array, x: Array, weight: Array | None) -> tuple[Array, Array, Array]:
        rows, mean, rstd = self.rows, self.mean, self.rstd
        self.keep_input(0, 1, None if weight is None else 2)
        fixed = rows.fixed is not None
        if fixed:  # one number a channel, also where groups are smaller than that
            xp = array_module(x)
            mean, rstd = (xp.broadcast_to(s, rows.groups) for s in (mean, rstd))
        pair = gy.reshape(rows.shape), x.reshape(rows.shape)
        gx, gweight, gbias = kernels.normalize_backward(
            *pair, weight, mean, rstd, rows.joined, fixed, self.gate
        )
        return gx.reshape(x.shape), gweight, gbias

    def backward(self, u: Tensor | None, v: Tensor | None, t: Tensor | None) -> Gradients:
        """Second derivatives: the cotangents are ``u`` of gx, ``v`` of gweight, ``t`` of gbias.

        ``L = <u, gx> + <v, gweight> + <t, gbias>``.  The projection ``T z = z − M z − x̂·M(z x̂)`` is
        symmetric and ``gx = rstd·T g``.  So L depends on gy through ``weight·rstd·T u + v x̂ + t``;
        on x through x̂, with ``h = ∂L/∂x̂``, and through rstd.
        """
        gy, x, weight = self.kept()
        shape = self.rows.shape
        gy, x = reshape(gy, shape), reshape(x, shape)
        u = None if u is None else reshape(u, shape)
        channels = (1, shape[1], shape[2], 1)
        w, v, t = (None if z is None else reshape(z, channels) for z in (weight, v, t))
        fixed = self.rows.fixed is not None
        mean, rstd = self._statistics(x)
        xhat = mul(sub(x, mean), rstd)
        m = self._group_mean

        def project(z: Tensor) -> Tensor:
            return z if fixed else sub(sub(z, m(z)), mul(xhat, m(mul(z, xhat))))

        ggy = gx = gweight = None
        h = None if v is None else mul(v, gy)
        if u is not None:
            tu = mul(rstd, project(u))
            ggy = tu if w is None else mul(w, tu)
            gweight = reshape(sum(mul(gy, tu), (0, 3)), -1)
            if not fixed:
                g = gy if w is None else mul(w, gy)
                ux, gx_mean = m(mul(u, xhat)), m(mul(g, xhat))
                turned = mul(rstd, add(mul(u, gx_mean), mul(g, ux)))
                h = neg(turned) if h is None else sub(h, turned)
                slope = sub(sub(m(mul(u, g)), mul(m(u), m(g))), mul(ux, gx_mean))
                gx = neg(mul(mul(rstd, rstd), mul(xhat, slope)))
        for part in (None if v is None else mul(v, xhat), t):
            ggy = part if ggy is None else ggy if part is None else add(ggy, part)
        if h is not None:
            through = mul(rstd, project(h))
            gx = through if gx is None else add(gx, through)
        flat = self.shapes[0]
        if ggy is not None:
            ggy = reshape(ggy if ggy.shape == shape else ggy.expand(shape), flat)
        return (
            ggy,
            None if gx is None else reshape(gx, flat),
            gweight if weight is not None else None,
        )

    def _group_mean(self, z: Tensor) -> Tensor:
        return mul(sum(z, (self.rows.joined, 3), True), 1.0 / self.rows.count)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and rstd as functions of x (for third derivatives), or the fixed ones."""
        if self.rows.fixed is not None:
            return Tensor(self.mean[..., None].astype(x.dtype)), Tensor(
                self.rstd[..., None].astype(x.dtype)
            )
        mean = self._group_mean(x)
        off = sub(x, mean)
        return mean, pow(add(self._group_mean(mul(off, off)), self.eps), -0.5)
