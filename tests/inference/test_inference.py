"""Compiled networks give what the networks give, fuse what they say, refuse what they cannot."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import cnncore
from cnncore import Tensor, kernels, nn, no_grad, ops, set_backend
from cnncore.errors import ArgumentError
from cnncore.inference import compile
from cnncore.inference.buffers import Life, place
from cnncore.kernels import blocked, native
from cnncore.models.backbones import ResNetFpn, ResNetSettings
from cnncore.models.segmentation import UNet

RNG = np.random.default_rng(0)


def settled(model: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics and affine parts that are not those of a new layer."""
    rng = np.random.default_rng(1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.FrozenBatchNorm2d)):
            module.running_mean.data[...] = rng.normal(size=module.num_features) * 0.3
            module.running_var.data[...] = rng.uniform(0.5, 2.0, size=module.num_features)
            module.weight.data[...] = rng.uniform(0.5, 1.5, size=module.num_features)
            module.bias.data[...] = rng.normal(size=module.num_features) * 0.2
    return model.eval()


def arrays_of(result: Any) -> list[np.ndarray]:
    if isinstance(result, Tensor):
        return [result.numpy()]
    items = result.values() if isinstance(result, dict) else result
    return [array for item in items for array in arrays_of(item)]


def check(model: nn.Module, *shape: int, dtype: Any = np.float32) -> Any:
    """Compile on one input, compare on others; the compiled network."""
    model = settled(model).to(dtype)
    compiled = compile(model, RNG.normal(size=shape).astype(dtype), verify=False)
    for _ in range(2):
        x = RNG.normal(size=shape).astype(dtype)
        with no_grad():
            wanted = arrays_of(model(Tensor(x)))
        got = arrays_of(compiled(x))
        assert len(got) == len(wanted)
        for y, z in zip(wanted, got, strict=True):
            assert y.shape == z.shape
            assert y.dtype == z.dtype
            tolerance = (1e-5 if dtype == np.float32 else 1e-12) * max(1.0, float(abs(y).max()))
            np.testing.assert_allclose(z, y, rtol=0, atol=tolerance)
    return compiled


def parts(compiled: Any) -> list[tuple[str, ...]]:
    """The ops of every step, changes of layout left out."""
    return [step.parts for step in compiled.report().steps if step.parts != ("Reorder",)]


# --- whole networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unet(dtype: Any) -> None:
    compiled = check(UNet(2, base=4, depth=3), 2, 3, 40, 48, dtype=dtype)
    assert compiled.report().passes["activations fused"] == 14
    assert not any("Normalize" in p and p[0] != "Conv2d" for p in parts(compiled))


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_backbone_with_a_pyramid(norm: str, block: str) -> None:
    """With "group" and "basic" it is that of the small Mask R-CNN."""
    body = ResNetSettings(16, 3, (16, 32, 32, 32), (1, 2, 1, 1), block, norm)
    compiled = check(ResNetFpn(body, 16), 2, 3, 64, 48)
    passes = compiled.report().passes
    # Group norm needs the results of the whole plane: there only the pyramid's sums can be fused.
    assert passes["residual sums fused"] == (3 if norm == "group" else 3 + 5)


class Inverted(nn.Module):
    """An inverted residual with squeeze and excitation."""

    def __init__(self, channels: int, stride: int) -> None:
        wide = 3 * channels
        self.expand = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU(),
            nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.SiLU(),
        )  # fmt: skip
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 4, 1), nn.Hardswish(), nn.Conv2d(4, wide, 1),
            nn.Sigmoid(),
        )  # fmt: skip
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False))
        self.bn = nn.BatchNorm2d(channels)
        self.stride = stride

    def forward(self, x: Any) -> Any:
        y = self.expand(x)
        y = self.bn(self.project(y * self.squeeze(y)))
        return x + y if self.stride == 1 else y


def test_a_mobile_network() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), Inverted(8, 1), Inverted(8, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 5),
    )  # fmt: skip
    compiled = check(model, 2, 3, 33, 31)
    product = ("Mul",) if native.AVAILABLE else ()  # on blocked arrays made by the convolution
    assert (*product, "Conv2d", "Normalize", "Add") in parts(compiled)
    assert ("Conv2d", "Normalize", "Relu6") in parts(compiled)
    assert ("MatMul", "Add") in parts(compiled)
    assert ("Conv2d", "Sigmoid") in parts(compiled)


# --- shapes of graphs -----------------------------------------------------------------------------


class Net(nn.Module):
    """A network from a function and some layers."""

    def __init__(self, forward: Any, **layers: nn.Module) -> None:
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def conv(c: int = 4, o: int = 4, **settings: Any) -> nn.Module:
    return nn.Conv2d(c, o, 3, padding=1, **settings)


GRAPHS: dict[str, Any] = {
    "a result that is read twice keeps its activation apart": lambda: Net(
        lambda m, x: (y := m.a(x)) + ops.relu(y), a=conv()
    ),
    "a result that is returned stays as it is": lambda: Net(
        lambda m, x: [y := m.a(x), ops.relu(y)], a=conv()
    ),
    "one module called three times": lambda: Net(
        lambda m, x: m.a(ops.relu(m.a(ops.relu(m.a(x))))), a=conv()
    ),
    "a convolution added to itself": lambda: Net(lambda m, x: (y := m.a(x)) + y, a=conv()),
    "two convolutions added": lambda: Net(
        lambda m, x: ops.relu(m.a(x) + m.b(x)), a=conv(), b=conv()
    ),
    "the residual is made later than the convolution": lambda: Net(
        lambda m, x: ops.relu(m.a(x) + ops.sigmoid(ops.max_pool2d(x, 3, 1, 1))), a=conv()
    ),
    "the residual is broadcast": lambda: Net(
        lambda m, x: m.a(x) + ops.mean(x, (2, 3), True), a=conv()
    ),
    "activation before the sum": lambda: Net(lambda m, x: ops.relu(m.a(x)) + x, a=conv()),
    "batch norm first": lambda: Net(
        lambda m, x: m.a(ops.relu(m.n(x))), a=conv(), n=nn.BatchNorm2d(4)
    ),
    "batch norm behind an activation": lambda: Net(
        lambda m, x: m.n(ops.relu(m.a(x))), a=conv(), n=nn.BatchNorm2d(4)
    ),
    "two batch norms": lambda: Net(
        lambda m, x: m.n(m.k(m.a(x))), a=conv(), n=nn.BatchNorm2d(4), k=nn.BatchNorm2d(4)
    ),
    "constants around": lambda: Net(
        lambda m, x: 2.0 - m.a((x - 0.5) / 0.25) * np.float32(3.0) + 1.0, a=conv()
    ),
    "transposed, grouped, with batch norm": lambda: Net(
        lambda m, x: ops.relu(m.n(m.a(x))),
        a=nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), n=nn.BatchNorm2d(6),
    ),
    "transposed, depthwise, with a residual": lambda: Net(
        lambda m, x: ops.relu(m.a(x) + x), a=nn.ConvTranspose2d(4, 4, 3, 1, 1, groups=4)
    ),
    "padding of its own": lambda: Net(
        lambda m, x: m.a(ops.pad(x, (0, 1, 2, 1))), a=nn.Conv2d(4, 4, 3, 2)
    ),
    "padding with another number": lambda: Net(
        lambda m, x: m.a(ops.pad(x, (0, 1, 2, 1), value=1.0)), a=nn.Conv2d(4, 4, 3, 2)
    ),
    "cropping": lambda: Net(lambda m, x: m.a(ops.pad(x, (0, -1, 2, 1))), a=conv()),
    "mirrored padding": lambda: Net(
        lambda m, x: m.a(ops.pad(x, (1, 1, 1, 1), "reflect")), a=nn.Conv2d(4, 4, 3)
    ),
    "channels shuffled": lambda: Net(
        lambda m, x: m.b(
            ops.reshape(ops.transpose(ops.reshape(m.a(x), 2, 2, 2, 9, 8), 1, 2), 2, 4, 9, 8)
        ),
        a=conv(groups=2), b=conv(groups=2),
    ),
    "channels split and joined": lambda: Net(
        lambda m, x: ops.cat([m.a(x[:, 2:]), x[:, :2]], 1), a=conv(2, 2)
    ),
    "a learned slope": lambda: Net(lambda m, x: m.p(m.a(x)), a=conv(), p=nn.PReLU(4)),
    "resized": lambda: Net(
        lambda m, x: ops.interpolate(m.a(x), scale_factor=2, mode="bilinear"), a=conv()
    ),
    "dense layers": lambda: Net(
        lambda m, x: ops.softmax(m.b(ops.relu(m.a(ops.flatten(x, 1)))), 1),
        a=nn.Linear(288, 7), b=nn.Linear(7, 3, bias=False),
    ),
    "dense on the last axis": lambda: Net(lambda m, x: m.a(x), a=nn.Linear(8, 3)),
    "local response": lambda: Net(
        lambda m, x: m.n(ops.relu(m.a(x))), a=conv(), n=nn.LocalResponseNorm(3)
    ),
    "no layer at all": lambda: Net(lambda m, x: x),
    "a constant result": lambda: Net(lambda m, x: {"x": m.a(x), "w": m.a.weight * 2.0}, a=conv()),
    "nothing that is used": lambda: Net(lambda m, x: (m.a(x), x * 2.0)[1], a=conv()),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("backend", ["native", "array"])
def test_graphs(name: str, backend: str) -> None:
    if backend == "native" and not native.AVAILABLE:
        pytest.skip(native.REASON)
    set_backend(backend)
    try:
        check(GRAPHS[name](), 2, 4, 9, 8)
    finally:
        set_backend("auto")


def test_what_is_fused_and_what_is_not() -> None:
    def steps(name: str) -> list[tuple[str, ...]]:
        return parts(check(GRAPHS[name](), 2, 4, 9, 8))

    assert steps("two batch norms") == [("Conv2d", "Normalize", "Normalize")]
    assert steps("two convolutions added") == [("Conv2d",), ("Conv2d", "Add", "Relu")]
    assert steps("padding of its own") == [("Pad", "Conv2d")]
    assert steps("batch norm first") == [("Normalize", "Relu"), ("Conv2d",)]
    assert steps("activation before the sum") == [("Conv2d", "Relu"), ("Add",)]
    assert steps("nothing that is used") == [("Mul",)]
    assert steps("one module called three times")[:2] == [("Conv2d", "Relu")] * 2
    assert steps("constants around")[1:] == [("Conv2d", "Mul", "Sub", "Add")]


# --- using it -------------------------------------------------------------------------------------


def test_the_front_door_and_the_report() -> None:
    model = settled(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU()))
    compiled = cnncore.compile(model, np.zeros((1, 4, 5, 6), np.float32))
    text = str(compiled.report())
    assert text.startswith("3 ops -> ")
    assert "1 activations fused" in text
    assert parts(compiled) == [("Conv2d", "Normalize", "Relu")]
    assert "Conv2d + Normalize + Relu  1×4×5×6 -> 1×4×5×6  (0, 1, 2)" in text


def test_the_profile_names_every_step_and_counts_its_products() -> None:
    up = nn.ConvTranspose2d(6, 2, 2, stride=2)
    model = settled(nn.Sequential(conv(4, 6), nn.ReLU(), up))
    compiled = compile(model, np.zeros((2, 4, 5, 7), np.float32))
    profile = compiled.profile(np.zeros((2, 4, 5, 7), np.float32), rounds=2)
    named = [time for time in profile.steps if time.step.parts != ("Reorder",)]
    assert [time.step.parts for time in named] == [("Conv2d", "Relu"), ("ConvTranspose2d",)]
    kernel = model[0].weight.shape[2:]
    # Per pixel all pairs of channels and taps: 3x3 at every result, 2x2 at every pixel read.
    assert kernel == (3, 3)
    assert [time.multiply_adds for time in named] == [70 * 4 * 6 * 9, 70 * 6 * 2 * 4]
    assert all(time.seconds > 0 for time in profile.steps)
    assert str(profile).count("\n") == 1 + len(profile.steps)


def test_empty_batches_and_strange_layouts() -> None:
    model = settled(UNet(2, base=2, depth=1))
    assert compile(model, np.zeros((0, 3, 8, 8), np.float32))(
        np.zeros((0, 3, 8, 8), np.float32)
    ).shape == (0, 2, 8, 8)
    x = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    compiled = compile(model, x)
    turned = np.asfortranarray(x)
    np.testing.assert_array_equal(compiled(turned).numpy(), compiled(x).numpy())
    assert np.isnan(compiled(np.full_like(x, np.nan)).numpy()).any()


def test_results_are_the_callers() -> None:
    compiled = compile(settled(conv()), np.zeros((1, 4, 5, 5), np.float32))
    x = RNG.normal(size=(1, 4, 5, 5)).astype(np.float32)
    first = compiled(x).numpy()
    kept = first.copy()
    compiled(-x)
    np.testing.assert_array_equal(first, kept)


def test_weights_are_copied() -> None:
    model = settled(conv())
    x = RNG.normal(size=(1, 4, 5, 5)).astype(np.float32)
    for backend in ("native", "array") if native.AVAILABLE else ("array",):
        set_backend(backend)
        try:
            compiled = compile(model, x)
            before = compiled(x).numpy()
            model.weight.data[...] += 1
            np.testing.assert_array_equal(compiled(x).numpy(), before)
        finally:
            set_backend("auto")


def test_threads_take_turns() -> None:
    model = settled(UNet(2, base=4, depth=2))
    inputs = RNG.normal(size=(8, 1, 3, 24, 24)).astype(np.float32)
    compiled = compile(model, inputs[0])
    wanted = [compiled(x).numpy() for x in inputs]
    wrong: list[int] = []

    def run(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(compiled(inputs[i]).numpy(), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(
    not native.AVAILABLE or blocked.block_lanes(np.dtype(np.float32)) < 16,
    reason="about blocks that six channels do not fill by half",
)
@pytest.mark.parametrize(("channels", "steps"), [(6, 0), (16, 2)])
def test_planes_of_few_channels_are_not_turned_into_blocks(channels: int, steps: int) -> None:
    layers = nn.Conv2d(1, channels, 5), nn.ReLU(), nn.Conv2d(channels, 16, 5)
    model, x = settled(nn.Sequential(*layers)), RNG.normal(size=(2, 1, 20, 20)).astype(np.float32)
    compiled = compile(model, x)
    assert compiled.report().passes["steps on blocked arrays"] == steps
    np.testing.assert_allclose(compiled(x).numpy(), model(x).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not native.AVAILABLE, reason="about the native memory pool")
def test_a_run_takes_no_memory_but_its_results() -> None:
    a, b, c = (conv(16, 16) for _ in range(3))
    model = settled(nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c))
    x = np.zeros((4, 16, 32, 32), np.float32)
    compiled = compile(model, x)
    compiled(x)
    before = native.memory_stats()["in_use"]
    y = compiled(x)
    held = native.memory_stats()["in_use"] - before
    if native.memory_stats()["enabled"]:
        assert y.data.nbytes <= held <= 1.125 * y.data.nbytes + 512
    # Two buffers in turns: no value lives longer than until the next one is there.
    assert compiled.buffer_bytes == 2 * x.nbytes


@pytest.mark.skipif(not native.AVAILABLE, reason="about the native memory pool")
def test_the_report_says_how_much_memory_is_saved() -> None:
    body = ResNetSettings(32, 3, (32, 32, 32, 32), (1, 1, 1, 1), "bottleneck", "frozen")
    model = settled(ResNetFpn(body, 32))
    threads = native.get_num_threads()
    native.set_num_threads(1)  # working space of kernels is held once a thread
    try:
        report = compile(model, np.zeros((4, 3, 96, 96), np.float32)).report()
    finally:
        native.set_num_threads(threads)
    if native.memory_stats()["enabled"]:
        assert report.buffer_bytes < report.peak_after < 0.8 * report.peak_before
        assert "before" in str(report)


# --- refusals -------------------------------------------------------------------------------------


class Suppressing(nn.Module):
    def forward(self, x: Any) -> Any:
        boxes = np.abs(x.data.reshape(-1, 4))
        boxes[:, 2:] += boxes[:, :2]
        return x.reshape(-1, 4)[kernels.nms(boxes, x.data.reshape(-1, 4)[:, 0].copy(), 0.1)]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Suppressing(), "GetItem"),
        (
            Net(
                lambda m, x: ops.max_unpool2d(*ops.max_pool2d(m.a(x), 2, return_indices=True), 2),
                a=conv(),
            ),
            "MaxUnpool2d of a second result",
        ),
        (Net(lambda m, x: ops.where(x.data > 0.3, x, 0.0)), "Where"),
        (Net(lambda m, x: ops.roi_align(x, [np.sort(x.data[0, 0, :5, :4])], 2)), "RoiAlign"),
        (Net(lambda m, x: x * float(x.data.max())), "Mul of a value computed outside"),
        (Net(lambda m, x: ops.max_pool2d(x, 2, return_indices=True)[1]), "switches"),
        (Net(lambda m, x: x if x.data.min() > 0.1 else x * 2.0), "number of ops"),
        (Net(lambda m, x: 3), "returns tensors"),
    ],
)
def test_what_depends_on_values_is_refused_by_name(model: nn.Module, words: str) -> None:
    x = np.random.default_rng(3).uniform(0.2, 1.0, size=(1, 4, 8, 8)).astype(np.float32)
    with pytest.raises(ArgumentError, match=words):
        compile(model.eval(), x)


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"model\.eval\(\)"):
        compile(conv().train(), np.zeros((1, 4, 5, 5), np.float32))


def test_wrong_inputs() -> None:
    compiled = compile(settled(conv()), np.zeros((1, 4, 5, 5), np.float32))
    with pytest.raises(ArgumentError, match=r"\(1, 4, 5, 5\)"):
        compiled(np.zeros((2, 4, 5, 5), np.float32))
    with pytest.raises(ArgumentError, match="dtype"):
        compiled(np.zeros((1, 4, 5, 5)))
    with pytest.raises(ArgumentError, match="1 of them"):
        compiled()
    with pytest.raises(ArgumentError, match="shape compiled for"):
        compiled("x")


# --- buffers --------------------------------------------------------------------------------------


def test_values_that_live_together_never_overlap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        lives = [
            Life(int(size), int(first), int(first + length))
            for size, first, length in rng.integers(1, (1000, 12, 5), size=(12, 3))
        ]
        offsets, total = place(lives)
        alive = [sum(v.size for v in lives if v.first <= t <= v.last) for t in range(20)]
        assert max(alive) <= total <= sum(v.size + 64 for v in lives)
        for i, a in enumerate(lives):
            assert offsets[i] % 64 == 0
            assert offsets[i] + a.size <= total
            for j, b in enumerate(lives[:i]):
                if a.first <= b.last and b.first <= a.last:
                    apart = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
                    assert apart, (a, b)
