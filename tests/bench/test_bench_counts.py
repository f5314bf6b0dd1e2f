"""Operations and bytes against numbers worked out by hand, and the suites against the networks."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import bench, models
from cnncore.bench import convolution, plugins, runner, suites
from cnncore.bench.problem import Case
from cnncore.bench.roof import Roof, measure_roof
from cnncore.errors import ArgumentError
from cnncore.explain import cost


def test_a_convolution_by_hand() -> None:
    # (2, 3, 5, 6) with 4 filters 3×2, stride 2, padding 1: output (2, 4, 3, 4).
    case = Case(
        "conv2d", {"shape": (2, 3, 5, 6), "filters": 4, "kernel": (3, 2), "stride": 2, "padding": 1}
    )
    problem = bench.make_problem(case)
    assert problem.reference().shape == (2, 4, 3, 4)
    assert problem.flops == 2 * (2 * 4 * 3 * 4) * (3 * 3 * 2)
    assert problem.nbytes == 4 * (2 * 3 * 5 * 6 + 4 * 3 * 3 * 2 + 2 * 4 * 3 * 4)
    for direction in ("input", "weight"):  # the same work, the same three arrays
        other = bench.make_problem(case.towards(direction))
        assert (other.flops, other.nbytes) == (problem.flops, problem.nbytes)


def test_groups_divide_the_work() -> None:
    sizes = {"shape": (1, 8, 6, 6), "filters": 8, "kernel": 3, "padding": 1}
    whole = bench.make_problem(Case("conv2d", sizes))
    depthwise = bench.make_problem(Case("conv2d", {**sizes, "groups": 8}))
    assert depthwise.flops == 2 * 8 * 36 * 9 == whole.flops / 8
    assert "depthwise" in depthwise.label


def test_a_transposed_convolution_by_hand() -> None:
    # (1, 3, 4, 4), 2 filters 4×4 stride 2 padding 1: output (1, 2, 8, 8); every input value meets
    # every weight of its channel once.
    sizes = {"shape": (1, 3, 4, 4), "filters": 2, "kernel": 4, "stride": 2, "padding": 1}
    problem = bench.make_problem(Case("conv_transpose2d", sizes))
    assert problem.reference().shape == (1, 2, 8, 8)
    assert problem.flops == 2 * (3 * 16) * (2 * 16)
    assert problem.nbytes == 4 * (48 + 3 * 2 * 16 + 128)


def test_a_product_and_a_pooling_by_hand() -> None:
    product = bench.make_problem(Case("matmul", {"shape": (3, 4, 5)}), np.float64)
    assert product.flops == 2 * 3 * 4 * 5
    assert product.nbytes == 8 * (12 + 20 + 15)
    assert product.intensity == 120 / 376
    pooling = bench.make_problem(Case("max_pool2d", {"shape": (1, 2, 4, 4), "kernel_size": 2}))
    assert (pooling.flops, pooling.nbytes) == (0, 4 * (32 + 8))
    backward = Case("max_pool2d", {"shape": (1, 2, 4, 4), "kernel_size": 2}, "backward")
    assert bench.make_problem(backward).nbytes == 4 * (8 + 32)


def test_the_reference_is_the_definition() -> None:
    """Against seven nested loops, on a window with everything: the oracle's own oracle."""
    case = Case(
        "conv2d",
        {"shape": (2, 4, 6, 5), "filters": 6, "kernel": (3, 2), "stride": (2, 1),
         "padding": (1, 2), "dilation": (1, 2), "groups": 2},
    )  # fmt: skip
    problem = bench.make_problem(case, np.float64)
    x, w = problem.arrays.values()
    y = problem.reference()
    slow = np.zeros_like(y)
    for n, o, i, j in np.ndindex(*y.shape):
        for c, u, v in np.ndindex(2, 3, 2):
            h, k = i * 2 + u - 1, j + v * 2 - 2
            if 0 <= h < 6 and 0 <= k < 5:
                slow[n, o, i, j] += w[o, c, u, v] * x[n, (o // 3) * 2 + c, h, k]
    np.testing.assert_allclose(y, slow, atol=1e-12)
    # The gradients are the transposes: <A x, y> = <x, Aᵀ y> and = <w, ∂w>.
    window = convolution.window_of(problem)
    gx = convolution.by_taps("wide", x, y, w, window, 2)
    gw = convolution.by_taps("weight", x, y, w, window, 2)
    assert np.vdot(y, y) == pytest.approx(np.vdot(gx, x)) == pytest.approx(np.vdot(gw, w))


@pytest.mark.parametrize("kind", plugins.kinds())
def test_every_kind_solves_its_own_problem(kind: str) -> None:
    """Small cases of all operations and directions: ours agrees with the reference."""
    op, _, direction = kind.partition(".")
    settings = {"shape": (2, 4, 8, 8), "filters": 4, "kernel": 3, "padding": 1, "kernel_size": 2,
                "scale_factor": 2, "mode": "bilinear", "output_size": 3, "regions": 5,
                "spatial_scale": 0.5, "iou_threshold": 0.5}  # fmt: skip
    shapes = {"matmul": (3, 4, 5), "nms": (20,)}
    settings["shape"] = shapes.get(op, settings["shape"])
    if op not in runner.CONVOLUTIONS:
        settings.pop("padding")
    case = Case(op, settings, direction or "forward")
    for dtype in ("float32", "float64"):
        found = runner.run_case(case, runner.Settings(("all",), dtype, rounds=1))
        assert found.kind == kind
        assert not found.refusals
        assert found.ours is not None


@pytest.mark.parametrize("name", suites.SUITES)
def test_suites_can_be_read(name: str) -> None:
    for case in suites.SUITES[name].cases():
        assert case.op in runner.OPS
        assert case.count >= 1
        assert case.name
        assert case.settings["shape"]


def test_resnet50_has_all_layers_of_the_network() -> None:
    lines = suites.SUITES["resnet50"].cases(("forward",))
    assert sum(case.count for case in lines) == 53
    table = cost(models.create("resnet50"), (3, 224, 224), batch=4, backward=False)
    wanted = sum(row.multiply_adds for row in table.rows if row.kind == "Conv2d")
    flops = 0.0
    for case in lines:  # counted without making the arrays of a batch
        n, c, h, w = case.settings["shape"]
        small = Case("conv2d", {**case.settings, "shape": (0, c, h, w)})
        window = convolution.window_of(bench.make_problem(small))
        oh, ow = window.output_size((h, w))
        flops += (
            case.count * 2.0 * n * case.settings["filters"] * oh * ow * c * np.prod(window.kernel)
        )
    assert flops == 2 * wanted


def test_bad_requests_are_named() -> None:
    for case, word in (
        (Case("conv3d", {"shape": (1,)}), "op"),
        (Case("conv2d", {"shape": (1, 2, 3), "kernel": 1}), "shape"),
        (Case("conv2d", {"shape": (1, 2, 3, 3), "kernel": 1}, "backward"), "direction"),
        (Case("conv2d", {"shape": (1, 3, 3, 3), "kernel": 1, "groups": 2}), "groups"),
        (Case("nms", {"shape": (4,), "iou_threshold": 0.5}, "backward"), "direction"),
    ):
        with pytest.raises(ArgumentError, match=word):
            bench.make_problem(case)
    with pytest.raises(ArgumentError, match="algorithm"):
        bench.Settings(("fft",))


def test_the_roof() -> None:
    roof = Roof(flops=100.0, bandwidth=10.0, cache_bandwidth=50.0, method="")
    assert roof.seconds(1000.0, 10.0) == 10.0  # arithmetic limits
    assert roof.seconds(10.0, 1000.0) == 100.0  # memory limits
    measured = measure_roof(trials=1)
    assert min(measured.flops, measured.bandwidth, measured.cache_bandwidth) > 1e7
