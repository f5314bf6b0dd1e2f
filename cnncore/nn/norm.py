"""Normalisation layers; names, defaults and state-dict keys are PyTorch's.

Letters: ``N C H W`` input, ``G`` groups of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, events
from cnncore.errors import ArgumentError
from cnncore.geometry import as_int
from cnncore.nn.module import Buffer, Module, Parameter
from cnncore.nn.stateless import ReLU, ReLU6


def _ones(size: Any) -> np.ndarray[Any, Any]:
    return np.ones(size, np.float32)


def _zeros(size: Any) -> np.ndarray[Any, Any]:
    return np.zeros(size, np.float32)


class BatchNorm2d(Module):
    """``(x − mean) / √(var + eps) · weight + bias`` for each channel over the batch.

    Training uses the batch's statistics and moves the running ones by ``momentum`` (the variance
    with Bessel's correction, as PyTorch does; None: a plain average over all batches so far);
    evaluation uses the running ones.
    Source: Ioffe & Szegedy, "Batch Normalization", 2015.
    """

    shown = ("num_features", "eps", "momentum")
    ignored_keys = ("num_batches_tracked",)  # files older than it lack it; it is read if there

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self.num_features = as_int("num_features", num_features, 1)
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(_ones(num_features)) if affine else None
        self.bias = Parameter(_zeros(num_features)) if affine else None
        self.running_mean = Buffer(_zeros(num_features)) if track_running_stats else None
        self.running_var = Buffer(_ones(num_features)) if track_running_stats else None
        self.num_batches_tracked = Buffer(np.zeros((), np.int64)) if track_running_stats else None

    def forward(self, x: Any, residual: Any = None, activation: str = "") -> Tensor:
        """Same shape; with ``residual`` and ``activation`` as ``ops.batch_norm`` takes them."""
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.data += 1
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked.data)
        return ops.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum,
            self.eps,
            residual=residual,
            activation=activation,
        )


# What may follow a norm within its own pass over memory.
_FUSED: dict[Any, str] = {ReLU: "relu", ReLU6: "relu6", ops.relu: "relu", ops.relu6: "relu6"}


def fuses(norm: Module, act: Any) -> bool:
    """Whether ``activated`` has one pass for a norm and what follows it, a module or an op.

    Not while somebody observes who is to see every layer.
    """
    return (
        type(norm) in (BatchNorm2d, GroupNorm)
        and (type(act) if isinstance(act, Module) else act) in _FUSED
        and not events.layer_by_layer()
    )


def activated(norm: Module, act: Any, x: Any, residual: Any = None) -> Tensor:
    """``act(norm(x) + residual)``, in one pass over memory where ``fuses`` says so.

    >>> import numpy as np
    >>> activated(BatchNorm2d(1), ReLU(), np.array([[[[-1.0, 1.0]]]], np.float32)).numpy().round(2)
    array([[[[0., 1.]]]], dtype=float32)
    """
    if fuses(norm, act):
        activation = _FUSED[type(act) if isinstance(act, Module) else act]
        y: Tensor = norm(x, residual, activation)
        return y
    y = norm(x)
    y = act(y if residual is None else y + residual)
    return y


class FrozenBatchNorm2d(Module):
    """Batch norm whose statistics and affine part are constants: for fine-tuning on few images."""

    shown = ("num_features", "eps")
    ignored_keys = ("num_batches_tracked",)

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        self.num_features = as_int("num_features", num_features, 1)
        self.eps = eps
        self.weight = Buffer(_ones(num_features))
        self.bias = Buffer(_zeros(num_features))
        self.running_mean = Buffer(_zeros(num_features))
        self.running_var = Buffer(_ones(num_features))

    def forward(self, x: Any) -> Tensor:
        """Same shape."""
        return ops.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class GroupNorm(Module):
    """Each group of channels of each image to mean 0 and variance 1, then affine.

    Source: Wu & He, "Group Normalization", 2018.
    """

    shown = ("num_groups", "num_channels", "eps")

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        self.num_groups = as_int("num_groups", num_groups, 1)
        self.num_channels = as_int("num_channels", num_channels, 1)
        if num_channels % num_groups:
            raise ArgumentError(
                "num_channels", f"a multiple of num_groups = {num_groups}", num_channels
            )
        self.eps = eps
        self.weight = Parameter(_ones(num_channels)) if affine else None
        self.bias = Parameter(_zeros(num_channels)) if affine else None

    def forward(self, x: Any, residual: Any = None, activation: str = "") -> Tensor:
        """Same shape; with ``residual`` and ``activation`` as ``ops.batch_norm`` takes them."""
        return ops.group_norm(
            x,
            self.num_groups,
            self.weight,
            self.bias,
            self.eps,
            residual=residual,
            activation=activation,
        )


class LayerNorm(Module):
    """The last axes (of sizes ``normalized_shape``) to mean 0 and variance 1, then affine.

    Source: Ba, Kiros & Hinton, "Layer Normalization", 2016.
    """

    shown = ("normalized_shape", "eps")

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True
    ) -> None:
        shape = (
            normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
        )
        self.normalized_shape = tuple(as_int("normalized_shape", size, 1) for size in shape)
        self.eps = eps
        self.weight = Parameter(_ones(self.normalized_shape)) if elementwise_affine else None
        self.bias = Parameter(_zeros(self.normalized_shape)) if elementwise_affine else None

    def forward(self, x: Any) -> Tensor:
        """Same shape."""
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class InstanceNorm2d(Module):
    """Each channel of each image to mean 0 and variance 1; affine if asked for, as in PyTorch.

    Source: Ulyanov, Vedaldi & Lempitsky, "Instance Normalization", 2016.  Running statistics are
    not offered.
    """

    shown = ("num_features", "eps")

    def __init__(self, num_features: int, eps: float = 1e-5, *, affine: bool = False) -> None:
        self.num_features = as_int("num_features", num_features, 1)
        self.eps = eps
        self.weight = Parameter(_ones(num_features)) if affine else None
        self.bias = Parameter(_zeros(num_features)) if affine else None

    def forward(self, x: Any) -> Tensor:
        """Same shape."""
        return ops.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


# A layer from a number of channels: what models take as their ``norm`` setting.
NormFactory = Callable[[int], Module]

GROUP_SIZE = 8  # channels of a group, where a model asks for "group"
NORMS: dict[str, NormFactory] = {
    "batch": BatchNorm2d,
    "frozen": FrozenBatchNorm2d,
    "frozen_exact": lambda channels: FrozenBatchNorm2d(channels, eps=0.0),
    "group": lambda channels: GroupNorm(max(1, channels // GROUP_SIZE), channels),
    "instance": lambda channels: InstanceNorm2d(channels, affine=True),
}


def norm_layer(norm: str, channels: int) -> Module:
    """The normalisation of a name in ``NORMS`` for some channels.

    ``"group"`` puts 8 channels in a group; ``"frozen_exact"`` is ``"frozen"`` without an eps, as
    the public weights of torchvision's detectors were trained.

    >>> norm_layer("group", 32)
    GroupNorm(num_groups=4, num_channels=32, eps=1e-05)
    """
    if norm not in NORMS:
        raise ArgumentError("norm", f"one of {sorted(NORMS)}", repr(norm))
    return NORMS[norm](channels)
