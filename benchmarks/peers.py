"""A traced network told to its peers: as a PyTorch module and as an ONNX file, weights included.

Both are written from the plan that ``cnncore.inference`` records before anything is fused, so all
run the same network on the same weights, and each may optimise it as it can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from cnncore.inference.plan import Activation, Node, Plan, Value
from cnncore.ops.conv import Conv2d, ConvTranspose2d
from cnncore.ops.elementwise import Add, Mul
from cnncore.ops.linalg import MatMul
from cnncore.ops.linear import Linear
from cnncore.ops.norm import Normalize
from cnncore.ops.pool import MaxPool2d

Array = Any


def _batch_norm(node: Node) -> list[Array]:
    """Scale and shift of batch norm with fixed statistics, and those statistics (eps inside)."""
    assert isinstance(node.work, Normalize)
    assert node.work.rows.fixed is not None
    mean, rstd = (np.asarray(s).reshape(-1) for s in node.work.rows.fixed)
    weight, bias = (x.array for x in node.inputs[1:])
    return [a.astype(np.float32) for a in (weight, bias, mean, rstd**-2.0)]


def _upsampled(node: Node) -> tuple[int, int]:
    old, new = node.inputs[0].shape, node.output.shape
    return new[2] // old[2], new[3] // old[3]


class TorchPlan(torch.nn.Module):
    """The plan, op by op, as a PyTorch user would write it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.constants = torch.nn.ParameterDict()
        self.names: dict[int, str] = {}
        self.calls: list[tuple[Callable[..., Any], list[int], int]] = []
        self.slots: dict[int, int] = {}
        self.inputs = [self._slot(x) for x in plan.inputs]
        for node in plan.nodes:
            run, values = self._translate(node)
            self.calls.append((run, [self._slot(x) for x in values], self._slot(node.output)))
        self.outputs = [self._slot(y) for y in plan.outputs()]

    def _slot(self, value: Value) -> int:
        return self.slots.setdefault(id(value), len(self.slots))

    def _constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        tensor = torch.from_numpy(np.array(array))
        self.constants[name] = torch.nn.Parameter(tensor, requires_grad=False)
        return name

    def _translate(self, node: Node) -> tuple[Callable[..., Any], list[Value]]:
        work, arrays = node.work, [x.array for x in node.inputs]
        get = self.constants.__getitem__
        values = [x for x in node.inputs if x.array is None and x.shape]
        if isinstance(work, Conv2d):
            w, b = self._constant(arrays[1]), None if arrays[2] is None else arrays[2]
            bias = None if b is None else self._constant(b)
            window, groups = work.window, work.groups
            (top, bottom), (left, right) = window.padding
            even = top == bottom and left == right

            def conv(x: Any) -> Any:
                x = x if even else functional.pad(x, (left, right, top, bottom))
                return functional.conv2d(
                    x, get(w), None if bias is None else get(bias), window.stride,
                    (top, left) if even else 0, window.dilation, groups,
                )  # fmt: skip

            return conv, values
        if isinstance(work, ConvTranspose2d):
            w, window, groups = self._constant(arrays[1]), work.window, work.groups
            bias = None if arrays[2] is None else self._constant(arrays[2])
            padding = (window.padding[0][0], window.padding[1][0])
            smallest = window.transposed_size(node.inputs[0].shape[2:])
            extra = (work.size[0] - smallest[0], work.size[1] - smallest[1])
            return (
                lambda x: functional.conv_transpose2d(
                    x, get(w), None if bias is None else get(bias), window.stride, padding, extra,
                    groups, window.dilation,
                ),
                values,
            )  # fmt: skip
        if isinstance(work, Normalize):
            w, b, m, v = (self._constant(a) for a in _batch_norm(node))
            return (
                lambda x: functional.batch_norm(x, get(m), get(v), get(w), get(b), eps=0.0),
                values,
            )
        if isinstance(work, Activation):
            kinds = {"relu": functional.relu, "relu6": functional.relu6, "silu": functional.silu,
                     "sigmoid": torch.sigmoid}  # fmt: skip
            return kinds[work.kind], values
        if isinstance(work, (Add, Mul)):
            op = torch.add if isinstance(work, Add) else torch.mul
            if len(values) == 2:
                return op, values
            c = self._constant(next(a for a in arrays if a is not None))
            return lambda x: op(x, get(c)), values
        if isinstance(work, MatMul):
            w = self._constant(arrays[1].T)
            return lambda x: functional.linear(x, get(w)), values
        if isinstance(work, MaxPool2d):
            k, s, p = work.window.kernel, work.window.stride, work.window.padding
            ceil = work.output_size != work.window.output_size(node.inputs[0].shape[2:])
            return (
                lambda x: functional.max_pool2d(x, k, s, (p[0][0], p[1][0]), ceil_mode=ceil),
                values,
            )
        if isinstance(work, Linear):
            return self._linear_map(node), values
        raise NotImplementedError(node.parts)

    def _linear_map(self, node: Node) -> Callable[..., Any]:
        name, shape = node.parts[0], node.output.shape
        if name == "AdaptiveAvgPool2d" and shape[2:] == (1, 1):
            return lambda x: functional.adaptive_avg_pool2d(x, 1)
        if name in ("Sum",) and len(shape) == 2:
            return lambda x: x.sum((2, 3))
        if name == "Reshape":
            return lambda x: x.reshape(shape)
        if name == "Interpolate_nearest":
            return lambda x: functional.interpolate(x, size=shape[2:])
        raise NotImplementedError(name)

    def forward(self, *inputs: Any) -> Any:
        """A tensor, or a tuple of them."""
        values: dict[int, Any] = dict(zip(self.inputs, inputs, strict=True))
        for run, sources, target in self.calls:
            values[target] = run(*(values[s] for s in sources))
        results = tuple(values[slot] for slot in self.outputs)
        return results[0] if len(results) == 1 else results


class _OnnxWriter:
    """The plan as an ONNX graph."""

    def __init__(self, plan: Plan) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: dict[int, str] = {}
        for i, x in enumerate(plan.inputs):
            self.names[id(x)] = f"input{i}"
        for node in plan.nodes:
            self._translate(node)

    def name(self, value: Value) -> str:
        """Of a value; constants are written on first use."""
        if id(value) not in self.names:
            assert value.array is not None
            self.names[id(value)] = self.constant(value.array)
        return self.names[id(value)]

    def constant(self, array: Array) -> str:
        """A new initialiser."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, inputs: list[str], node: Node | None = None, **settings: Any) -> str:
        """A node; its result is that of the plan's node, or one in between."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **settings))
        if node is not None:
            self.names[id(node.output)] = name
        return name

    def _translate(self, node: Node) -> None:
        work, arrays = node.work, [x.array for x in node.inputs]
        used = [self.name(x) for x in node.inputs if x.shape or x.array is not None]
        if isinstance(work, (Conv2d, ConvTranspose2d)):
            window, more = work.window, {}
            (top, bottom), (left, right) = window.padding
            if isinstance(work, ConvTranspose2d):
                smallest = window.transposed_size(node.inputs[0].shape[2:])
                more["output_padding"] = [work.size[a] - smallest[a] for a in (0, 1)]
            self.add(
                "ConvTranspose" if more else "Conv", used, node, strides=window.stride,
                pads=[top, left, bottom, right], dilations=window.dilation, group=work.groups,
                kernel_shape=window.kernel, **more,
            )  # fmt: skip
        elif isinstance(work, Normalize):
            scale = [self.constant(a) for a in _batch_norm(node)]
            self.add("BatchNormalization", [used[0], *scale], node, epsilon=0.0)
        elif isinstance(work, Activation):
            self._activation(work.kind, used, node)
        elif isinstance(work, (Add, Mul, MatMul)):
            self.add(type(work).__name__, used, node)
        elif isinstance(work, MaxPool2d):
            (top, bottom), (left, right) = work.window.padding
            ceil = work.output_size != work.window.output_size(node.inputs[0].shape[2:])
            self.add(
                "MaxPool", used, node, kernel_shape=work.window.kernel,
                strides=work.window.stride, pads=[top, left, bottom, right], ceil_mode=int(ceil),
            )  # fmt: skip
        elif node.parts[0] == "AdaptiveAvgPool2d" and node.output.shape[2:] == (1, 1):
            self.add("GlobalAveragePool", used, node)
        elif node.parts[0] == "Reshape":
            shape = self.constant(np.array(node.output.shape, np.int64))
            self.add("Reshape", [*used, shape], node)
        elif node.parts[0] == "Interpolate_nearest":
            scales = self.constant(np.array([1, 1, *_upsampled(node)], np.float32))
            self.add("Resize", [used[0], "", scales], node, mode="nearest",
                     coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
        else:
            raise NotImplementedError(f"{node.parts}: {arrays and arrays[0]}")

    def _activation(self, kind: str, used: list[str], node: Node) -> None:
        if kind == "relu6":
            ends = [self.constant(np.float32(v)) for v in (0.0, 6.0)]
            self.add("Clip", [*used, *ends], node)
        elif kind == "silu":
            self.add("Mul", [*used, self.add("Sigmoid", used)], node)
        else:
            self.add({"relu": "Relu", "sigmoid": "Sigmoid"}[kind], used, node)


def as_onnx(plan: Plan) -> bytes:
    """The plan as the bytes of an ONNX model, opset 17."""
    writer = _OnnxWriter(plan)
    kind = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(writer.name(x), kind, x.shape) for x in plan.inputs]
    outputs = [helper.make_tensor_value_info(writer.name(y), kind, y.shape) for y in plan.outputs()]
    graph = helper.make_graph(writer.nodes, "plan", inputs, outputs, writer.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
