"""The tables in the documents that are made from the code: networks, operators of ONNX, kernels.

python docs/tables.py    writes them between their marks; tests/test_tables.py holds them current
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from cnncore import io, models
from cnncore.explain import cost
from cnncore.kernels import cuda, dispatch
from cnncore.models.classification import VARIANTS
from cnncore.nn import Module, Sequential
from cnncore.onnx.registry import NEWEST, OPERATORS
from cnncore.train.detection import AFTER, DETECTION
from cnncore.train.segmentation import CLASSES, SYSTEMS

ROOT = Path(__file__).resolve().parents[1]

STATED = ROOT / "docs" / "segmentation.json"  # benchmarks/segmentation_training.py writes it
DETECTORS_STATED = ROOT / "docs" / "detection.json"  # benchmarks/detection_training.py this

# --- networks -------------------------------------------------------------------------------------

# What was verified, and by which tests; README.md says it in words.
SHAPES = "S"  # tests/models/*/test_*_tables.py
WHOLE = "F"  # tests/parity/test_parity_*: logits and a training step's gradients
RUNTIME = "O"  # tests/parity/test_parity_onnx.py: ONNX Runtime on the exported file
PHOTOGRAPHS = "P"  # tests/test_cli_predict.py: the public weights on real photographs
TRAINED = "T"  # tests/train: trained here to a score that the README states

TRAINED_HERE = {"lenet5", "unet", "maskrcnn_small"}
# Settings that differ from a thousand classes.
SETTINGS = {"lenet5": {"num_classes": 10}}
VOC = {"num_classes": 21}
COCO = {"num_classes": 90}
TERNAUSNET = "ternausnet; VGG for its encoder"
# Networks that are no classifiers: input, settings, whose keys, what was verified.
OTHERS = {
    "fasterrcnn_resnet50_fpn": ((3, 800, 800), COCO, "torchvision", SHAPES + WHOLE),
    "maskrcnn_resnet50_fpn": ((3, 800, 800), COCO, "torchvision", SHAPES + WHOLE + RUNTIME),
    "keypointrcnn_resnet50_fpn": ((3, 800, 800), {"num_classes": 1}, "torchvision", SHAPES + WHOLE),
    "retinanet_resnet50_fpn": ((3, 800, 800), COCO, "torchvision", SHAPES + WHOLE),
    "rfcn_resnet50": ((3, 600, 1000), {"num_classes": 20}, "", SHAPES),
    "rfcn_resnet101": ((3, 600, 1000), {"num_classes": 20}, "", SHAPES),
    "ssd300_vgg16": ((3, 300, 300), COCO, "torchvision", SHAPES + WHOLE),
    "ssd512_vgg16": ((3, 512, 512), COCO, "", SHAPES),
    "yolo_v1": ((3, 448, 448), {"num_classes": 20}, "", SHAPES),
    "yolo_v1_tiny": ((3, 448, 448), {"num_classes": 20}, "", SHAPES),
    "rcnn_alexnet": ((3, 227, 227), {"num_classes": 20}, "", SHAPES),
    "sppnet_zf5": ((3, 688, 917), {"num_classes": 20}, "", SHAPES),
    "fastrcnn_vgg16": ((3, 600, 1000), {"num_classes": 20}, "", SHAPES),
    "fasterrcnn_vgg16": ((3, 600, 1000), {"num_classes": 20}, "", SHAPES),
    "maskrcnn_small": ((3, 128, 128), {"num_classes": 10}, "", RUNTIME),
    "rcnn_small": ((3, 36, 36), {"num_classes": 10}, "", ""),
    **{
        f"{name}_small": ((3, 128, 128), {"num_classes": 10}, "", "")
        for name in ("fasterrcnn", "fastrcnn", "retinanet", "rfcn", "sppnet", "ssd", "yolo")
    },
    "sliding_window": ((3, 64, 64), {"num_classes": 11}, "", RUNTIME),
    "unet": ((3, 128, 128), {"num_classes": 11}, "milesial Pytorch-UNet", SHAPES + RUNTIME),
    **{f"fcn{s}s": ((3, 500, 500), VOC, "torchfcn", SHAPES + RUNTIME) for s in (8, 16, 32)},
    "fcn_alexnet": ((3, 500, 500), VOC, "", SHAPES + RUNTIME),
    **{
        name: ((3, 520, 520), VOC, f"torchvision {name}", SHAPES + WHOLE + RUNTIME)
        for head in ("fcn", "deeplabv3")
        for name in (f"{head}_resnet50", f"{head}_resnet101")
    },
    "deconvnet": ((3, 224, 224), VOC, "", SHAPES + RUNTIME),
    "segnet": ((3, 360, 480), {"num_classes": 11}, "", SHAPES + RUNTIME),
    "segnet_basic": ((3, 360, 480), {"num_classes": 11}, "", SHAPES + RUNTIME),
    **{
        name: ((3, 256, 256), {"num_classes": 1}, TERNAUSNET, SHAPES + WHOLE + RUNTIME)
        for name in ("ternausnet11", "ternausnet16")
    },
    "fpn_resnet50": ((3, 512, 512), VOC, "", RUNTIME),
    "unet_fpn": ((3, 256, 256), VOC, "", RUNTIME),
}
# Networks that ask for proposals, too: what runs once an image (R-CNN: once a proposal).
ONCE = {
    **{
        name: lambda model: Sequential(model.features, model.hidden, model.predictor)
        for name in ("rcnn_alexnet", "rcnn_small")
    },
    "sppnet_small": lambda model: model.features,
    "sppnet_zf5": lambda model: model.features,
    "fastrcnn_vgg16": lambda model: model.backbone,
    "fastrcnn_small": lambda model: model.backbone,
}
# Read from a file of its own, which may not be installed; tests/test_tables.py counts it if it is.
CENTERFACE = (1_819_999, 1_851_532_800)


def trained_on_scenes() -> set[str]:
    """The networks of which docs/segmentation.md or docs/detection.md states a score."""
    maps = json.loads(STATED.read_text("utf-8"))["systems"]
    boxes = json.loads(DETECTORS_STATED.read_text("utf-8"))["systems"]
    segmenters = {SYSTEMS[name].network for name, row in maps.items() if "test" in row}
    return segmenters | {name for name, row in boxes.items() if "AP50" in row}


def verified(name: str) -> str:
    """The letters of a network."""
    marks = []
    if name in VARIANTS:
        source = VARIANTS[name].layout.split()[0].rstrip(",")
        marks = [SHAPES, RUNTIME]
        if source in ("torchvision", "timm", "Cadene", "Keras", "package"):
            marks.insert(1, WHOLE)
        if name == "efficientnet_lite0":
            marks.append(PHOTOGRAPHS)
    else:
        marks = list(OTHERS[name][3])
    if name in TRAINED_HERE or name in trained_on_scenes():
        marks.append(TRAINED)
    return " ".join(marks)


def checkpoints(name: str) -> str:
    """The public files that a network loads: those known by name, else whose keys it has."""
    known = [f"`{c.name}`" for c in io.CHECKPOINTS.values() if c.model == name]
    if known:
        return ", ".join(known)
    layout = VARIANTS[name].layout if name in VARIANTS else OTHERS[name][2]
    return layout if layout and layout != "none published" else "–"


def _row(name: str, shape, parameters: int, adds: float, weights: str, marks: str) -> str:
    amount = f"{adds / 1e6:,.0f} M" if adds >= 1e8 else f"{adds / 1e6:.2f} M"
    size = "×".join(map(str, shape))
    return f"| {name} | {size} | {parameters:,} | {amount} | {weights} | {marks} |"


def _counted(name: str, model: Module, shape, weights: str, marks: str) -> str:
    once = ONCE.get(name.strip("`"), lambda whole: whole)(model)
    adds = cost(once, shape, backward=False).total("multiply_adds")
    return _row(name, shape, model.num_parameters(), adds, weights, marks)


def model_row(name: str) -> str:
    """One line of the table of networks."""
    if name in VARIANTS:
        shape, settings = VARIANTS[name].input_shape, SETTINGS.get(name, {})
    else:
        shape, settings = OTHERS[name][:2]
    model = models.outline(name, **settings)
    return _counted(f"`{name}`", model, shape, checkpoints(name), verified(name))


def model_table() -> str:
    """Every network of ``models.list_models()``, and those that are assembled from parts."""
    head = "| network | input | parameters | multiply-adds | public weights it loads | verified |"
    rows = [model_row(name) for name in VARIANTS]
    rows += [model_row(name) for name in models.list_models() if name not in VARIANTS]
    marks = f"{RUNTIME} {PHOTOGRAPHS}"
    rows.append(_row("`CenterFace()`", (3, 480, 640), *CENTERFACE, "`centerface`", marks))
    return "\n".join([head, "|---|---|---:|---:|---|---|", *rows])


# --- operators ------------------------------------------------------------------------------------

FAMILIES = {
    "conv": "convolution",
    "pool": "pooling, regions",
    "resize": "resampling",
    "norm": "normalisation",
    "activation": "activations",
    "elementwise": "element by element, products",
    "reduce": "reductions",
    "shape": "shapes and constants",
    "indexing": "indexing",
    "detection": "detection",
    "quantise": "quantised numbers",
    "loss": "losses",
    "random": "random numbers",
}


def operator_table() -> str:
    """The operators that have a handler, by family."""
    importlib.import_module("cnncore.onnx.operators")  # fills the registry
    families: dict[str, list[str]] = defaultdict(list)
    for name, entries in sorted(OPERATORS.items(), key=lambda item: item[0].lower()):
        family = entries[-1].function.__module__.rsplit(".", 1)[1]
        last = max(entry.last for entry in entries)
        flat = all(entry.flat for entry in entries)
        until = "" if last == NEWEST else f" (to opset {last})"
        families[family].append(f"{name}{'°' if flat else ''}{until}")
    lines = ["| family | operators |", "|---|---|"]
    lines += [
        f"| {FAMILIES[f]} ({len(families[f])}) | {', '.join(families[f])} |" for f in FAMILIES
    ]
    assert families.keys() == FAMILIES.keys()
    return "\n".join(lines)


# --- kernels on a device --------------------------------------------------------------------------

RESULTS = ROOT / "benchmarks" / "results"
NOT_MEASURED = "not yet measured"
# What one thread or one block computes.
SHARE_OF_WORK = {
    "adam_update": "a thread: 16 bytes of each array",
    "bin_max": "a thread: one bin",
    "box_iou": "a thread: one pair",
    "col2im": "a thread: one pixel gathers its columns",
    "conv2d": "a block: a tile of a matrix product that is never written out",
    "conv2d_weight": "a block: a tile and a part of the sum; the parts are added in order",
    "conv_transpose2d": "a block: a tile, each pixel gathering",
    "gather": "a thread: one element",
    "im2col": "a thread: one entry of the column matrix",
    "matmul": "a block: a tile",
    "max_pool2d": "a thread: one window",
    "nms": "64 threads: 64 x 64 boxes; then one block from the best to the worst",
    "normalize": "`row_moments`, then `row_linear`",
    "normalize_backward": "`row_products`, then `row_linear2`",
    "pointwise": "a thread: 16 bytes",
    "put_add": "places are sorted; a thread: one place",
    "reduce_max": "a team of 32 or 256 threads a row, or a thread a column",
    "reduce_sum": "a team a piece of a row, or a thread a piece of a column",
    "region_gather": "a thread: one element",
    "region_scatter": "a warp owns a range of pixels and adds what falls into it, in order",
    "resample": "a thread: one place of a few channels",
    "resample_adjoint": "a thread: one pixel gathers its samples",
    "row_linear": "a thread: 16 bytes of a row",
    "row_linear2": "a thread: 16 bytes of a row",
    "row_moments": "a team a piece of a row, two passes",
    "row_products": "a team a piece of a row",
    "scatter_add": "a thread owns a column, or a warp a range of places, and adds in order",
    "sgd_update": "a thread: 16 bytes of each array",
    "softmax": "a team a row, or a thread a column",
    "softmax_backward": "a team a row, or a thread a column",
}


def measured_on() -> dict[str, str]:
    """``{kernel: "device, date"}`` from the results of ``benchmarks/gpu_check.py``."""
    found: dict[str, str] = {}
    for path in sorted(RESULTS.glob("*.json")) if RESULTS.is_dir() else []:
        data = json.loads(path.read_text("utf-8"))
        if not isinstance(data, dict) or "multiprocessors" not in data.get("facts", {}):
            continue  # results of a processor
        for row in data["kernels"]:
            if isinstance(row.get("error"), float):  # else it was wrong, or absent
                found[row["kernel"]] = f"{data['facts']['device']}, {data['facts']['date']}"
    return found


def kernel_table() -> str:
    """Every kernel of the contract: how it runs on a device, and where that was verified."""
    measured = measured_on()
    lines = ["| kernel | on a device | CPU | host | GPU |", "|---|---|---|---|---|"]
    for name in dispatch.KERNELS:
        own = hasattr(cuda, name)
        how = SHARE_OF_WORK[name] if own else "CuPy's own, through `kernels/array`"
        host = "yes" if own else "the array code, on the stand-in"
        lines.append(f"| `{name}` | {how} | yes | {host} | {measured.get(name, NOT_MEASURED)} |")
    return "\n".join(lines)


def gpu_table() -> str:
    """What README says of a GPU: the page of each device that was measured, or that none was."""
    lines = ["| GPU | kernels, convolutions, a training step |", "|---|---|"]
    devices = sorted(set(measured_on().values()))
    lines += [f"| {device} | [results](benchmarks/results) |" for device in devices]
    return "\n".join(lines if devices else [*lines, f"| – | {NOT_MEASURED} |"])


# --- segmenters trained here ----------------------------------------------------------------------


ON_SCENES = ("scenes", "large")  # what docs/segmentation.md is about


def stages(name: str) -> list[str]:
    """The systems that are trained one after the other for this one."""
    after = SYSTEMS[name].after
    return [*(stages(after) if after else []), name]


def total_seconds(parts: list[tuple[int, dict]]) -> str:
    """Of stages of so many steps each, where all of them were timed."""
    times = [steps * row["step_seconds"] for steps, row in parts if "step_seconds" in row]
    return f"{sum(times):.0f}" if len(times) == len(parts) else "–"


def segmentation_table() -> str:
    """Every small segmentation system: its network, training, and the scores that were measured."""
    titles = "`cnncore train`", "network", "data", "pixels", "parameters", "steps", "seconds"
    head = f"| {' | '.join((*titles, 'validation', 'test'))} |"
    stated = json.loads(STATED.read_text("utf-8"))
    lines = [head, "|---|---|---|---:|---:|---:|---:|---:|---:|"]
    for name, system in SYSTEMS.items():
        if system.data not in ON_SCENES:
            continue
        found = stated["systems"].get(name, {})
        model = models.outline(system.network, num_classes=CLASSES, **system.settings)
        parts = [(SYSTEMS[s].recipe.steps, stated["systems"].get(s, {})) for s in stages(name)]
        seconds = total_seconds(parts)
        scores = [
            f"{found[split]:.3f}".removeprefix("0") if split in found else "–"
            for split in ("validation", "test")
        ]
        steps = " + ".join(f"{steps:,}" for steps, _ in parts)
        cells = (
            *(f"`{name}`", f"`{system.network}`", system.data, 128 // system.scale),
            *(f"{model.num_parameters():,}", steps, seconds, *scores),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    timed = (
        f"Seconds: {stated['timed_on']}." if "timed_on" in stated else "Times: not yet measured."
    )
    return "\n".join([*lines, "", timed])


# --- detectors trained here -----------------------------------------------------------------------

AP50_GOALS = {
    "fasterrcnn_small": 0.94,
    "ssd_small": 0.85,
    "rfcn_small": 0.85,
    "yolo_small": 0.65,
    "fastrcnn_small": 0.70,
}


def detection_table() -> str:
    """Every small detector: its training, the goal, and the scores that were measured."""
    stated = json.loads(DETECTORS_STATED.read_text("utf-8"))
    lines = [
        "| `cnncore train` | parameters | steps | seconds | AP50 | AP | goal (AP50) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in sorted(stated["systems"]):
        found = stated["systems"][name]
        stages = [AFTER[name], name] if name in AFTER else [name]
        parts = [(DETECTION[s][1].steps, stated["systems"].get(s, {})) for s in stages]
        seconds = total_seconds(parts)
        scores = [
            f"{found[key]:.3f}".removeprefix("0") if key in found else "–" for key in ("AP50", "AP")
        ]
        goal = f"{AP50_GOALS[name]:.2f}".removeprefix("0") if name in AP50_GOALS else "–"
        size = models.outline(name, num_classes=10).num_parameters()
        steps = " + ".join(f"{steps:,}" for steps, _ in parts)
        cells = [f"`{name}`", f"{size:,}", steps, seconds, *scores, goal]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Seconds: {stated['timed_on']}, median step times steps."])


# --- where they stand -----------------------------------------------------------------------------

TABLES = {
    ("README.md", "models"): model_table,
    ("docs/onnx.md", "operators"): operator_table,
    ("docs/gpu.md", "kernels"): kernel_table,
    ("README.md", "gpu"): gpu_table,
    ("docs/segmentation.md", "segmentation"): segmentation_table,
    ("docs/detection.md", "detection"): detection_table,
}


def with_table(text: str, mark: str, table: str) -> str:
    """The text with what stands between the marks replaced."""
    begin, end = f"<!-- {mark}: python docs/tables.py -->", f"<!-- end of {mark} -->"
    pattern = f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})"
    changed, count = re.subn(pattern, lambda _: f"\n{table}\n\n", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"expected the marks {begin} and {end} once, got {count}")
    return changed


def main() -> int:
    """Write every table into its document."""
    for (file, mark), make in TABLES.items():
        path = ROOT / file
        path.write_text(with_table(path.read_text("utf-8"), mark, make()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
