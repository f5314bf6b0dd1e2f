"""Random numbers, from the package's generator, or from the seed that the graph gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore.errors import require
from cnncore.nn import init
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import ints
from cnncore.onnx.registry import ALL, operator

Array = Any


def _generator(node: Node) -> Any:
    return np.random.default_rng(int(node.get("seed"))) if node.has("seed") else init.generator()


def _dtype(node: Node, default: Any = np.float32) -> Any:
    if not node.has("dtype"):
        return default
    return require("onnx.helper", "onnx").tensor_dtype_to_np_dtype(node.get("dtype"))


def _drawn(node: Node, shape: tuple[int, ...], dtype: Any) -> Array:
    rng = _generator(node)
    if "Normal" in node.spec.op_type:
        values = rng.normal(node.get("mean", 0.0), node.get("scale", 1.0), shape)
    else:
        values = rng.uniform(node.get("low", 0.0), node.get("high", 1.0), shape)
    return values.astype(dtype)


@operator("RandomNormal", "RandomUniform")
def _random(node: Node) -> Array:
    return _drawn(node, ints(node.get("shape")), _dtype(node))


@operator("RandomNormalLike", "RandomUniformLike", arrays=ALL, widen=False, flat=True)
def _random_like(node: Node, x: Array) -> Array:
    return _drawn(node, x.shape, _dtype(node, x.dtype))


@operator("Bernoulli", arrays=ALL, widen=False, flat=True)
def _bernoulli(node: Node, p: Array) -> Array:
    return (_generator(node).uniform(size=p.shape) < p).astype(_dtype(node, p.dtype))
