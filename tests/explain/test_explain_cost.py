"""Costs predicted from shapes: the classic worked example, counts by hand, measured memory."""

from __future__ import annotations

import time
import tracemalloc
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from cnncore import Tensor, models, nn, ops
from cnncore.autograd import observe
from cnncore.errors import ArgumentError
from cnncore.explain import cost
from cnncore.explain.memory import total_of
from cnncore.kernels import native


def classic() -> nn.Module:
    """200 filters of 5×5, stride 1, "same", on a 150×100 RGB image."""
    with nn.shapes_only():
        return nn.Conv2d(3, 200, 5, stride=1, padding="same")


def test_the_classic_example() -> None:
    one = cost(classic(), (3, 100, 150))
    assert one.total("parameters") == 15_200
    assert one.total("multiply_adds") == 225_000_000
    assert one.rows[0].activation_bytes == 12_000_000
    assert one.rows[0].output_shape == (1, 200, 100, 150)

    start = time.perf_counter()
    hundred = cost(classic(), (3, 100, 150), batch=100)
    assert time.perf_counter() - start < 1.0  # nothing was computed
    assert hundred.rows[0].activation_bytes == 1_200_000_000
    assert hundred.training_bytes == 1_200_000_000
    assert "1,200.00 MB" in str(hundred)
    assert hundred.total("parameters") == 15_200


def test_inference_needs_two_layers_and_training_all() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 8, 1), nn.Flatten(), nn.Linear(32, 3))
    table = cost(model, (1, 2, 2), batch=5)
    results = [5 * n * 4 for n in (4, 8, 32, 3, 3)]  # input, convs, product, with bias
    assert table.training_bytes == sum(results[1:])
    assert table.inference_bytes == 5 * (8 + 32) * 4
    assert [row.name for row in table.rows] == ["0", "1", "2", "3"]
    assert table.rows[2].activation_bytes == 0  # flattening is a view
    assert table.parameter_bytes == 4 * model.num_parameters()


def test_prediction_and_real_run_agree_and_leave_the_model_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    )
    before = model.state_dict()
    predicted, timed = cost(model, (3, 12, 10), 4), cost(model, (3, 12, 10), 4, timed=True)
    assert not predicted.timed
    assert timed.timed
    assert all(row.forward_seconds > 0 for row in timed.rows)
    for a, b in zip(predicted.rows, timed.rows, strict=True):
        a.forward_seconds, a.backward_seconds = b.forward_seconds, b.backward_seconds
        assert a == b
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    assert all(p.grad is None for p in model.parameters())


def test_without_backward_nothing_is_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    forward, training = (cost(model, (3, 32, 32), 2, backward=b) for b in (False, True))
    assert forward.total("kept_bytes") == 0
    assert training.total("kept_bytes") > 0
    assert forward.peak_bytes < training.peak_bytes
    extra = 4 * model.num_parameters() + 2 * 3 * 32 * 32 * 4  # the weights, and the caller's input
    assert forward.peak_bytes == extra + forward.inference_bytes


def test_shapes_that_depend_on_values_are_refused() -> None:
    class Picky(nn.Module):
        def forward(self, x: Any) -> Any:
            from cnncore import kernels

            boxes = np.zeros((2, 4), np.float32)
            return x[kernels.nms(boxes, boxes[:, 0], 0.5)]

    with pytest.raises(ArgumentError, match="nms"):
        cost(Picky(), (3, 4, 4))


# --- as text, as a page, as a data frame ----------------------------------------------------------


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_html_holds_the_same_cells() -> None:
    table = cost(nn.Sequential({"a<b": nn.Conv2d(1, 2, 1)}), (1, 3, 3))
    parser = _Cells()
    parser.feed(table.html())
    cells = [[cell for cell in line if cell] for line in map(list, table.cells())]
    assert [[c for c in row if c] for row in parser.rows] == cells
    assert parser.rows[1][0] == "a<b"
    assert "a<b" not in table.html()
    assert not parser.open


def test_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = cost(classic(), (3, 100, 150)).frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.parameters.tolist() == [15_200]
    assert "forward_seconds" not in frame


# --- the peak, against the memory pool ------------------------------------------------------------


# Name, settings, images.  Of real size: what kernels use while they run (up to 10 MB, mostly
# Winograd's transforms) is not predicted.
NETWORKS = [
    ("resnet18", {}, (8, 3, 128, 128)),
    ("mobilenet_v2", {}, (8, 3, 128, 128)),
    ("googlenet", {}, (8, 3, 128, 128)),
    ("efficientnet_b0", {}, (8, 3, 128, 128)),
    ("unet", {"num_classes": 11, "base": 16}, (4, 3, 128, 128)),
    ("segnet_basic", {"num_classes": 11}, (2, 3, 90, 120)),
]


def measured_peak(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Weights, input, and the most that pool and NumPy held at once during a training step."""
    x = Tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    total_of(model(x)).backward()
    model.zero_grad()
    moments = []
    before = native.memory_stats()["in_use"]
    native.reset_memory_peak()
    tracemalloc.start(1)
    start = tracemalloc.get_traced_memory()[0]

    def look(_: Any) -> None:
        from_numpy = tracemalloc.get_traced_memory()[0] - start
        moments.append(native.memory_stats()["in_use"] + from_numpy)

    try:
        with observe(look):
            total_of(model(x)).backward()
    finally:
        tracemalloc.stop()
    moments.append(native.memory_stats()["peak"])
    state = sum(int(t.data.nbytes) for t in (*model.parameters(), *model.buffers()))
    return max(moments) - before + state + int(x.data.nbytes)


@pytest.mark.skipif(not native.AVAILABLE, reason="measures the native memory pool")
@pytest.mark.parametrize(("name", "settings", "shape"), NETWORKS)
def test_the_predicted_peak_is_within_ten_percent(name, settings, shape) -> None:
    if not native.memory_stats()["enabled"]:
        pytest.skip("the memory pool is off")
    nn.init.seed(0)
    model = models.create(name, **settings)
    predicted = cost(model, shape[1:], batch=shape[0]).peak_bytes
    measured = measured_peak(model, shape)
    assert predicted == pytest.approx(measured, rel=0.10), f"{predicted / measured:.3f}"


def test_an_op_that_numpy_computes_is_counted_too() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Any) -> Any:
            return ops.cat([x, x], 1)

    table = cost(Doubled(), (3, 10, 10), backward=False)
    assert table.peak_bytes == 4 * 300 + 4 * 600
