"""Whole networks: a training step and inference, beside the same network in PyTorch.

Both have the same weights and the same batch.  Before anything is timed, the loss and the gradient
of every parameter are compared, once in float64, where they must agree closely, and once in float32
as timed, where a hundred layers of rounding are allowed for.  A training step is forward, loss,
backward and SGD with momentum; inference runs in evaluation mode without a graph, and once more
compiled by ``cnncore.compile`` (PyTorch's side stays as it is: ``torch.compile`` builds C++).
Dropout is off: it would draw different numbers.

Detectors draw anchors and regions at random while training.  Here they are drawn once, by our
sampler, and given to both, so that what is timed is the network and not the drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnncore import inference, models, ops
from cnncore.autograd import Tensor, no_grad
from cnncore.bench.measure import PAUSE, interleaved
from cnncore.bench.memory import peak_of_step
from cnncore.bench.results import NetworkResult, Row
from cnncore.errors import ArgumentError
from cnncore.models.segmentation import Segmenter
from cnncore.nn import Module, init
from cnncore.optim import SGD
from cnncore.vision.masks import crop_masks

# Largest deviation of the loss and of a parameter's gradient.
TOLERANCE = {"float64": (1e-10, 1e-6), "float32": (1e-4, 5e-2)}
RATE, MOMENTUM = 1e-4, 0.9
JOBS = ("inference", "compiled", "training")  # in this order: training changes the weights


@dataclass(frozen=True)
class Network:
    """A network and its batch ``(N, C, H, W)``; ``model``: in ``models``, its name if not said."""

    name: str
    shape: tuple[int, int, int, int]
    classes: int = 1000
    settings: Mapping[str, Any] = field(default_factory=dict)
    jobs: tuple[str, ...] = JOBS
    model: str = ""

    @property
    def detail(self) -> str:
        """``batch 4 at 224×224``"""
        n, _, h, w = self.shape
        return f"batch {n} at {h}×{w}"


NETWORKS = (
    Network("lenet5", (64, 1, 32, 32), 10, {"variant": "modern"}),
    Network("resnet50", (4, 3, 224, 224)),
    Network("vgg16", (2, 3, 224, 224), settings={"dropout": 0.0}),
    Network("mobilenet_v2", (4, 3, 224, 224), settings={"dropout": 0.0}),
    Network("unet", (1, 3, 256, 256), 21),
    Network("maskrcnn_small", (8, 3, 128, 128), 10, jobs=("training",)),  # make demo
    Network(  # cnncore train unet
        *("unet_scenes", (4, 3, 64, 64), 11, {"base": 16, "norm": "group"}, ("training",), "unet")
    ),
)


def find(names: str = "") -> list[Network]:
    """The networks whose name begins with a text."""
    found = [network for network in NETWORKS if network.name.startswith(names)]
    if not found:
        raise ArgumentError(
            "only", f"the beginning of one of {[n.name for n in NETWORKS]}", repr(names)
        )
    return found


@dataclass(frozen=True)
class Data:
    """The batch, what the loss compares with, and what a detector's sampler has drawn."""

    x: Any
    target: Any = None
    sample: Any = None
    plan: Mapping[str, Any] = field(default_factory=dict)

    def to(self, dtype: str) -> Data:
        """Its floating-point arrays in a dtype."""
        plan = {k: a.astype(dtype) if a.dtype.kind == "f" else a for k, a in self.plan.items()}
        return Data(self.x.astype(dtype), self.target, self.sample, plan)


class Ours:
    """Our side of a network."""

    def __init__(self, network: Network, dtype: str = "float32") -> None:
        init.seed(0)
        self.network, self.dtype = network, dtype
        name = network.model or network.name
        self.model: Module = models.create(name, network.classes, **network.settings)
        self.data = _data(network, self.model).to(dtype)
        self.model.to(np.dtype(dtype))
        self.x = Tensor(self.data.x)

    def prepare(self, job: str) -> None:
        """Training or evaluation mode, and a fresh optimiser."""
        self.model.train() if job == "training" else self.model.eval()
        self.forward: Callable[[Tensor], Any] = self.model
        if job == "compiled":
            self.forward = inference.compile(self.model, self.x)
        self.optimizer = SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM)

    def loss(self) -> Tensor:
        """Forward pass and loss."""
        if self.data.sample is not None:
            return detector_loss(self.model, self.x, self.data)
        loss: Tensor = ops.cross_entropy(self.model(self.x), self.data.target)
        return loss

    def gradients(self) -> tuple[float, dict[str, Any]]:
        """The loss and the gradient of every parameter."""
        self.model.zero_grad()
        loss = self.loss()
        loss.backward()
        return float(loss.numpy()), {
            name: p.grad.numpy() for name, p in self.model.named_parameters() if p.grad is not None
        }

    def step(self) -> None:
        """One step of training."""
        self.model.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def infer(self) -> Any:
        """One forward pass in evaluation mode."""
        with no_grad():
            return self.forward(self.x)


def _data(network: Network, model: Any) -> Data:
    rng = np.random.default_rng(0)
    n, _, h, w = network.shape
    if network.name.startswith("maskrcnn"):
        from cnncore.bench.scenes import scene_data

        return scene_data(network.shape[0], model)
    x = rng.normal(size=network.shape).astype(np.float32)
    pixels = (h, w) if isinstance(model, Segmenter) else ()
    return Data(x, rng.integers(0, network.classes, (n, *pixels)))


def detector_loss(model: Any, x: Tensor, data: Data) -> Tensor:
    """The five terms of Mask R-CNN's loss on what was drawn once."""
    plan, sample, heads = data.plan, data.sample, model.roi_heads
    outputs = model(x)
    features = outputs.features[:4]
    picked = outputs.rpn.objectness.reshape((-1,))[plan["anchors"]]
    loss = ops.binary_cross_entropy_with_logits(picked, plan["object"])
    moved = outputs.rpn.deltas.reshape((-1, 4))[plan["positive_anchors"]]
    shift = ops.smooth_l1_loss(moved, plan["anchor_deltas"], reduction="sum", beta=1 / 9)
    loss = loss + shift * (1 / len(plan["anchors"]))
    logits, deltas = heads.boxes(features, sample.regions)
    loss = loss + ops.cross_entropy(logits, plan["labels"])
    right = deltas[plan["positive"], plan["classes"]]
    shift = ops.smooth_l1_loss(right, plan["deltas"], reduction="sum", beta=1 / 9)
    loss = loss + shift * (1 / len(sample.regions))
    masks = heads.masks(features, sample.regions[sample.positive], plan["classes"])
    total: Tensor = loss + ops.binary_cross_entropy_with_logits(masks, plan["masks"])
    return total


# --- PyTorch's side -------------------------------------------------------------------------------


class Theirs:
    """The same network in PyTorch, in one of its memory formats."""

    def __init__(self, ours: Ours, layout: str) -> None:
        import torch

        from cnncore.bench import torch_networks

        self.torch = torch
        shape = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self.model = torch_networks.build(ours.network.name, ours.model.state_dict())
        self.model = self.model.to(memory_format=shape)
        self.x = torch.from_numpy(ours.data.x.copy()).to(memory_format=shape)
        self.plan: Any = None
        self.target: Any = None
        if ours.data.sample is None:
            self.target = torch.from_numpy(ours.data.target)
        else:
            from cnncore.bench.scenes import torch_plan

            self.plan = torch_plan(ours.data, self.x.shape)

    def prepare(self, job: str) -> None:
        """Training or evaluation mode, and a fresh optimiser."""
        self.model.train(job == "training")
        parameters = self.model.parameters()
        self.optimizer = self.torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM)

    def loss(self) -> Any:
        """Forward pass and loss."""
        if self.plan is not None:
            return self.model(self.x, self.plan)
        return self.torch.nn.functional.cross_entropy(self.model(self.x), self.target)

    def gradients(self) -> tuple[float, dict[str, Any]]:
        """The loss and the gradient of every parameter."""
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return float(loss.detach()), {
            name: p.grad.contiguous().numpy() for name, p in self.model.named_parameters()
        }

    def step(self) -> None:
        """One step of training."""
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def infer(self) -> Any:
        """One forward pass in evaluation mode."""
        with self.torch.inference_mode():
            return self.model(self.x)


# --- verify, then time ----------------------------------------------------------------------------


def run_network(
    network: Network, rounds: int, torch: bool, threads: int, memory: bool = True
) -> Iterator[NetworkResult]:
    """A result for each job; without ``torch``, ours alone and unverified, which its rows say."""
    exact = verified_in_float64(network) if torch else ""
    ours = Ours(network)
    peers: dict[str, Theirs] = {}
    if torch:
        peers = {f"torch {layout}": Theirs(ours, layout) for layout in ("NCHW", "channels_last")}
    for job in network.jobs:
        ours.prepare(job)
        for side in peers.values():
            side.prepare(job)
        errors = {name: agreement(ours, side, job) for name, side in peers.items()}
        if exact:
            errors["in float64"] = (1.0, exact)
        yield _timed(network, job, ours, peers, errors, rounds, threads, memory)


def _timed(
    network: Network, job: str, ours: Ours, peers: Mapping[str, Theirs],
    errors: Mapping[str, tuple[float, str]], rounds: int, threads: int, memory: bool,
) -> NetworkResult:  # fmt: skip
    wrong = "; ".join(f"{name}: {note}" for name, (_, note) in errors.items() if note)
    if wrong:
        row = Row("cnncore", "ours", note=f"refused: {wrong}", refused=True)
        return NetworkResult(network.name, job, network.detail, (row,))
    runs: dict[str, Callable[[], Any]] = {"cnncore": ours.step if job == "training" else ours.infer}
    for name, side in peers.items():
        runs[name] = side.step if job == "training" else side.infer
    timings = interleaved(runs, rounds, lambda name: 0.0 if name == "cnncore" else PAUSE)
    worst = max((error for error, _ in errors.values()), default=None)
    rows = [Row("cnncore", "ours", "", worst, timings["cnncore"])]
    rows += [Row(name, "peer", "", errors[name][0], timings[name]) for name in peers]
    peak: dict[str, float] = {}
    if memory and job == "training":
        for who in ("cnncore", *peers):
            found = peak_of_step(network.name, who, threads)
            if found is not None:
                peak[who] = found
    return NetworkResult(network.name, job, network.detail, tuple(rows), peak)


def verified_in_float64(network: Network) -> str:
    """What is wrong with loss or gradients in double precision, or ""."""
    ours = Ours(network, "float64")
    theirs = Theirs(ours, "NCHW")
    ours.prepare("training")
    theirs.prepare("training")
    return agreement(ours, theirs, "training")[1]


def agreement(ours: Ours, peer: Theirs, job: str) -> tuple[float, str]:
    """(largest deviation, what is wrong or "")."""
    if job != "training":
        mine, other = ours.infer().numpy(), peer.infer().numpy()
        worst = float(np.abs(mine - other).max() / np.abs(other).max())
        return worst, "" if worst <= 1e-3 else f"results deviate by {worst:.1e}"
    (loss, gradients), (other_loss, others) = ours.gradients(), peer.gradients()
    return compare_gradients(loss, gradients, other_loss, others, TOLERANCE[ours.dtype])


def compare_gradients(
    loss: float,
    gradients: Mapping[str, Any],
    other_loss: float,
    others: Mapping[str, Any],
    allowed: tuple[float, float] = TOLERANCE["float32"],
) -> tuple[float, str]:
    """The worst deviation of a parameter's gradient, and what is wrong, if anything.

    Deviation: length of the difference over that of the gradient.  Where a gradient is as good as
    zero (less than a thousandth of the average), the average length stands in.
    """
    off = abs(loss - other_loss) / max(abs(other_loss), 1e-12)
    if not off <= allowed[0]:
        return off, f"the losses are {loss:.6g} and {other_loss:.6g}"
    if set(gradients) != set(others):
        return 1.0, f"only one side has a gradient of {sorted(set(gradients) ^ set(others))[:3]}"
    lengths = {name: float(np.linalg.norm(g)) for name, g in others.items()}
    floor = 1e-3 * float(np.mean(list(lengths.values())))
    worst, where = 0.0, ""
    for name, gradient in gradients.items():
        error = float(np.linalg.norm(gradient - others[name])) / max(lengths[name], floor)
        error = np.inf if np.isnan(error) else error  # NaN would lose every comparison after it
        if error > worst:
            worst, where = error, name
    wrong = not worst <= allowed[1]
    return worst, f"the gradients of {where} deviate by {worst:.1e}" if wrong else ""


def crop(sample: Any, targets: Any, size: int) -> Any:
    """What the mask head should say of every positive region."""
    regions = sample.regions[sample.positive]
    wanted = np.empty((len(regions), size, size), np.float32)
    for image in np.unique(regions.image):
        rows = np.flatnonzero(regions.image == image)
        wanted[rows] = crop_masks(
            targets[image].masks, regions.boxes[rows], sample.truth[rows], size
        )
    return wanted
