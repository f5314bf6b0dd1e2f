"""Goals: which cases count, and what is made of their times."""

from __future__ import annotations

import pytest

from cnncore.bench.goals import findings, goals_table
from cnncore.bench.measure import Timing
from cnncore.bench.results import CaseResult, NetworkResult, Results, Row
from cnncore.bench.roof import Roof


def row(name: str, seconds: float, algorithm: str = "") -> Row:
    who = "ours" if name == "cnncore" else "peer"
    return Row(name, who, algorithm, 0.0, Timing(seconds, seconds, seconds, 1))


def case(label: str, ours: float, count: int = 1, suite: str = "", **peers: float) -> CaseResult:
    kind = label.split()[0]
    if "gradient" in label:
        kind += f".{label.split()[1]}"
    rows = (row("cnncore", ours, "auto (direct)"), *(row(k, v) for k, v in peers.items()))
    return CaseResult(suite, kind, label, "", count, 1.0, 1.0, "", 1.0, rows)


def results(*cases: CaseResult, networks: tuple[NetworkResult, ...] = ()) -> Results:
    roof = Roof(1.0, 1.0, 1.0, "")
    return Results("", "", "", {}, {}, roof, list(cases), list(networks))


def measured(*cases: CaseResult, networks: tuple[NetworkResult, ...] = ()):
    return {(f.what, f.peer): f for f in findings(results(*cases, networks=networks))}


def test_a_goal_is_the_geometric_mean_over_the_cases_it_describes_each_once() -> None:
    plain = "conv2d 4×8×9×9 → 8, 3×3"
    found = measured(
        case(plain, 1.0, torch=2.0),
        case(plain, 1.0, torch=2.0, suite="another"),
        case("conv2d 4×16×9×9 → 8, 3×3", 1.0, torch=8.0, onnxruntime=0.1),
        case("conv2d 4×8×9×9 → 8, 3×3 d2", 1.0, torch=100.0),
        case("conv2d 4×8×9×9 → 8, 3×3 depthwise", 1.0, torch=3.0),
        case("conv2d 4×8×9×9 → 8, 3×3 s2 depthwise", 1.0, torch=3.0),
        case("conv2d 4×8×9×9 → 8, 3×3 s2", 1.0, torch=0.5),
    )
    ratios = {what: (f.ratio, f.lowest, f.count) for (what, _), f in found.items()}
    assert ratios == {
        "3×3 stride 1": (pytest.approx(4.0), 2.0, 2),
        "depthwise": (pytest.approx(3.0), 3.0, 2),
        "stem and stride 2": (0.5, 0.5, 1),
    }


def test_layers_are_added_up_as_often_as_the_network_has_them() -> None:
    forward = [
        case("conv2d 4×8×9×9 → 8, 7×7", 1.0, 1, "resnet50", torch=1.0),
        case("conv2d 4×8×9×9 → 8, 5×5", 1.0, 9, "resnet50", torch=2.0),
    ]
    found = measured(*forward)
    assert found["all convolutions of ResNet-50", "torch"].ratio == pytest.approx(19 / 10)
    assert ("all convolutions of ResNet-50, with gradients", "torch") not in found
    gradients = [
        case(f"conv2d {which} gradient 4×8×9×9 → 8, 5×5", 5.0, 1, "resnet50", torch=0.5)
        for which in ("input", "weight")
    ]
    found = measured(*forward, *gradients)
    whole = found["all convolutions of ResNet-50, with gradients", "torch"]
    assert whole.ratio == pytest.approx(20 / 20)


def test_one_case_below_the_floor_fails_a_goal() -> None:
    good = case("conv2d 4×8×9×9 → 8, 1×1", 1.0, torch=4.0)
    bad = case("conv2d 4×8×9×9 → 9, 1×1", 1.0, torch=0.89)
    assert measured(good)["1×1", "torch"].reached
    assert not measured(good, bad)["1×1", "torch"].reached
    assert "| 1.89 | 0.89 | 2 |" in "\n".join(goals_table(results(good, bad)))


def test_steps_and_their_memory_are_compared_with_the_best_format() -> None:
    rows = (row("cnncore", 1.0), row("torch NCHW", 3.0), row("torch channels_last", 2.0))
    peaks = {"cnncore": 10.0, "torch NCHW": 9.0, "torch channels_last": 30.0}
    step = NetworkResult("unet", "training", "", rows, peaks)
    found = measured(networks=(step, NetworkResult("unet", "inference", "", rows)))
    assert found["training step, unet", "torch"].ratio == 2.0
    assert found["training step, unet", "torch"].reached
    assert found["peak memory of a step, unet", "torch"].ratio == 0.9
    assert len(found) == 2
