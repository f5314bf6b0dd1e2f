"""ONNX Runtime: a model of one node for each problem, all optimisations on; forward passes only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper

from cnncore.bench import convolution
from cnncore.bench.problem import CannotError, Contender, Problem

OPSET, IR = 17, 9


class Peer:
    """ONNX Runtime on so many threads."""

    name, version = "onnxruntime", str(onnxruntime.__version__)

    def __init__(self, threads: int) -> None:
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.log_severity_level = 3

    def contenders(self, problem: Problem) -> list[Contender]:
        """Weights are constants of the model, so that it may rearrange them once."""
        if problem.case.direction != "forward":
            raise CannotError("ONNX Runtime computes no gradients")
        kind, settings = _node(problem)
        arrays = dict(problem.arrays)
        constants = {}
        if problem.case.op == "roi_align":
            boxes = arrays.pop("boxes")
            arrays["rois"] = np.ascontiguousarray(boxes[:, 1:])
            arrays["images"] = boxes[:, 0].astype(np.int64)
        elif "weight" in arrays:
            constants["weight"] = arrays.pop("weight")
        session = self._session(kind, arrays, constants, settings)
        feed = arrays
        return [Contender(self.name, "peer", lambda: session.run(None, feed)[0])]

    def _session(
        self, kind: str, arrays: Mapping[str, Any], constants: Mapping[str, Any], settings: Any
    ) -> Any:
        inputs = [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for k, a in arrays.items()
        ]
        first = next(iter(arrays.values()))
        dtype = helper.np_dtype_to_tensor_dtype(first.dtype)
        result = helper.make_tensor_value_info("y", dtype, None)
        names = [*arrays, *constants]
        extra = [numpy_helper.from_array(a, k) for k, a in constants.items()]
        if kind == "Resize":
            scales = np.array([1, 1, *settings.pop("scales")], np.float32)
            extra.append(numpy_helper.from_array(scales, "scales"))
            names += ["", "scales"]
        node = helper.make_node(kind, names, ["y"], **settings)
        graph = helper.make_graph([node], "problem", inputs, [result], extra)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR)
        try:
            return onnxruntime.InferenceSession(
                model.SerializeToString(), self.options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own classes, which it does not export
            raise CannotError(f"ONNX Runtime: {str(error).splitlines()[0]}") from error


def _node(problem: Problem) -> tuple[str, dict[str, Any]]:
    """The operator and its attributes."""
    s = problem.settings
    op = problem.case.op
    if op in ("conv2d", "conv_transpose2d"):
        window = convolution.window_of(problem)
        return ("Conv" if op == "conv2d" else "ConvTranspose"), {
            "kernel_shape": window.kernel, "strides": window.stride, "group": s["groups"],
            "pads": _pads(window.padding[0][0], window.padding[1][0]),
            "dilations": window.dilation,
        }  # fmt: skip
    if op in ("max_pool2d", "avg_pool2d"):
        kernel, padding = _pair(s["kernel_size"]), _pair(s.get("padding", 0))
        pool: dict[str, Any] = {"kernel_shape": kernel, "strides": _pair(s.get("stride") or kernel)}
        pool["pads"] = _pads(*padding)
        if op == "avg_pool2d":
            return "AveragePool", {**pool, "count_include_pad": 1}
        return "MaxPool", pool
    if op == "interpolate":
        mode = {"nearest": "nearest", "bilinear": "linear"}.get(s.get("mode", "nearest"))
        if mode is None:
            raise CannotError(f"no {s['mode']} here")
        if mode == "linear":
            shift = {"coordinate_transformation_mode": "half_pixel"}
        else:
            shift = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return "Resize", {"mode": mode, "scales": _pair(s["scale_factor"]), **shift}
    if op == "roi_align":
        size, transform = _pair(s["output_size"]), s.get("aligned", False)
        return "RoiAlign", {
            "output_height": size[0], "output_width": size[1],
            "spatial_scale": float(s.get("spatial_scale", 1.0)),
            "sampling_ratio": max(0, s.get("sampling_ratio", -1)),
            "coordinate_transformation_mode": "half_pixel" if transform else "output_half_pixel",
        }  # fmt: skip
    simple = {"matmul": ("MatMul", {}), "relu": ("Relu", {}), "softmax": ("Softmax", {"axis": 1})}
    if op in simple:
        kind, attributes = simple[op]
        return kind, dict(attributes)
    raise CannotError(f"not written for {op}")


def _pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _pads(top: int, left: int) -> list[int]:
    return [top, left, top, left]
