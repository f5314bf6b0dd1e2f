"""The handlers, one file a family.  Importing this package fills ``registry.OPERATORS``."""

from cnncore.onnx.operators import (
    activation,
    conv,
    detection,
    elementwise,
    indexing,
    loss,
    norm,
    pool,
    quantise,
    random,
    reduce,
    resize,
    shape,
)

__all__ = [
    "activation",
    "conv",
    "detection",
    "elementwise",
    "indexing",
    "loss",
    "norm",
    "pool",
    "quantise",
    "random",
    "reduce",
    "resize",
    "shape",
]
