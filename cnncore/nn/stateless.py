"""Modules without parameters: one op with its settings bound.

Each is a line of the table below: PyTorch's name of the layer, the op of ``cnncore.ops`` it calls,
and the layer's settings in PyTorch's order with PyTorch's defaults.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from cnncore import ops
from cnncore.errors import ArgumentError
from cnncore.nn.module import Module

_REQUIRED = inspect.Parameter.empty


class OpModule(Module):
    """``forward(*inputs)`` is ``ops.<op>(*inputs, **settings)``; the settings are attributes.

    >>> LeakyReLU(0.2)
    LeakyReLU(negative_slope=0.2)
    """

    op: ClassVar[str]
    settings: ClassVar[inspect.Signature]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            bound = self.settings.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(
                type(self).__name__, f"arguments {self.settings}", str(error)
            ) from None
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            setattr(self, name, value)

    def forward(self, *inputs: Any, **more: Any) -> Any:
        """The op on these inputs, with the settings that the attributes hold now.

        ``more``: arguments of a single call, such as ``output_size`` of ``MaxUnpool2d``.
        """
        settings = {name: getattr(self, name) for name in self.shown}
        return getattr(ops, self.op)(*inputs, **settings, **more)


def _module(name: str, op: str, **settings: Any) -> type[OpModule]:
    """The class of one line of the table."""
    parameters = [
        inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for key, default in settings.items()
    ]
    signature = inspect.Signature(parameters)
    return type(
        name,
        (OpModule,),
        {
            "__doc__": f"``cnncore.ops.{op}`` as a module; settings {signature}.",
            "__module__": __name__,
            "__signature__": signature,
            "op": op,
            "settings": signature,
            "shown": tuple(settings),
        },
    )


# Pooling and resampling.
MaxPool2d = _module(
    "MaxPool2d",
    "max_pool2d",
    kernel_size=_REQUIRED,
    stride=None,
    padding=0,
    dilation=1,
    return_indices=False,
    ceil_mode=False,
)
MaxUnpool2d = _module("MaxUnpool2d", "max_unpool2d", kernel_size=_REQUIRED, stride=None, padding=0)
AvgPool2d = _module(
    "AvgPool2d",
    "avg_pool2d",
    kernel_size=_REQUIRED,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
)
AdaptiveAvgPool2d = _module("AdaptiveAvgPool2d", "adaptive_avg_pool2d", output_size=_REQUIRED)
AdaptiveMaxPool2d = _module(
    "AdaptiveMaxPool2d", "adaptive_max_pool2d", output_size=_REQUIRED, return_indices=False
)
Upsample = _module(
    "Upsample", "interpolate", size=None, scale_factor=None, mode="nearest", align_corners=None
)

# Activations.
ReLU = _module("ReLU", "relu")
ReLU6 = _module("ReLU6", "relu6")
LeakyReLU = _module("LeakyReLU", "leaky_relu", negative_slope=0.01)
ELU = _module("ELU", "elu", alpha=1.0)
SELU = _module("SELU", "selu")
CELU = _module("CELU", "celu", alpha=1.0)
GELU = _module("GELU", "gelu", approximate="none")
SiLU = _module("SiLU", "silu")
Mish = _module("Mish", "mish")
Sigmoid = _module("Sigmoid", "sigmoid")
Hardsigmoid = _module("Hardsigmoid", "hardsigmoid")
Hardswish = _module("Hardswish", "hardswish")
Tanh = _module("Tanh", "tanh")
Softplus = _module("Softplus", "softplus", beta=1.0, threshold=20.0)
Softsign = _module("Softsign", "softsign")
Softmax = _module("Softmax", "softmax", dim=-1)
LogSoftmax = _module("LogSoftmax", "log_softmax", dim=-1)

# The rest.
Flatten = _module("Flatten", "flatten", start_dim=1, end_dim=-1)
LocalResponseNorm = _module(
    "LocalResponseNorm", "local_response_norm", size=_REQUIRED, alpha=1e-4, beta=0.75, k=1.0
)
