"""The benchmark's peers solve the same problems, and its PyTorch networks are the same networks."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from cnncore import bench
from cnncore.bench import networks, plugins, runner


@pytest.mark.parametrize("kind", plugins.kinds())
def test_peers_agree_with_the_reference(kind: str) -> None:
    op, _, direction = kind.partition(".")
    settings = {"shape": (2, 4, 8, 8), "filters": 6, "kernel": 3, "stride": 2, "kernel_size": 2,
                "groups": 2, "scale_factor": 2, "mode": "bilinear", "output_size": 3, "regions": 5,
                "spatial_scale": 0.5, "iou_threshold": 0.5, "aligned": True}  # fmt: skip
    shapes = {"matmul": (3, 4, 5), "nms": (20,)}
    settings["shape"] = shapes.get(op, settings["shape"])
    peers, missing = bench.find_peers(("torch", "onnxruntime", "numpy"), 1)
    assert not missing
    case = bench.Case(op, settings, direction or "forward")
    found = runner.run_case(case, runner.Settings(("all",), rounds=1), peers)
    assert not found.refusals
    assert found.best_peer is not None
    if op in runner.CONVOLUTIONS:
        names = {row.name for row in found.timed if row.who == "peer"}
        assert {"torch NCHW", "torch channels_last", "numpy"} <= names


@pytest.mark.parametrize("name", ["lenet5", "mobilenet_v2", "maskrcnn_small"])
def test_networks_have_the_same_loss_and_gradients(name: str) -> None:
    (network,) = (n for n in networks.NETWORKS if n.name == name)
    size = 128 if name == "maskrcnn_small" else network.shape[2] if name == "lenet5" else 64
    small = networks.Network(
        name, (2, network.shape[1], size, size), network.classes, network.settings
    )
    assert networks.verified_in_float64(small) == ""
