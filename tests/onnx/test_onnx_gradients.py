"""Imported operators are differentiated as well as run: their gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx_models import one_node

from cnncore import tensor
from cnncore.errors import GraphError
from cnncore.onnx import load
from cnncore.testing import gradcheck, gradgradcheck


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers without ties, away from 0 by at least 0.1, in random order."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    spaced = 0.1 + np.arange(size) * (1.5 / max(size, 1))
    return (rng.permutation(spaced) * rng.choice([-1, 1], size)).reshape(shape)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return np.abs(values(*shape, seed=seed)) + 0.2


def integers(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


SIZES = integers(1, 1, 3, 4)
GRID = np.random.default_rng(3).uniform(-1.3, 1.3, (1, 2, 3, 2))
VOLUME = np.random.default_rng(4).uniform(-0.9, 0.9, (1, 2, 1, 2, 3))

# name -> (operator, inputs, attributes, further settings of one_node)
CASES = {
    "conv 1-D": ("Conv", [values(1, 2, 7), values(3, 2, 3), values(3)], {"pads": [2, 1]}),
    "conv 3-D": (
        "Conv",
        [values(1, 2, 4, 3, 3), values(2, 1, 2, 2, 2), values(2)],
        {"group": 2, "strides": [2, 1, 1], "pads": [1, 0, 1, 0, 1, 0], "dilations": [2, 1, 1]},
    ),
    "conv same lower": (
        "Conv",
        [values(1, 1, 5, 4), values(1, 1, 2, 2)],
        {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
    ),
    "transposed conv 1-D": ("ConvTranspose", [values(1, 2, 3), values(2, 2, 3)], {"strides": [2]}),
    "transposed conv, more padding than stride": (
        "ConvTranspose",
        [values(1, 1, 2, 3), values(1, 2, 3, 3), values(2)],
        {"strides": [3, 2], "output_shape": [10, 8]},
    ),
    "transposed conv 3-D": (
        "ConvTranspose",
        [values(1, 1, 2, 2, 2), values(1, 2, 2, 2, 1), values(2)],
        {"strides": [2, 1, 1], "pads": [1, 0, 0, 0, 1, 0], "dilations": [2, 1, 1]},
    ),
    "deformable conv": (
        "DeformConv",
        [
            values(1, 2, 4, 4),
            values(2, 2, 2, 2),
            values(1, 8, 3, 3, seed=1) * 0.37,
            values(2),
            positive(1, 4, 3, 3),
        ],
        {},
    ),
    "max pool 1-D": ("MaxPool", [values(1, 2, 7)], {"kernel_shape": [3], "dilations": [2]}),
    "max pool 3-D": ("MaxPool", [values(1, 1, 4, 3, 4)], {"kernel_shape": [2, 2, 3]}),
    "average pool 3-D": (
        "AveragePool",
        [values(1, 1, 5, 4, 3)],
        {"kernel_shape": [2, 2, 2], "dilations": [2, 1, 1], "pads": [1, 0, 1, 1, 0, 0]},
    ),
    "lp pool": ("LpPool", [values(1, 1, 4, 4)], {"kernel_shape": [2, 2], "p": 3}),
    "global lp pool": ("GlobalLpPool", [values(1, 2, 3, 3)], {"p": 2}),
    "max of rois": (
        "RoiAlign",
        [positive(1, 2, 5, 5), np.array([[0.3, 0.2, 3.7, 4.1]]), integers(0)],
        {"mode": "max", "output_height": 2, "output_width": 2, "sampling_ratio": 2},
    ),
    "batch norm": (
        "BatchNormalization",
        [values(2, 3, 2, 2), values(3), values(3), values(3), positive(3)],
        {},
    ),
    "batch norm, training": (
        "BatchNormalization",
        [values(2, 2, 3, 2), values(2), values(2), values(2), positive(2)],
        {"training_mode": 1},
    ),
    "group norm": (
        "GroupNormalization",
        [values(2, 4, 3), values(4), values(4)],
        {"num_groups": 2},
    ),
    "layer norm": (
        "LayerNormalization",
        [values(2, 3, 4), values(3, 4), values(3, 4)],
        {"axis": 1},
    ),
    "rms norm": ("RMSNormalization", [values(2, 5), values(5)], {}),
    "lrn, even size": ("LRN", [values(1, 5, 2, 2)], {"size": 4, "alpha": 0.3}),
    "mean variance": ("MeanVarianceNormalization", [values(2, 2, 2, 3)], {}),
    "lp norm": ("LpNormalization", [values(3, 4)], {"axis": 0, "p": 1}),
    "resize cubic": (
        "Resize",
        [values(1, 1, 4, 5), None, None, integers(1, 1, 7, 3)],
        {"mode": "cubic", "antialias": 1},
    ),
    "resize linear 3-D": (
        "Resize",
        [values(1, 1, 2, 3, 3), None, None, integers(1, 1, 3, 5, 2)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    "resize crop": (
        "Resize",
        [
            values(1, 1, 4, 4),
            np.array([0, 0, 0.3, -0.2, 1, 1, 0.9, 1.2]),
            None,
            integers(1, 1, 3, 4),
        ],
        {
            "mode": "linear",
            "coordinate_transformation_mode": "tf_crop_and_resize",
            "extrapolation_value": 5.0,
        },
    ),
    "grid, zeros": ("GridSample", [values(1, 2, 4, 5), GRID], {"mode": "linear"}),
    "grid, mirrored": ("GridSample", [values(1, 2, 4, 5), GRID], {"padding_mode": "reflection"}),
    "grid, cubic": ("GridSample", [values(1, 1, 4, 5), GRID], {"mode": "cubic"}),
    "grid, volume": ("GridSample", [values(1, 1, 3, 3, 4), VOLUME], {"align_corners": 1}),
    "col2im": (
        "Col2Im",
        [values(1, 8, 6), integers(4, 3), integers(2, 2)],
        {"pads": [0, 1, 1, 0], "strides": [2, 1]},
    ),
    "pad, wrapped": ("Pad", [values(3, 4), integers(1, 2, 0, 3)], {"mode": "wrap"}),
    "pad, cropped": ("Pad", [values(3, 4), integers(1, -1, -1, 2)], {}),
    "tile": ("Tile", [values(2, 3), integers(2, 3)], {}),
    "slice backwards": (
        "Slice",
        [values(5, 4), integers(-1, 0), integers(-100, 3), integers(0, 1), integers(-2, 2)],
        {},
    ),
    "depth to space": ("DepthToSpace", [values(1, 8, 2, 2)], {"blocksize": 2, "mode": "CRD"}),
    "gather elements": (
        "GatherElements",
        [values(3, 3), np.array([[0, -1], [2, 2]])],
        {"axis": 1},
    ),
    "gather nd": ("GatherND", [values(2, 3, 2), np.array([[[1]], [[-1]]])], {"batch_dims": 1}),
    "scatter elements": (
        "ScatterElements",
        [values(3, 3), np.array([[0, 2, 1]]), values(1, 3)],
        {"reduction": "add"},
    ),
    "scatter nd": ("ScatterND", [values(4, 2), np.array([[3], [0]]), values(2, 2)], {}),
    "top k": ("TopK", [values(2, 5), integers(2)], {"largest": 0}),
    "cumulative sum": ("CumSum", [values(2, 4), integers(1)], {"exclusive": 1, "reverse": 1}),
    "reverse": ("ReverseSequence", [values(4, 2), integers(3, 4)], {}),
    "triangle": ("Trilu", [values(3, 4), integers(1).reshape(())], {}),
    "cropped centre": ("CenterCropPad", [values(5, 2), integers(2, 5)], {}),
    "erf": ("Erf", [values(3, 3)], {}),
    "gemm": (
        "Gemm",
        [values(3, 2), values(4, 3), values(4)],
        {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0},
    ),
    "prelu": ("PRelu", [values(2, 3, 4), values(3, 1)], {}),
    "softmax of opset 11": ("Softmax", [values(2, 3, 2)], {"axis": 1}),
    "cross entropy": (
        "SoftmaxCrossEntropyLoss",
        [values(2, 3, 2), np.array([[0, 2], [1, 1]])],
        {"ignore_index": 1},
    ),
    "log-sum-exp": ("ReduceLogSumExp", [values(2, 3, 2), integers(0, -1)], {}),
    "norm": ("ReduceL2", [values(2, 3), integers(1)], {"keepdims": 0}),
}
for name in ("Tan", "Sinh", "Cosh", "Asinh", "Atan", "Reciprocal", "Softplus", "Mish", "HardSwish"):
    CASES[name] = (name, [values(2, 3)], {})
for name in ("Asin", "Acos", "Atanh"):
    CASES[name] = (name, [values(2, 3) / 3], {})
CASES["Acosh"] = ("Acosh", [positive(2, 3) + 1], {})


@pytest.mark.parametrize("case", CASES)
def test_gradients(case: str) -> None:
    op, inputs, attributes = CASES[case]
    opset = {"opset": 11} if "opset 11" in case else {}
    outputs = {"BatchNormalization": 3 if attributes.get("training_mode") else 1, "TopK": 2}
    model = load(one_node(op, inputs, outputs=outputs.get(op, 1), **opset, **attributes))
    smooth = [x for x in inputs if x is not None and x.dtype == np.float64]
    # Statistics and boxes are constants: no gradient flows to them.
    constants = {"BatchNormalization": 2, "RoiAlign": 1}.get(op, 0)
    constants += "crop" in case and op == "Resize"
    fixed = [tensor(x) for x in smooth[len(smooth) - constants :]] if constants else []

    def run(*tensors):
        rest = iter((*tensors, *fixed))
        given = [
            next(rest) if x.dtype == np.float64 else tensor(x) for x in inputs if x is not None
        ]
        y = model(*given)
        return y[0] if isinstance(y, tuple) else y

    gradcheck(run, smooth[: len(smooth) - constants])
    if op in ("Conv", "Tan", "Acos", "Acosh", "Erf", "Asinh", "CumSum"):
        gradgradcheck(run, smooth[: len(smooth) - constants])


def test_a_gradient_never_ends_silently() -> None:
    model = load(one_node("ReduceProd", [values(3)]))
    x = tensor(values(3), requires_grad=True)
    with pytest.raises(GraphError, match="ReduceProd"):
        model(x).sum().backward()


def test_steps_have_no_slope() -> None:
    model = load(one_node("Floor", [values(3)]))
    assert not model(tensor(values(3), requires_grad=True)).requires_grad
