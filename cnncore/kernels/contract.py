"""What each kernel means.  Every backend implements these functions with these signatures.

Kernels are plain functions on arrays (NumPy or CuPy): no autograd, no layers.  A backend is a
module with functions of the same names; ``dispatch.py`` chooses one per call.  The bodies here are
empty: this file is the prose that all backends, all oracles in the tests and all readers share.

Common rules
- Element types are float32 and float64; all floating arrays of one call have the same type, the
  result has it too.  Indices are int64.  float32 sums may be taken in any order, but the order
  never depends on the number of threads.
- Arrays may be non-contiguous, read-only or of foreign byte order where ``checks`` lets them
  pass; results are C-contiguous and new (no result shares memory with an argument).
- Zero images, zero regions and zero boxes are legal and give empty results.
- NaN and Inf pass through arithmetic; in a maximum NaN wins.

Letters: ``N C H W`` input, ``O`` output channels, ``KH KW`` kernel, ``OH OW`` output plane, ``G``
groups (of channels; in ``Taps`` of regions), ``R`` regions or rows, ``K`` classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore.geometry import Pair, Window2d
from cnncore.kernels.epilogue import Epilogue, Gate
from cnncore.taps import Bins, Taps

Array = Any  # numpy.ndarray or cupy.ndarray; the two share no useful static type

# "auto" chooses among the others; "winograd" between its forms.  A backend may compute several
# by one method (the plain one knows im2col, implicit_gemm, Winograd), but refuses the same calls.
CONV_ALGORITHMS = (
    "auto",
    "im2col",
    "implicit_gemm",
    "winograd",
    "winograd_2x2",
    "winograd_4x4",
    "winograd_phases_3x3",
    "winograd_phases_4x4",
    "direct",
    "depthwise",
)

# --- matrices and convolution ---------------------------------------------------------------------


def matmul(a: Array, b: Array) -> Array:
    """``a @ b`` for ``(..., M, L) @ (..., L, N)``, leading axes broadcast (at least 2-D each)."""
    raise NotImplementedError


def im2col(x: Array, window: Window2d) -> Array:
    """``(N, C, H, W) -> (N, C·KH·KW, OH·OW)``: column (oh, ow) is that window, zeros outside.

    Row order is ``(c, kh, kw)``, so a filter bank ``(O, C, KH, KW)`` flattens to the left factor.
    """
    raise NotImplementedError


def col2im(cols: Array, size: Pair, window: Window2d) -> Array:
    """The transpose of ``im2col``: ``(N, C·KH·KW, OH·OW) -> (N, C, H, W)``, overlaps added."""
    raise NotImplementedError


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> Array:
    """Cross-correlation ``y[n,o,i,j] = bias[o] + Σ_{c,u,v} weight[o,c,u,v] x[n,c,i·s+u·d−p,…]``.

    x ``(N, C, H, W)``, weight ``(O, C/G, KH, KW)``, bias ``(O,)`` or None -> ``(N, O, OH, OW)``.
    Padding may differ on all four sides.  ``algorithm`` is one of ``CONV_ALGORITHMS``.
    ``epilogue`` is applied to the result.
    """
    raise NotImplementedError


def conv_transpose2d(
    y: Array,
    weight: Array,
    bias: Array | None,
    size: Pair,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> Array:
    """The exact transpose of ``conv2d`` towards its input plane of ``size = (H, W)``.

    y ``(N, O, OH, OW)``, weight ``(O, C/G, KH, KW)``, bias ``(C,)`` or None -> ``(N, C, H, W)``.
    ``window.output_size(size)`` must be ``(OH, OW)``; input rows that no window reaches get zero
    (plus bias).  The output padding of layers is already inside ``size``.
    """
    raise NotImplementedError


def conv2d_weight(
    x: Array, gy: Array, window: Window2d, groups: int = 1, algorithm: str = "auto"
) -> Array:
    """``gweight[o,c,u,v] = Σ_{n,i,j} gy[n,o,i,j] x[n,c,i·s+u·d−p,…]`` -> ``(O, C/G, KH, KW)``.

    x ``(N, C, H, W)``, gy ``(N, O, OH, OW)``; the kernel's size is ``window.kernel``.
    """
    raise NotImplementedError


# --- pooling, switches ----------------------------------------------------------------------------


def max_pool2d(x: Array, window: Window2d, output_size: Pair) -> tuple[Array, Array]:
    """Maximum of each window and its switch: the flat index ``h·W + w`` of the winner.

    Padding is *absent*: no window ever sees it (so it can never win).  Ties go to the lowest flat
    index; NaN wins over everything, the first NaN over later ones.  ``output_size`` may be larger
    than the window arithmetic gives (ceil mode): the last windows are cut at the edge.
    -> y ``(N, C, OH, OW)``, indices ``(N, C, OH, OW)`` int64.  Every window sees a pixel.
    """
    raise NotImplementedError


def bin_max(x: Array, image: Array, rows: Bins, cols: Bins) -> tuple[Array, Array]:
    """Maximum of each rectangle ``rows[r, ph] x cols[r, pw]`` of image ``image[r]``.

    x ``(N, C, H, W)``, image ``(R,)`` int64 -> y ``(R, C, PH, PW)`` and the winner's flat index
    ``h·W + w`` (int64).  Ties and NaN as in ``max_pool2d``; an empty bin gives 0 and index -1.
    Serves adaptive max pooling (every image its own region) and RoI pooling.
    """
    raise NotImplementedError


def gather(x: Array, index: Array) -> Array:
    """``y[o, j, i] = x[o, index[o, j, i], i]``; index -1 gives 0.

    x ``(O, A, I)``, index ``(O or 1, J, I or 1)`` int64, broadcast -> ``(O, J, I)``.
    """
    raise NotImplementedError


def scatter_add(src: Array, index: Array, size: int, skips: bool = True) -> Array:
    """The transpose of ``gather``: ``x[o, index[o, j, i], i] += src[o, j, i]``; -1 is skipped, or
    refused like any other index that names nothing, unless ``skips``.

    src ``(O, J, I)``, index ``(O or 1, J, I or 1)`` -> ``(O, size, I)``; added in the order of j.
    """
    raise NotImplementedError


def region_gather(x: Array, image: Array, switches: Array) -> Array:
    """``y[r, c, p, q] = x[image[r], c]`` at the flat index ``switches[r, c, p, q]``; -1 gives 0.

    x ``(N, C, H, W)``, image ``(R,)`` and switches ``(R, C, PH, PW)`` int64, as of ``bin_max``.
    """
    raise NotImplementedError


def region_scatter(gy: Array, image: Array, switches: Array, images: int, size: Pair) -> Array:
    """The transpose of ``region_gather``: gy ``(R, C, PH, PW)`` -> ``(images, C, *size)``.

    Regions are added in their order, the bins of one in the order of memory.
    """
    raise NotImplementedError


# --- separable linear sampling --------------------------------------------------------------------


def resample(
    x: Array, image: Array | None, rows: Taps, cols: Taps, position_sensitive: bool = False
) -> Array:
    """``y[r, c] = Rows_r · x[image[r], c] · Cols_rᵀ``: one sparse matrix along each axis.

    x ``(N, C, H, W)``; image ``(R,)`` int64, or None for ``R = N``, ``image[r] = r``.  ``rows`` and
    ``cols`` have ``G = R`` or ``G = 1``.  -> ``(R, C, PH, PW)``.  With ``position_sensitive``
    output channel c at (ph, pw) reads input channel ``(c·PH + ph)·PW + pw``, C is ``C_in/(PH·PW)``.
    Serves average and adaptive average pooling, all interpolation, RoI Align, crop-and-resize.
    """
    raise NotImplementedError


def resample_adjoint(
    gy: Array,
    image: Array | None,
    rows: Taps,
    cols: Taps,
    images: int,
    position_sensitive: bool = False,
) -> Array:
    """The transpose of ``resample``: gy ``(R, C, PH, PW)`` -> ``(images, C_in, H, W)``, added up.

    ``H = rows.size``, ``W = cols.size``.  Regions are added in their order.
    """
    raise NotImplementedError


# --- rows: the building blocks of every normalisation ---------------------------------------------


def row_moments(x: Array) -> tuple[Array, Array]:
    """Mean and *sum* of squared deviations of each row, x ``(R, I)`` -> ``(R,), (R,)``.

    Stable for rows far from zero (two passes or Welford, never E[x²] − E[x]²).  ``I >= 1``.
    """
    raise NotImplementedError


def row_products(gy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """``Σ_i gy[r,i]`` and ``Σ_i gy[r,i] · (x[r,i] − mean[r])``: two sums in one pass."""
    raise NotImplementedError


def row_linear(x: Array, a: Array, b: Array, epilogue: Epilogue | None = None) -> Array:
    """``a[r] · x[r, i] + b[r]``, x ``(R, I)``, a and b ``(R,)``.

    ``epilogue`` is applied to it; its activation is one of ``OUTPUT_TELLS``.
    """
    raise NotImplementedError


def row_linear2(x: Array, z: Array, a: Array, b: Array, c: Array) -> Array:
    """``a[r] · x[r, i] + b[r] · z[r, i] + c[r]``: the backward pass of a normalisation."""
    raise NotImplementedError


def normalize(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    joined: int,
    eps: float,
    epilogue: Epilogue | None = None,
) -> tuple[Array, Array, Array]:
    """``y = weight · (x − mean) / √(variance + eps) + bias``, and mean and biased variance.

    x ``(N, G, M, I)``, weight and bias ``(G·M,)`` or None.  Elements along the last axis and axis
    ``joined`` (0: batch norm, 2: group norm) share mean and variance, which are float64, of shape
    ``(1, G, M)`` or ``(N, G, 1)``.  At least one element a group.  ``epilogue`` is applied to y;
    its activation is one of ``OUTPUT_TELLS``.
    """
    raise NotImplementedError


def normalize_backward(
    gy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    joined: int,
    fixed: bool = False,
    gate: Gate | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients of ``y = weight · x̂ + bias``, ``x̂ = (x − mean) · rstd``: towards x, weight, bias.

    With ``g = weight · gy`` and ``M`` the mean over a group:
    ``gx = rstd · (g − M(g) − x̂ · M(g x̂))`` where mean and ``rstd = 1/√(variance + eps)`` came from
    x, ``rstd · g`` if they are ``fixed``; ``gweight = Σ gy x̂``, ``gbias = Σ gy``, ``(G·M,)``.
    gy and x ``(N, G, M, I)``; mean and rstd as ``normalize`` gives its statistics.  With ``gate``
    gy is the gradient of an activation's result, and ``gy · f'`` stands for it above.
    """
    raise NotImplementedError


# --- pointwise ------------------------------------------------------------------------------------


def pointwise(
    x: Array, kind: str, params: Sequence[float] = (), order: int = 0, scale: Array | None = None
) -> Array:
    """``f⁽ᵒʳᵈᵉʳ⁾(x)``, times ``scale`` where given: an activation or its derivatives, order 0..2.

    Kinds and params: ``relu``, ``relu6``, ``leaky_relu (slope)``, ``elu (alpha)``, ``selu``,
    ``celu (alpha)``, ``gelu`` (exact, erf), ``gelu_tanh``, ``silu``, ``mish``, ``sigmoid``,
    ``log_sigmoid``, ``hardsigmoid``, ``hardswish``, ``hardtanh (low, high)``, ``tanh``,
    ``softplus (beta, threshold)``, ``softsign``.  At a kink the derivative is PyTorch's:
    relu'(0) = 0, relu6' = hardtanh' = hardsigmoid' = 0 at both ends, leaky_relu'(0) = slope,
    elu'(0) = alpha (the negative branch), hardswish'(−3) = 0, hardswish'(3) = 1.  Never overflows
    where f itself is finite.
    """
    raise NotImplementedError


def ufunc(name: str, *arrays: Array) -> Array:
    """The NumPy universal function ``name`` ("add", "exp", "maximum", …), broadcasting.

    The array module's own loops are good; a backend may override the common float cases.
    """
    raise NotImplementedError


# --- reductions, softmax --------------------------------------------------------------------------


def reduce_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum over ``axes`` (non-negative, distinct), which disappear.  Empty sums are 0."""
    raise NotImplementedError


def reduce_max(x: Array, axis: int) -> tuple[Array, Array]:
    """Maximum along one axis (not empty) and its first index (int64); NaN wins."""
    raise NotImplementedError


def softmax(x: Array, log: bool = False) -> Array:
    """``exp(x)/Σ_k exp(x)`` (or its logarithm) along the middle axis of ``(O, K, I)``, K >= 1.

    The maximum is subtracted first; a column of −inf except one entry is exact.
    """
    raise NotImplementedError


def softmax_backward(gy: Array, y: Array, log: bool = False) -> Array:
    """The gradient of ``softmax`` from its result: ``y ∘ (gy − Σ_k gy∘y)``, or for the logarithm
    ``gy − exp(y) Σ_k gy``; all ``(O, K, I)``.
    """
    raise NotImplementedError


# --- boxes ----------------------------------------------------------------------------------------


def box_iou(a: Array, b: Array) -> Array:
    """Intersection over union of all pairs: ``(M, 4), (N, 4)`` xyxy -> ``(M, N)``; 0/0 is 0.

    Boxes are finite with ``x1 <= x2`` and ``y1 <= y2``, here and in ``nms``; others are refused.
    """
    raise NotImplementedError


def nms(boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """Greedy suppression: indices (int64) of kept boxes in descending score, ties by lower index.

    A box goes when its IoU with a kept one is *greater* than the threshold.
    """
    raise NotImplementedError


# --- optimiser updates (in place, the only kernels that write into an argument) -------------------
# What is written is contiguous, writable, in native byte order, and shares no memory with others.


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
    """``g += λ p; v = μ v + (1 − dampening) g; p −= lr (g + μ v | v | g)``; PyTorch's rule.

    ``velocity`` is None exactly when ``momentum`` is 0; the caller initialises it to zero and
    passes ``dampening=0`` on the first step (so that v = g then, as PyTorch does).
    """
    raise NotImplementedError


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
    """Adam (Kingma & Ba 2015) with bias correction, ``step`` counted from 1.

    ``decoupled`` is AdamW (Loshchilov & Hutter 2019): ``p −= lr·λ·p`` before the update instead of
    adding ``λ p`` to the gradient.  ``p −= lr · (m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + eps)``.
    """
    raise NotImplementedError


# --- NumPy indexing -------------------------------------------------------------------------------


def take(x: Array, key: Any) -> Array:
    """``x[key]`` as a new contiguous array; any NumPy index."""
    raise NotImplementedError


def put_add(src: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """The transpose of ``take``: zeros of ``shape``, ``out[key] += src`` with repeats added."""
    raise NotImplementedError
