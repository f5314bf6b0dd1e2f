"""Bad input: every kernel refuses, on every backend, and says which argument and why."""

from __future__ import annotations

import numpy as np
import pytest
from device_support import DEVICE, REAL
from kernel_support import window

from cnncore import kernels as k
from cnncore.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from cnncore.geometry import Window2d
from cnncore.kernels import checks, dispatch
from cnncore.kernels.epilogue import Epilogue, Gate
from cnncore.taps import Bins, Taps

NAN, INF = float("nan"), float("inf")
HUGE = 2**31


def f(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def i(*values):
    return np.array(values, np.int64)


def huge(*shape):
    """An array of any size that takes no memory: one element, read over and over."""
    return np.broadcast_to(np.float32(1), shape)


def taps(size=4, length=2, groups=1, index=0, count=1):
    shape = (groups, length, 1)
    return Taps(size, np.full(shape, index), np.ones(shape), np.full(shape[:2], count))


def bins(size=4, length=2, groups=1, start=0, end=1):
    shape = (groups, length)
    return Bins(size, np.full(shape, start), np.full(shape, end))


def found(switch):
    """A single region, channel and bin."""
    return np.full((1, 1, 1, 1), switch)


STATS = np.ones((1, 2, 1))
GROUPS = f(1, 2, 1, 3)
W3, TWO = window(3), window(2, 1, 1)
X, WEIGHT, Y = f(1, 2, 5, 5), f(3, 2, 3, 3), f(1, 3, 3, 3)
ROWS, VECTOR = f(3, 4), f(3)
BOXES = np.array([[0, 0, 1, 1], [1, 1, 2, 2]], np.float32)
PLANE = f(2, 3, 4, 4)
ONE = f(2, 1, 4, 4)

# (what is wrong, the call, the argument that the error must name)
REFUSED = [
    # rank, type, mixture
    ("conv rank", lambda: k.conv2d(X[0], WEIGHT, None, W3), "x"),
    ("conv list", lambda: k.conv2d([[1.0]], WEIGHT, None, W3), "x"),
    ("conv integers", lambda: k.conv2d(X.astype(int), WEIGHT, None, W3), "x"),
    ("im2col half", lambda: k.im2col(X.astype(np.float16), W3), "x"),
    ("conv complex", lambda: k.conv2d(X.astype(complex), WEIGHT, None, W3), "x"),
    ("conv long double", lambda: k.conv2d(X.astype(np.longdouble), WEIGHT, None, W3), "x"),
    ("conv mixture", lambda: k.conv2d(X, WEIGHT.astype(float), None, W3), "weight"),
    ("conv bias mixture", lambda: k.conv2d(X, WEIGHT, f(3, dtype=float), W3), "bias"),
    ("masked array", lambda: k.reduce_sum(np.ma.masked_array(ROWS), (0,)), "x"),
    ("matrix", lambda: k.reduce_sum(ROWS.view(np.matrix), (0,)), "x"),
    # channels, groups, filters, bias
    ("conv channels", lambda: k.conv2d(f(1, 4, 5, 5), WEIGHT, None, W3), "weight"),
    ("groups do not divide", lambda: k.conv2d(X, WEIGHT, None, W3, 3), "groups"),
    ("groups not the filters'", lambda: k.conv2d(X, f(3, 1, 3, 3), None, W3, 2), "groups"),
    ("groups zero", lambda: k.conv2d(X, WEIGHT, None, W3, 0), "groups"),
    ("groups a float", lambda: k.conv2d(X, WEIGHT, None, W3, 1.0), "groups"),
    ("no filters", lambda: k.conv2d(X, f(0, 2, 3, 3), None, W3), "weight"),
    ("empty filters", lambda: k.conv2d(f(1, 0, 5, 5), f(3, 0, 3, 3), None, W3), "weight"),
    ("filters without rows", lambda: k.conv2d(X, f(3, 2, 0, 3), None, W3), "weight"),
    ("filters of another size", lambda: k.conv2d(X, f(3, 2, 3, 2), None, W3), "weight"),
    ("bias length", lambda: k.conv2d(X, WEIGHT, f(2), W3), "bias"),
    ("bias rank", lambda: k.conv2d(X, WEIGHT, f(3, 1), W3), "bias"),
    ("algorithm", lambda: k.conv2d(X, WEIGHT, None, W3, 1, "magic"), "algorithm"),
    # windows
    ("kernel too large", lambda: k.conv2d(f(1, 2, 2, 5), WEIGHT, None, W3), "x"),
    ("dilated too large", lambda: k.im2col(X, window(3, dilation=3)), "x"),
    ("stride zero", lambda: k.im2col(X, Window2d((3, 3), (0, 1))), "stride"),
    ("stride negative", lambda: k.im2col(X, Window2d((3, 3), (1, -1))), "stride"),
    ("dilation zero", lambda: k.im2col(X, Window2d((3, 3), dilation=(1, 0))), "dilation"),
    ("kernel zero", lambda: k.im2col(X, Window2d((3, 0))), "kernel_size"),
    ("padding negative", lambda: k.im2col(X, Window2d((3, 3), padding=((-1, 0),) * 2)), "padding"),
    ("no window", lambda: k.im2col(X, (3, 3)), "window"),
    # columns, transpose, weight gradient
    ("columns rank", lambda: k.col2im(f(18, 9), (5, 5), W3), "cols"),
    ("columns channels", lambda: k.col2im(f(1, 17, 9), (5, 5), W3), "cols"),
    ("columns count", lambda: k.col2im(f(1, 18, 8), (5, 5), W3), "cols"),
    ("size too small", lambda: k.col2im(f(1, 18, 9), (2, 5), W3), "size"),
    ("size negative", lambda: k.col2im(f(1, 18, 9), (-5, 5), W3), "size"),
    ("size no pair", lambda: k.col2im(f(1, 18, 9), 5, W3), "size"),
    ("transpose size", lambda: k.conv_transpose2d(Y, WEIGHT, None, (6, 5), W3), "y"),
    ("transpose channels", lambda: k.conv_transpose2d(Y[:, :2], WEIGHT, None, (5, 5), W3), "y"),
    ("transpose groups", lambda: k.conv_transpose2d(Y, WEIGHT, None, (5, 5), W3, 2), "groups"),
    ("transpose bias", lambda: k.conv_transpose2d(Y, WEIGHT, f(3), (5, 5), W3), "bias"),
    ("transpose empty", lambda: k.conv_transpose2d(Y, f(3, 0, 3, 3), None, (5, 5), W3), "weight"),
    ("gweight plane", lambda: k.conv2d_weight(X, f(1, 3, 3, 2), W3), "gy"),
    ("gweight images", lambda: k.conv2d_weight(X, f(2, 3, 3, 3), W3), "gy"),
    ("gweight groups", lambda: k.conv2d_weight(X, Y, W3, 2), "gy"),
    ("gweight no channels", lambda: k.conv2d_weight(f(1, 0, 5, 5), Y, W3), "x"),
    ("matmul vector", lambda: k.matmul(VECTOR, ROWS), "a"),
    ("matmul inner", lambda: k.matmul(ROWS, ROWS), "b"),
    ("matmul batch", lambda: k.matmul(f(2, 3, 4), f(3, 4, 5)), "b"),
    # pooling, bins
    ("pool rank", lambda: k.max_pool2d(X[0], W3, (3, 3)), "x"),
    ("pool size zero", lambda: k.max_pool2d(X, W3, (0, 3)), "output_size"),
    ("pool size beyond", lambda: k.max_pool2d(X, W3, (3, 6)), "x"),
    ("pool sees padding only", lambda: k.max_pool2d(X, window(2, 2, 2), (4, 4)), "x"),
    ("pool of no pixels", lambda: k.max_pool2d(f(1, 1, 0, 4), window(1, 1, 1), (2, 4)), "x"),
    ("bin image beyond", lambda: k.bin_max(PLANE, i(0, 2), bins(), bins()), "image"),
    ("bin image negative", lambda: k.bin_max(PLANE, i(-1), bins(), bins()), "image"),
    ("bin image float", lambda: k.bin_max(PLANE, f(1), bins(), bins()), "image"),
    ("bin image int32", lambda: k.bin_max(PLANE, np.zeros(1, np.int32), bins(), bins()), "image"),
    ("bin edge beyond", lambda: k.bin_max(PLANE, i(0), bins(end=5), bins()), "rows"),
    ("bin edge negative", lambda: k.bin_max(PLANE, i(0), bins(), bins(start=-1)), "cols"),
    ("bin axis", lambda: k.bin_max(PLANE, i(0), bins(5), bins()), "rows"),
    ("bin groups", lambda: k.bin_max(PLANE, i(0), bins(groups=2), bins()), "rows"),
    ("bin taps", lambda: k.bin_max(PLANE, i(0), taps(), bins()), "rows"),
    # switches
    ("gather beyond", lambda: k.gather(f(1, 3, 1), i(0, 3)[None, :, None]), "index"),
    ("gather below -1", lambda: k.gather(f(1, 3, 1), i(-2)[None, :, None]), "index"),
    ("gather outer", lambda: k.gather(f(3, 3, 1), np.zeros((2, 1, 1), np.int64)), "index"),
    ("gather inner", lambda: k.gather(f(1, 3, 3), np.zeros((1, 1, 2), np.int64)), "index"),
    ("gather int32", lambda: k.gather(f(1, 3, 1), np.zeros((1, 1, 1), np.int32)), "index"),
    ("scatter beyond", lambda: k.scatter_add(f(1, 1, 1), i(3)[None, :, None], 3), "index"),
    ("scatter huge index", lambda: k.scatter_add(f(1, 1, 1), i(2**62)[None, :, None], 3), "index"),
    ("scatter below -1", lambda: k.scatter_add(f(1, 1, 1), i(-2)[None, :, None], 3), "index"),
    ("scatter -1", lambda: k.scatter_add(f(1, 1, 1), i(-1)[None, :, None], 3, False), "index"),
    ("scatter length", lambda: k.scatter_add(f(1, 2, 1), i(0)[None, :, None], 3), "index"),
    ("scatter size", lambda: k.scatter_add(f(1, 1, 1), i(0)[None, :, None], -1), "size"),
    ("region beyond", lambda: k.region_gather(ONE, i(0), found(16)), "switches"),
    ("region below -1", lambda: k.region_gather(ONE, i(0), found(-2)), "switches"),
    ("region image", lambda: k.region_gather(ONE, i(2), found(0)), "image"),
    ("region switches", lambda: k.region_gather(ONE, i(0, 0), found(0)), "switches"),
    ("back beyond", lambda: k.region_scatter(f(1, 1, 1, 1), i(0), found(4), 1, (2, 2)), "switches"),
    ("back shape", lambda: k.region_scatter(f(1, 1, 1, 2), i(0), found(0), 1, (2, 2)), "gy"),
    ("back image", lambda: k.region_scatter(f(1, 1, 1, 1), i(2), found(0), 1, (2, 2)), "image"),
    ("back size", lambda: k.region_scatter(f(1, 1, 1, 1), i(0), found(0), 1, 4), "size"),
    # sampling
    ("resample index", lambda: k.resample(PLANE, None, taps(index=4), taps()), "rows"),
    ("resample negative", lambda: k.resample(PLANE, None, taps(), taps(index=-1)), "cols"),
    ("resample count", lambda: k.resample(PLANE, None, taps(count=2), taps()), "rows"),
    ("resample axis", lambda: k.resample(PLANE, None, taps(3), taps()), "rows"),
    ("resample groups", lambda: k.resample(PLANE, None, taps(groups=3), taps()), "rows"),
    ("resample image", lambda: k.resample(PLANE, i(2), taps(), taps()), "image"),
    ("resample image rank", lambda: k.resample(PLANE, i(0)[None], taps(), taps()), "image"),
    ("sensitive channels", lambda: k.resample(PLANE, None, taps(), taps(), True), "x"),
    ("adjoint shape", lambda: k.resample_adjoint(f(2, 3, 2, 3), None, taps(), taps(), 2), "gy"),
    ("adjoint image", lambda: k.resample_adjoint(f(1, 3, 2, 2), i(2), taps(), taps(), 2), "image"),
    ("adjoint images", lambda: k.resample_adjoint(PLANE, None, taps(), taps(), -1), "images"),
    # rows
    ("moments of nothing", lambda: k.row_moments(f(3, 0)), "x"),
    ("moments rank", lambda: k.row_moments(VECTOR), "x"),
    ("products shape", lambda: k.row_products(ROWS, f(3, 5), VECTOR), "x"),
    ("products mean", lambda: k.row_products(ROWS, ROWS, f(4)), "mean"),
    ("linear vector", lambda: k.row_linear(ROWS, VECTOR, f(4)), "b"),
    ("linear residual", lambda: k.row_linear(ROWS, VECTOR, VECTOR, Epilogue(f(3, 5))), "residual"),
    (
        "linear activation",
        lambda: k.row_linear(ROWS, VECTOR, VECTOR, Epilogue(activation="silu")),
        "activation",
    ),
    ("linear2 shape", lambda: k.row_linear2(ROWS, f(4, 3), VECTOR, VECTOR, VECTOR), "z"),
    ("linear2 vector", lambda: k.row_linear2(ROWS, ROWS, VECTOR, VECTOR, f(1)), "c"),
    ("normalize rank", lambda: k.normalize(ROWS, None, None, 0, 0.0), "x"),
    ("normalize nothing", lambda: k.normalize(f(0, 2, 1, 3), None, None, 0, 0.0), "x"),
    ("normalize joined", lambda: k.normalize(f(1, 2, 1, 3), None, None, 1, 0.0), "joined"),
    (
        "normalize activation",
        lambda: k.normalize(GROUPS, None, None, 0, 0.0, Epilogue(activation="silu")),
        "activation",
    ),
    (
        "normalize residual",
        lambda: k.normalize(GROUPS, None, None, 0, 0.0, Epilogue(f(1, 2, 1, 1))),
        "residual",
    ),
    (
        "normalize gate",
        lambda: k.normalize_backward(
            GROUPS, GROUPS, None, STATS, STATS, 0, False, Gate(f(1, 2, 1, 4), "relu")
        ),
        "y",
    ),
    ("normalize eps", lambda: k.normalize(f(1, 2, 1, 3), None, None, 0, -1.0), "eps"),
    ("normalize weight", lambda: k.normalize(f(1, 2, 1, 3), f(3), None, 0, 0.0), "weight"),
    ("normalize bias", lambda: k.normalize(f(1, 2, 1, 3), f(2), f(1), 0, 0.0), "bias"),
    (
        "normalize gy",
        lambda: k.normalize_backward(f(1, 2, 1, 4), GROUPS, None, STATS, STATS, 0),
        "gy",
    ),
    (
        "normalize mean",
        lambda: k.normalize_backward(GROUPS, GROUPS, None, np.ones(2), STATS, 0),
        "mean",
    ),
    (
        "normalize mean type",
        lambda: k.normalize_backward(GROUPS, GROUPS, None, f(1, 2, 1), STATS, 0),
        "mean",
    ),
    # pointwise, ufunc
    ("kind", lambda: k.pointwise(ROWS, "reluu"), "kind"),
    ("parameters missing", lambda: k.pointwise(ROWS, "leaky_relu"), "params"),
    ("parameters too many", lambda: k.pointwise(ROWS, "relu", (1.0,)), "params"),
    ("parameter NaN", lambda: k.pointwise(ROWS, "elu", (NAN,)), "params"),
    ("celu of 0", lambda: k.pointwise(ROWS, "celu", (0.0,)), "params"),
    ("order", lambda: k.pointwise(ROWS, "relu", (), 3), "order"),
    ("scale shape", lambda: k.pointwise(ROWS, "relu", (), 0, VECTOR), "scale"),
    ("scale type", lambda: k.pointwise(ROWS, "relu", (), 0, ROWS.astype(float)), "scale"),
    ("ufunc name", lambda: k.ufunc("nothing", ROWS), "name"),
    ("ufunc not one", lambda: k.ufunc("array", ROWS), "name"),
    ("ufunc two results", lambda: k.ufunc("modf", ROWS), "name"),
    ("ufunc arity", lambda: k.ufunc("add", ROWS), "arrays"),
    ("ufunc shapes", lambda: k.ufunc("add", ROWS, VECTOR), "arrays"),
    ("ufunc mixture", lambda: k.ufunc("add", ROWS, ROWS.astype(float)), "arrays"),
    # reductions
    ("sum axis", lambda: k.reduce_sum(ROWS, (2,)), "axes"),
    ("sum negative axis", lambda: k.reduce_sum(ROWS, (-1,)), "axes"),
    ("sum axis twice", lambda: k.reduce_sum(ROWS, (1, 1)), "axes"),
    ("sum axes", lambda: k.reduce_sum(ROWS, 1), "axes"),
    ("max of nothing", lambda: k.reduce_max(f(2, 0), 1), "x"),
    ("max axis", lambda: k.reduce_max(ROWS, 2), "axis"),
    ("softmax rank", lambda: k.softmax(ROWS), "x"),
    ("softmax back shape", lambda: k.softmax_backward(f(2, 1, 3), f(2, 2, 3)), "gy"),
    ("softmax of nothing", lambda: k.softmax(f(2, 0, 3)), "x"),
    # boxes
    ("boxes shape", lambda: k.box_iou(f(2, 5), BOXES), "a"),
    ("box NaN", lambda: k.box_iou(BOXES, np.array([[0, 0, NAN, 1]], np.float32)), "b"),
    ("box infinite", lambda: k.nms(np.array([[0, 0, INF, 1.0]]), np.ones(1), 0.5), "boxes"),
    ("box -inf..-inf", lambda: k.nms(np.array([[-INF, 0, -INF, 1.0]]), np.ones(1), 0.5), "boxes"),
    ("box negative", lambda: k.nms(BOXES[:, ::-1], f(2), 0.5), "boxes"),
    ("scores length", lambda: k.nms(BOXES, f(3), 0.5), "scores"),
    ("score NaN", lambda: k.nms(BOXES, np.array([1, NAN], np.float32), 0.5), "scores"),
    ("threshold NaN", lambda: k.nms(BOXES, f(2), NAN), "iou_threshold"),
    ("threshold range", lambda: k.nms(BOXES, f(2), 1.5), "iou_threshold"),
    # updates
    ("sgd shape", lambda: k.sgd_update(f(2, 3), f(3, 2), None, 0.1), "grad"),
    ("sgd type", lambda: k.sgd_update(f(2), f(2, dtype=float), None, 0.1), "grad"),
    ("sgd velocity missing", lambda: k.sgd_update(f(2), f(2), None, 0.1, 0.9), "velocity"),
    ("sgd velocity unused", lambda: k.sgd_update(f(2), f(2), f(2), 0.1), "velocity"),
    ("sgd lr", lambda: k.sgd_update(f(2), f(2), None, NAN), "lr"),
    ("sgd read-only", lambda: k.sgd_update(huge(2), f(2), None, 0.1), "param"),
    ("sgd strided", lambda: k.sgd_update(f(4)[::2], f(2), None, 0.1), "param"),
    ("sgd foreign", lambda: k.sgd_update(f(2).astype(">f4"), f(2), None, 0.1), "param"),
    ("adam step", lambda: k.adam_update(f(2), f(2), f(2), f(2), 0, 0.1), "step"),
    ("adam beta", lambda: k.adam_update(f(2), f(2), f(2), f(2), 1, 0.1, beta1=1.0), "beta1"),
    ("adam m shape", lambda: k.adam_update(f(2), f(2), f(3), f(2), 1, 0.1), "m"),
    ("adam m read-only", lambda: k.adam_update(f(2), f(2), huge(2), f(2), 1, 0.1), "m"),
    ("adam v shared", lambda: k.adam_update(X, X.copy(), VECTOR, VECTOR, 1, 0.1), "m"),
    # indexing
    ("take index", lambda: k.take(ROWS, 5), "key"),
    ("take text", lambda: k.take(ROWS, "row"), "key"),
    ("take mask", lambda: k.take(ROWS, np.ones((2, 2), bool)), "key"),
    ("put shape", lambda: k.put_add(f(2), slice(None), (3,)), "src"),
    ("put broadcast", lambda: k.put_add(f(1), slice(None), (3,)), "src"),
    ("put index", lambda: k.put_add(f(1), [7], (3,)), "key"),
    ("put size", lambda: k.put_add(f(1), [0], (-3,)), "shape"),
    # sizes whose product no index can address
    ("im2col overflow", lambda: k.im2col(huge(2**28, 2**28, 3, 3), W3), "x"),
    ("conv overflow", lambda: k.conv2d(huge(2**59, 1, 1, 1), f(2, 1, 1, 1), None, window(1)), "x"),
    ("matmul overflow", lambda: k.matmul(huge(HUGE, 1), huge(1, HUGE)), "a and b"),
    ("put overflow", lambda: k.put_add(f(1), [0], (HUGE, HUGE)), "shape"),
    ("scatter overflow", lambda: k.scatter_add(f(1, 1, 1), i(0)[None, :, None], 2**60), "size"),
    ("col2im overflow", lambda: k.col2im(f(0, 1, 1), (HUGE, HUGE), window(1)), "cols"),
    ("padding overflow", lambda: k.im2col(X, window(1, 1, HUGE)), "x"),
    ("ufunc overflow", lambda: k.ufunc("add", huge(HUGE, 1), huge(1, HUGE)), "arrays"),
    ("pool overflow", lambda: k.max_pool2d(huge(2**59, 1, 1, 1), TWO, (2, 2)), "output_size"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "argument"), [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
def test_refused(request, backend, call, argument):
    if backend == DEVICE and "sgd foreign" in request.node.name:
        pytest.skip("device arrays have native byte order")
    if REAL and backend == DEVICE and any(w in request.node.name for w in ("read-only", "strided")):
        pytest.skip("arrays that were copied to a device are writable and contiguous")
    with pytest.raises(ArgumentError) as caught:
        call()
    assert caught.value.argument == argument
    assert str(caught.value).startswith(f"{argument}: expected {caught.value.expected}, got ")


def test_every_kernel_has_a_refusal():
    """Each name of the contract occurs in the table (or has none to make)."""
    named = {name for _, call, _ in REFUSED for name in call.__code__.co_names}
    assert set(dispatch.KERNELS) <= named


@pytest.mark.parametrize("name", sorted(dispatch.KERNELS))
def test_checks_have_the_signature_of_the_contract(name):
    import inspect

    from cnncore.kernels import array, contract

    def arguments(function):
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    expected = arguments(getattr(contract, name))
    assert arguments(getattr(checks, name)) == expected
    assert arguments(getattr(array, name)) == expected


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: k.reduce_sum(ROWS.astype(int), (0,)), DTypeError),
        (lambda: k.row_moments(VECTOR), ShapeError),
        (lambda: k.reduce_sum([1.0], (0,)), TypeError),
        (lambda: k.row_moments(VECTOR), ValueError),
    ],
)
def test_the_kind_of_error(backend, call, kind):
    with pytest.raises(kind):
        call()


def test_updates_refuse_memory_that_is_shared(backend):
    if REAL and backend == DEVICE:
        pytest.skip("each array is copied to the device by itself")
    memory = f(6)
    for grad in (memory[:4], memory[2:]):
        with pytest.raises(ArgumentError, match="param: expected memory of its own"):
            k.sgd_update(memory[:4], grad, None, 0.1)
    assert (memory == 1).all()
    k.sgd_update(memory[:3], memory[3:], None, 0.5)  # neighbours are no overlap
    assert memory.tolist() == [0.5, 0.5, 0.5, 1, 1, 1]


def test_a_bad_box_is_named(backend):
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [3, 3, 2, 4]], np.float32)
    with pytest.raises(ArgumentError, match=r"box 2 = \[3.0, 3.0, 2.0, 4.0\]"):
        k.nms(boxes, f(3), 0.5)


class OnDevice:
    """What checks see of a CuPy array."""

    __cuda_array_interface__ = {}  # noqa: RUF012
    dtype, shape, ndim = np.dtype(np.float32), (3, 4), 2


def test_mixed_devices_are_both_named():
    with pytest.raises(DeviceError, match=r"host.*device"):
        k.matmul(ROWS, OnDevice())
    with pytest.raises(DeviceError, match=r"device.*host"):
        k.row_linear(OnDevice(), VECTOR, VECTOR)


def test_checks_cost_little():
    """A handful of microseconds: they run before every kernel of every step."""
    import timeit

    best = min(timeit.repeat(lambda: checks.conv2d(X, WEIGHT, None, W3), number=200, repeat=20))
    assert best / 200 < 100e-6  # measured 6 µs; a scan of the array, or a missed cache, shows
