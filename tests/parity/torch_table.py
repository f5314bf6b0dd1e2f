"""One row an op: its PyTorch namesake, and a function that draws arguments for both.

Arguments are the same objects for both libraries: ``D(array)`` becomes a tensor that wants a
gradient, an array an array (for PyTorch a tensor), lists and tuples are searched.  ``length`` is
the number of terms that are added up in one result or gradient, at most: single precision is
judged by it.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

import numpy as np


@dataclass
class D:
    """An argument to differentiate by."""

    array: np.ndarray


@dataclass
class Call:
    args: list
    options: dict = field(default_factory=dict)
    length: int = 1


@dataclass
class Row:
    theirs: object  # a dotted name below torch, or a function(torch, *args, **options)
    draw: object  # rng -> Call
    ours: object = None  # where it is not cnncore.ops.<name>


TABLE: dict[str, Row] = {}


def row(theirs, *names, ours=None):
    """Register a drawing function for some ops; ``{}`` in ``theirs`` stands for the op's name."""

    def register(draw):
        for name in names or (draw.__name__,):
            path = theirs.format(name) if isinstance(theirs, str) else theirs
            TABLE[name] = Row(path, draw, ours)
        return draw

    return register


# --- drawing --------------------------------------------------------------------------------------


def normal(rng, *shape):
    return rng.normal(size=shape)


def positive(rng, *shape):
    return 0.1 + rng.random(shape) * 3


def distinct(rng, *shape):
    """No two values closer than 0.01, also in single precision: no ties for a maximum."""
    count = int(np.prod(shape))
    return ((rng.permutation(count) - count / 2) * 0.02 + rng.random(count) * 0.01).reshape(shape)


def away(rng, shape, *kinks):
    """No value closer than 0.02 to a kink."""
    x = rng.normal(size=shape) * 3
    for kink in kinks:
        x = np.where(abs(x - kink) < 0.02, x + 0.05, x)
    return x


def shape(rng, low=0, high=4, axes=(1, 4)):
    return tuple(rng.integers(low, high + 1, rng.integers(axes[0], axes[1] + 1)))


def some(rng, **options):
    """Some of the options, so that defaults are compared too."""
    return {name: value for name, value in options.items() if rng.random() < 0.6}


def pick(rng, *choices):
    return choices[rng.integers(len(choices))]


def i(rng, low, high):
    return int(rng.integers(low, high + 1))


def pair(rng, low, high):
    """An integer for both axes, or one for each."""
    return pick(rng, i(rng, low, high), (i(rng, low, high), i(rng, low, high)))


def plane(rng, low=1, high=8, channels=3, draw=normal):
    return draw(rng, i(rng, 1, 2), i(rng, 1, channels), i(rng, low, high), i(rng, low, high))


def axes_of(rng, ndim, minimum=1):
    count = i(rng, minimum, ndim)
    return tuple(int(a) - pick(rng, 0, ndim) for a in rng.permutation(ndim)[:count])


# --- element by element ---------------------------------------------------------------------------


@row("{}", "exp", "sin", "cos", "neg", "tanh", "sigmoid")
@row("nn.functional.{}", "silu", "mish", "softsign")
@row("nn.functional.logsigmoid", "log_sigmoid")
def smooth(rng):
    return Call([D(normal(rng, *shape(rng)) * 3)])


@row("{}", "log", "sqrt")
def of_positive(rng):
    return Call([D(positive(rng, *shape(rng)))])


@row("nn.functional.{}", "relu", "selu")
@row("abs", "abs")
def kink_at_zero(rng):
    return Call([D(away(rng, shape(rng), 0))])


# PyTorch's hardsigmoid holds its slope 1/6 in single precision; this is its documented definition.
@row(lambda torch, x: torch.nn.functional.relu6(x + 3) / 6, "hardsigmoid")
@row("nn.functional.{}", "relu6", "hardswish")
def kinks_at_three_and_six(rng):
    return Call([D(away(rng, shape(rng), -3, 0, 3, 6))])


@row("nn.functional.leaky_relu")
def leaky_relu(rng):
    return Call([D(away(rng, shape(rng), 0))], some(rng, negative_slope=0.3))


@row("nn.functional.{}", "elu", "celu")
def with_alpha(rng):
    """PyTorch's celu holds 1/alpha in single precision, hence an alpha that is exact there."""
    return Call([D(away(rng, shape(rng), 0))], some(rng, alpha=0.5))


@row("nn.functional.gelu")
def gelu(rng):
    return Call([D(normal(rng, *shape(rng)) * 3)], some(rng, approximate=pick(rng, "none", "tanh")))


@row("nn.functional.hardtanh")
def hardtanh(rng):
    return Call([D(away(rng, shape(rng), -1, 1, -2, 0.5))], some(rng, min_val=-2.0, max_val=0.5))


@row("nn.functional.softplus")
def softplus(rng):
    return Call([D(normal(rng, *shape(rng)) * 9)], some(rng, beta=2.5, threshold=5.0))


@row("nn.functional.prelu")
def prelu(rng):
    x = away(rng, shape(rng, 1, 4, (2, 4)), 0)
    return Call([D(x), D(normal(rng, pick(rng, 1, x.shape[1])))], length=x.size)


@row("clamp")
def clamp(rng):
    bounds = some(rng, min=-1.0, max=2.0) or {"min": 0.0}
    return Call([D(away(rng, shape(rng), -1, 0, 2))], bounds)


@row("nn.functional.dropout")
def dropout(rng):
    """What is random cannot be compared; the ends are not random."""
    options = pick(rng, {"p": 0.0}, {"training": False}, {"p": 0.3, "training": False})
    return Call([D(normal(rng, *shape(rng)))], options)


def broadcastable(rng, draw=normal):
    full = shape(rng, 1, 4)
    narrow = [tuple(1 if rng.random() < 0.4 else n for n in full) for _ in range(2)]
    first, second = narrow[0], narrow[1][i(rng, 0, len(full)) :]
    args = [D(draw(rng, *first)), D(draw(rng, *second))]
    return Call(args[:: pick(rng, 1, -1)], length=int(np.prod(full)))


@row("{}", "add", "sub", "mul")
def arithmetic(rng):
    return broadcastable(rng)


@row("{}", "div", "pow")
def of_two_positives(rng):
    return broadcastable(rng, positive)


@row("{}", "maximum", "minimum")
def extremes(rng):
    call = broadcastable(rng, distinct)
    call.args[1] = D(call.args[1].array + 0.005)
    return call


@row("{}", "lt", "le", "gt", "ge", "eq")
def comparisons(rng):
    call = broadcastable(rng)
    return Call([np.asarray(np.round(arg.array)) for arg in call.args])


@row("where")
def where(rng):
    call = broadcastable(rng)
    wide = np.broadcast_shapes(*(arg.array.shape for arg in call.args))
    return Call([rng.random(wide) < 0.5, *call.args], length=call.length)


@row(lambda torch, x, target: x.to(getattr(torch, target)))
def to(rng):
    return Call([D(normal(rng, *shape(rng))), pick(rng, "float32", "float64")], length=1)


# --- shape ----------------------------------------------------------------------------------------


def same_but_for(rng, axis_free):
    sizes = list(shape(rng, 1, 3))
    axis = i(rng, 0, len(sizes) - 1)
    parts = []
    for _ in range(i(rng, 1, 3)):
        if axis_free:
            sizes[axis] = i(rng, 0, 3)
        parts.append(D(normal(rng, *sizes)))
    return Call([parts], some(rng, dim=axis) if not axis_free else {"dim": axis})


@row("cat")
def cat(rng):
    return same_but_for(rng, True)


@row("stack")
def stack(rng):
    return same_but_for(rng, False)


@row("chunk")
def chunk(rng):
    x = normal(rng, *shape(rng, 1, 7))
    return Call([D(x), i(rng, 1, 4)], some(rng, dim=i(rng, 0, x.ndim - 1)))


@row("split")
def split(rng):
    x = normal(rng, *shape(rng, 2, 7))
    first = i(rng, 1, len(x) - 1)
    return Call([D(x), pick(rng, i(rng, 1, 4), [first, len(x) - first])])


@row("flatten")
def flatten(rng):
    x = normal(rng, *shape(rng, 0, 4, (2, 4)))
    return Call([D(x)], some(rng, start_dim=i(rng, 0, 1), end_dim=-1))


@row("reshape")
def reshape(rng):
    x = normal(rng, *shape(rng, 1, 4, (2, 4)))
    return Call([D(x), pick(rng, (-1,), (x.shape[0], -1), (x.size, 1), (1, *x.shape))])


@row("permute")
def permute(rng):
    x = normal(rng, *shape(rng))
    return Call([D(x), tuple(int(a) for a in rng.permutation(x.ndim))])


@row("transpose")
def transpose(rng):
    x = normal(rng, *shape(rng, axes=(2, 4)))
    return Call([D(x), i(rng, -x.ndim, x.ndim - 1), i(rng, -x.ndim, x.ndim - 1)])


@row("flip")
def flip(rng):
    x = normal(rng, *shape(rng))
    return Call([D(x), axes_of(rng, x.ndim)])


@row("squeeze")
def squeeze(rng):
    x = normal(rng, *shape(rng, 1, 2))
    return Call([D(x)], some(rng, dim=i(rng, 0, x.ndim - 1)))


@row("unsqueeze")
def unsqueeze(rng):
    x = normal(rng, *shape(rng))
    return Call([D(x), i(rng, -x.ndim - 1, x.ndim)])


@row(lambda torch, x, sizes: x.expand(sizes))
def expand(rng):
    wide = shape(rng, 1, 4)
    narrow = tuple(1 if rng.random() < 0.5 else n for n in wide)[i(rng, 0, len(wide) - 1) :]
    return Call([D(normal(rng, *narrow)), tuple(map(int, wide))], length=int(np.prod(wide)))


@row(lambda torch, x, key: operator.getitem(x, key))
def getitem(rng):
    x = normal(rng, i(rng, 2, 5), i(rng, 2, 5), i(rng, 2, 5))
    index = rng.integers(-2, 2, i(rng, 0, 6))
    keys = [
        (i(rng, -2, 1), slice(None), slice(None, None, 2)),
        (Ellipsis, 0),
        (index,),
        (slice(1, None), index),
        (index, index),
        (rng.random(x.shape) < 0.5,),
        (slice(None), None, 1),
    ]
    return Call([D(x), keys[i(rng, 0, len(keys) - 1)]], length=8)


# --- sums and products ----------------------------------------------------------------------------


def reduction(rng, draw=normal, low=1, **options):
    x = draw(rng, *shape(rng, low, 4))
    chosen = some(rng, dim=axes_of(rng, x.ndim))
    if chosen:
        chosen |= some(rng, keepdim=True)
    return Call([D(x)], chosen | some(rng, **options), length=max(x.size, 1))


@row("sum")
def sum_(rng):
    return reduction(rng, low=0)


TABLE["sum"] = TABLE.pop("sum_")


@row("mean")
def mean(rng):
    return reduction(rng)


@row("{}", "var", "std")
def spreads(rng):
    x = normal(rng, *(n + 2 for n in shape(rng, 1, 3)))
    return Call(
        [D(x)],
        {"dim": axes_of(rng, x.ndim)} | some(rng, correction=pick(rng, 0, 1), keepdim=True),
        length=x.size,
    )


@row("{}", "amax", "amin")
def largest(rng):
    x = distinct(rng, *shape(rng, 1, 4))
    return Call([D(x)], {"dim": axes_of(rng, x.ndim)} | some(rng, keepdim=True))


@row("logsumexp")
def logsumexp(rng):
    x = normal(rng, *shape(rng, 1, 4)) * 5
    return Call([D(x), axes_of(rng, x.ndim)], some(rng, keepdim=True), length=x.size)


@row("matmul")
def matmul(rng):
    m, k, n = (i(rng, 1, 6) for _ in range(3))
    lead = shape(rng, 1, 3, (0, 2))
    a = normal(rng, *lead, m, k)
    b = normal(rng, *pick(rng, lead, ()), k, n)
    vector = rng.random() < 0.2
    return Call([D(a), D(normal(rng, k) if vector else b)], length=k + m * n * int(np.prod(lead)))


@row("nn.functional.linear")
def linear(rng):
    features, outputs = i(rng, 1, 6), i(rng, 1, 6)
    x = normal(rng, *shape(rng, 0, 4, (0, 2)), features)
    args = [D(x), D(normal(rng, outputs, features)), D(normal(rng, outputs))]
    return Call(args[: i(rng, 2, 3)], length=x.size + features + outputs)


# --- convolution ----------------------------------------------------------------------------------


def window(rng):
    return {"stride": pair(rng, 1, 3), "padding": pair(rng, 0, 2), "dilation": pair(rng, 1, 2)}


@row("nn.functional.conv2d")
def conv2d(rng):
    groups, c, o = i(rng, 1, 3), i(rng, 1, 2), i(rng, 1, 2)
    kernel = i(rng, 1, 3), i(rng, 1, 3)
    x = normal(rng, i(rng, 0, 2), c * groups, i(rng, 5, 9), i(rng, 5, 9))
    weight = normal(rng, o * groups, c, *kernel)
    args = [D(x), D(weight), D(normal(rng, o * groups))][: i(rng, 2, 3)]
    options = some(rng, **window(rng)) | {"groups": groups}
    if options.get("stride", 1) == 1 and rng.random() < 0.3:
        options["padding"] = pick(rng, "same", "valid")
    return Call(args, options, length=x.size + weight.size)


@row("nn.functional.conv_transpose2d")
def conv_transpose2d(rng):
    groups, c, o = i(rng, 1, 3), i(rng, 1, 2), i(rng, 1, 2)
    x = normal(rng, i(rng, 0, 2), c * groups, i(rng, 3, 6), i(rng, 3, 6))
    weight = normal(rng, c * groups, o, i(rng, 1, 3), i(rng, 1, 3))
    args = [D(x), D(weight), D(normal(rng, o * groups))][: i(rng, 2, 3)]
    options = some(rng, **window(rng)) | {"groups": groups}
    options["padding"] = i(rng, 0, 1)
    options["output_padding"] = i(rng, 0, int(np.min(options.get("stride", 1))) - 1)
    return Call(args, options, length=1000)


@row("nn.functional.unfold", "unfold", "im2col")
def unfold(rng):
    x = plane(rng, 5, 8)
    return Call([D(x), pair(rng, 1, 3)], some(rng, **window(rng)), length=9)


@row("nn.functional.fold", "fold", "col2im")
def fold(rng):
    size, kernel, options = (i(rng, 5, 8), i(rng, 5, 8)), pair(rng, 1, 3), window(rng)
    kh, kw = np.broadcast_to(kernel, 2)
    s, p, d = (np.broadcast_to(options[name], 2) for name in ("stride", "padding", "dilation"))
    count = [(size[a] + 2 * p[a] - d[a] * ((kh, kw)[a] - 1) - 1) // s[a] + 1 for a in (0, 1)]
    cols = normal(rng, i(rng, 1, 2), i(rng, 1, 2) * kh * kw, count[0] * count[1])
    return Call([D(cols), size, kernel], options, length=9)


# --- pooling and resampling -----------------------------------------------------------------------


def pooling(rng, draw, dilation):
    x = plane(rng, 5, 9, draw=draw)
    kernel = pair(rng, 1, 3)
    half = tuple(int(k) // 2 for k in np.broadcast_to(kernel, 2))
    options = some(rng, stride=pair(rng, 1, 3), padding=half, ceil_mode=True)
    if dilation:
        options |= some(rng, dilation=pair(rng, 1, 2))
    return Call([D(x), kernel], options, length=9)


@row("nn.functional.max_pool2d")
def max_pool2d(rng):
    call = pooling(rng, distinct, True)
    call.options |= some(rng, return_indices=True)
    return call


@row("nn.functional.avg_pool2d")
def avg_pool2d(rng):
    call = pooling(rng, normal, False)
    call.options |= some(rng, count_include_pad=False)
    call.options |= {"divisor_override": 5} if rng.random() < 0.2 else {}
    return call


@row("nn.functional.adaptive_avg_pool2d")
def adaptive_avg_pool2d(rng):
    return Call([D(plane(rng)), pick(rng, i(rng, 1, 5), (i(rng, 1, 5), None))], length=64)


@row("nn.functional.adaptive_max_pool2d")
def adaptive_max_pool2d(rng):
    x = plane(rng, draw=distinct)
    return Call([D(x), pair(rng, 1, 5)], some(rng, return_indices=True), length=64)


@row("nn.functional.max_unpool2d")
def max_unpool2d(rng):
    """Windows that do not overlap: where they do, ours adds up and theirs does not."""
    x, k = plane(rng, 1, 4), i(rng, 1, 3)
    height, width = (n * k for n in x.shape[2:])
    rows = np.arange(x.shape[2])[:, None] * k + rng.integers(0, k, x.shape)
    cols = np.arange(x.shape[3]) * k + rng.integers(0, k, x.shape)
    options = {"output_size": (height, width)} if rng.random() < 0.3 else {}
    return Call([D(x), rows * width + cols, k], options)


@row("nn.functional.interpolate")
def interpolate(rng):
    mode = pick(rng, "nearest", "nearest-exact", "bilinear", "bicubic", "area")
    options = {"mode": mode}
    if mode in ("bilinear", "bicubic"):
        options |= some(rng, align_corners=pick(rng, True, False))
    if rng.random() < 0.5:
        options["size"] = i(rng, 1, 9), i(rng, 1, 9)
    else:
        options["scale_factor"] = pick(rng, 2, 3, 0.5, 1.5, (2.0, 1.25))
        options |= {"recompute_scale_factor": True} if rng.random() < 0.3 else {}
    return Call([D(plane(rng, 2, 8))], options, length=160)


@row("nn.functional.pad")
def pad(rng):
    x = plane(rng, 4, 7)
    mode = pick(rng, "constant", "reflect", "replicate")
    sizes = [i(rng, 0, 3) for _ in range(4)]
    if mode == "constant":
        sizes = [i(rng, -1, 3) for _ in range(2 * i(rng, 1, 4))]
        sizes = [n if k < 4 else max(n, 0) for k, n in enumerate(sizes)]
        return Call([D(x), sizes], some(rng, value=1.5))
    return Call([D(x), sizes], {"mode": mode}, length=16)


# --- normalisation --------------------------------------------------------------------------------


def affine(rng, channels):
    weight, bias = D(normal(rng, channels)), D(normal(rng, channels))
    return pick(rng, {}, {"weight": weight, "bias": bias}, {"weight": weight})


@row("nn.functional.batch_norm")
def batch_norm(rng):
    x = normal(rng, i(rng, 2, 3), i(rng, 1, 3), *shape(rng, 1, 4, (0, 2))) * 2 + 1
    training = rng.random() < 0.6
    running = [normal(rng, x.shape[1]), positive(rng, x.shape[1])]
    if training and rng.random() < 0.3:
        running = [None, None]
    options = some(rng, momentum=0.3, eps=1e-3) | affine(rng, x.shape[1])
    return Call([D(x), *running], {"training": training} | options, length=x.size)


@row("nn.functional.instance_norm")
def instance_norm(rng):
    x = plane(rng, 2, 5) * 2 + 1
    options = some(rng, eps=1e-3) | affine(rng, x.shape[1])
    if rng.random() < 0.4:
        options["running_mean"] = normal(rng, x.shape[1])
        options["running_var"] = positive(rng, x.shape[1])
        options["use_input_stats"] = bool(rng.random() < 0.5)
    return Call([D(x)], options, length=x.size)


@row("nn.functional.group_norm")
def group_norm(rng):
    groups, each = i(rng, 1, 3), i(rng, 1, 2)
    x = normal(rng, i(rng, 1, 2), groups * each, *shape(rng, 2, 4, (1, 2)))
    return Call([D(x), groups], some(rng, eps=1e-3) | affine(rng, groups * each), length=x.size)


@row("nn.functional.layer_norm")
def layer_norm(rng):
    x = normal(rng, *shape(rng, 2, 4, (1, 4)))
    normalized = x.shape[i(rng, 0, x.ndim - 1) :]
    options = some(rng, eps=1e-3)
    if rng.random() < 0.5:
        options |= {"weight": D(normal(rng, *normalized)), "bias": D(normal(rng, *normalized))}
    return Call([D(x), normalized], options, length=x.size)


@row("nn.functional.local_response_norm")
def local_response_norm(rng):
    x = normal(rng, i(rng, 1, 2), i(rng, 1, 6), *shape(rng, 1, 4, (1, 2)))
    return Call([D(x), i(rng, 1, 5)], some(rng, alpha=0.5, beta=0.6, k=2.0), length=10)


# --- softmax and losses ---------------------------------------------------------------------------


@row("nn.functional.{}", "softmax", "log_softmax")
def softmaxes(rng):
    x = normal(rng, *shape(rng, 1, 6)) * 4
    return Call([D(x), i(rng, -x.ndim, x.ndim - 1)], length=x.size)


REDUCTIONS = "none", "mean", "sum"


def classes(rng):
    """Logits ``(N, K, …)``, class targets with some of them ignored, and options."""
    k = i(rng, 2, 5)
    x = normal(rng, i(rng, 1, 4), k, *shape(rng, 1, 3, (0, 2))) * 3
    target = rng.integers(0, k, (len(x), *x.shape[2:]))
    options = some(rng, weight=positive(rng, k), reduction=pick(rng, *REDUCTIONS))
    if rng.random() < 0.5:
        ignored = pick(rng, -100, 0)
        target.flat[1::3] = ignored
        target.flat[0] = k - 1
        options["ignore_index"] = ignored
    return x, target, options


@row("nn.functional.cross_entropy")
def cross_entropy(rng):
    x, target, options = classes(rng)
    options |= some(rng, label_smoothing=0.2)
    if rng.random() < 0.3:
        options.pop("ignore_index", None)
        share = positive(rng, *x.shape)
        target = share / share.sum(axis=1, keepdims=True)
    return Call([D(x), target], options, length=2 * x.size)


@row("nn.functional.nll_loss")
def nll_loss(rng):
    x, target, options = classes(rng)
    return Call([D(-abs(x)), target], options, length=x.size)


@row("nn.functional.binary_cross_entropy")
def binary_cross_entropy(rng):
    size = shape(rng, 1, 4)
    options = some(rng, weight=positive(rng, *size), reduction=pick(rng, *REDUCTIONS))
    return Call([D(0.02 + 0.96 * rng.random(size)), rng.random(size)], options, length=256)


@row("nn.functional.binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(rng):
    size = shape(rng, 1, 4)
    options = some(
        rng,
        weight=positive(rng, *size),
        reduction=pick(rng, *REDUCTIONS),
        pos_weight=positive(rng, size[-1]),
    )
    return Call([D(normal(rng, *size) * 9), rng.random(size)], options, length=256)


@row("nn.functional.{}", "mse_loss", "l1_loss")
def regression(rng):
    size = shape(rng, 1, 4)
    x, target = distinct(rng, *size), distinct(rng, *size) + 0.005
    return Call([D(x), D(target)], some(rng, reduction=pick(rng, *REDUCTIONS)), length=256)


@row("nn.functional.smooth_l1_loss")
def smooth_l1_loss(rng):
    size = shape(rng, 1, 4)
    options = some(rng, reduction=pick(rng, *REDUCTIONS), beta=pick(rng, 0.5, 2.0))
    return Call([D(normal(rng, *size) * 2), D(normal(rng, *size))], options, length=256)


# --- what PyTorch itself does not have ------------------------------------------------------------

WITHOUT_NAMESAKE = {
    "roi_pool": "torchvision",
    "roi_align": "torchvision",
    "ps_roi_pool": "torchvision",
    "ps_roi_align": "torchvision",
    "crop_and_resize": "TensorFlow",
    "sigmoid_focal_loss": "torchvision",
    "unpool_nearest": "Dumoulin & Visin; a special case of interpolate",
    "unpool_bed_of_nails": "Dumoulin & Visin",
    "dice_loss": "Milletari et al.",
    "jaccard_loss": "Rahman & Wang",
    "bce_dice_loss": "a sum of two",
    "bce_jaccard_loss": "Iglovikov & Shvets",
    "lovasz_softmax": "Berman et al.",
    "lovasz_hinge": "Berman et al.",
    "LinearMap": "not an op",
    "manual_seed": "not an op",
}
