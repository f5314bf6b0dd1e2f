"""Optimisers: which parameters are updated with which settings; the arithmetic is in kernels.

Settings live in groups, ``[{"params": [...], "lr": 0.1, ...}, ...]``, as in PyTorch, so that parts
of a network can have a learning rate or weight decay of their own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from cnncore import kernels
from cnncore.autograd import Tensor
from cnncore.autograd.tensor import to_device
from cnncore.errors import ArgumentError, CnncoreError
from cnncore.kernels.dispatch import array_module

Array = Any
Group = dict[str, Any]
Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]


class Optimizer:
    """Groups of parameters, what is remembered of each, and ``step``.

    A subclass names its ``slots`` (arrays like the parameter that it remembers) and defines
    ``_update``.  Parameters without a gradient are left alone.
    """

    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Parameters, **defaults: Any) -> None:
        entries = list(params)
        if not entries:
            raise ArgumentError("params", "at least one parameter", "none", "model.parameters()")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        self.groups: list[Group] = []
        seen: set[int] = set()
        for given in groups:
            group = self._checked_group(given, defaults)
            for parameter in group["params"]:
                if id(parameter) in seen:
                    raise ArgumentError("params", "every parameter once", "one twice")
                seen.add(id(parameter))
            self.groups.append(group)
        # One entry a parameter, in order: its slots and the number of its updates.
        self.state: list[dict[str, Any]] = [{} for _ in seen]

    def _checked_group(self, given: Any, defaults: Mapping[str, Any]) -> Group:
        if not isinstance(given, Mapping) or "params" not in given:
            raise ArgumentError("params", 'groups {"params": [...], ...}', repr(given))
        unknown = set(given) - set(defaults) - {"params"}
        if unknown:
            raise ArgumentError("params", f"settings among {sorted(defaults)}", sorted(unknown))
        group = {**defaults, **given, "params": list(given["params"])}
        for parameter in group["params"]:
            if not isinstance(parameter, Tensor) or not parameter.is_leaf:
                raise ArgumentError("params", "leaf tensors", repr(type(parameter).__name__))
        for name, value in group.items():
            # Written so that NaN is refused, too.
            if isinstance(value, float) and not 0 <= value < math.inf:
                raise ArgumentError(name, "a number >= 0", value)
        return group

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets all groups'."""
        return float(self.groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        if not 0 <= value < math.inf:
            raise ArgumentError("lr", "a number >= 0", value)
        for group in self.groups:
            group["lr"] = float(value)

    def parameters(self) -> list[Tensor]:
        """Every parameter, in the order of ``state``."""
        return [parameter for group in self.groups for parameter in group["params"]]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient, in place."""
        states = iter(self.state)
        for group in self.groups:
            for parameter in group["params"]:
                state = next(states)
                if parameter.grad is None:
                    continue
                if not state:
                    zeros = array_module(parameter.data).zeros_like
                    state.update({name: zeros(parameter.data) for name in self._slots(group)})
                    state["step"] = 0
                state["step"] += 1
                self._update(parameter.data, parameter.grad.data, state, group)
                parameter.touched()

    def _slots(self, group: Group) -> Sequence[str]:
        return self.slots

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        raise NotImplementedError

    def to(self, device: str) -> None:
        """Move what is remembered to ``"cpu"`` or ``"cuda"``, after ``Module.to`` moved the rest.

        >>> from cnncore import tensor
        >>> SGD([tensor([1.0])]).to("cpu")
        """
        for state in self.state:
            for name, value in state.items():
                if name != "step":
                    state[name] = to_device(value, device)

    # Resuming.

    def state_dict(self) -> dict[str, Any]:
        """A snapshot: ``{"groups": [settings], "state": [slots of each parameter]}``."""
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.groups]
        sizes = [len(group["params"]) for group in self.groups]
        return {
            "groups": [
                {**copy.deepcopy(s), "size": n} for s, n in zip(settings, sizes, strict=True)
            ],
            "state": [
                {k: np.array(_to_numpy(v)) if k != "step" else v for k, v in state.items()}
                for state in self.state
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken; groups and shapes must be the same."""
        sizes = [group["size"] for group in state["groups"]]
        own = [len(group["params"]) for group in self.groups]
        if sizes != own:
            raise ArgumentError("state", f"groups of {own} parameters", f"groups of {sizes}")
        for number, (parameter, entry) in enumerate(
            zip(self.parameters(), state["state"], strict=True)
        ):
            for name, value in entry.items():
                if name != "step" and np.shape(value) != parameter.shape:
                    raise ArgumentError(
                        f"state[{number}][{name!r}]", f"shape {parameter.shape}", np.shape(value)
                    )
        for group, settings in zip(self.groups, state["groups"], strict=True):
            group.update({k: v for k, v in settings.items() if k != "size"})
        for parameter, own_entry, entry in zip(
            self.parameters(), self.state, state["state"], strict=True
        ):
            own_entry.clear()
            for name, value in entry.items():
                own_entry[name] = int(value) if name == "step" else _like(parameter.data, value)

    def __repr__(self) -> str:
        first = {k: v for k, v in self.groups[0].items() if k != "params"}
        count = sum(parameter.size for parameter in self.parameters())
        settings = ", ".join(f"{k}={v}" for k, v in first.items())
        return f"{type(self).__name__}({settings}; {count:,} numbers in {len(self.groups)} groups)"


def _to_numpy(array: Array) -> Any:
    return array if isinstance(array, np.ndarray) else array.get()


def _like(array: Array, value: Any) -> Array:
    return array_module(array).array(value, dtype=array.dtype, order="C", copy=True)


class SGD(Optimizer):
    """Gradient descent: ``g += λ p; v = μ v + (1 − dampening) g; p −= lr (g + μ v | v | g)``.

    ``lr`` in PyTorch's sense: it multiplies the velocity, not the gradient inside it.
    Source: Sutskever et al., "On the importance of initialization and momentum", 2013.

    >>> from cnncore import tensor
    >>> p = tensor([1.0], requires_grad=True)
    >>> (p * p).sum().backward()
    >>> SGD([p], lr=0.1).step()
    >>> p.data
    array([0.8], dtype=float32)
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError(
                "nesterov", "momentum > 0 and dampening 0", (momentum, dampening), "momentum=0.9"
            )
        super().__init__(
            params,
            lr=float(lr),
            momentum=float(momentum),
            dampening=float(dampening),
            weight_decay=float(weight_decay),
            nesterov=bool(nesterov),
        )

    def _slots(self, group: Group) -> Sequence[str]:
        return ("velocity",) if group["momentum"] else ()

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        kernels.sgd_update(
            param,
            grad,
            state.get("velocity"),
            group["lr"],
            group["momentum"],
            # The first velocity is the gradient itself: PyTorch's rule.
            0.0 if state["step"] == 1 else group["dampening"],
            group["weight_decay"],
            group["nesterov"],
        )


class Adam(Optimizer):
    """Adam: ``p −= lr · m̂ / (√v̂ + eps)`` with running means of the gradient and its square.

    Weight decay is added to the gradient (L2); ``AdamW`` decouples it.
    Source: Kingma & Ba, "Adam", 2015, algorithm 1.
    """

    slots = ("m", "v")
    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ArgumentError("betas", "two numbers in 0..1, 1 excluded", betas)
        super().__init__(
            params,
            lr=float(lr),
            betas=(float(betas[0]), float(betas[1])),
            eps=float(eps),
            weight_decay=float(weight_decay),
        )

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        kernels.adam_update(
            param,
            grad,
            state["m"],
            state["v"],
            state["step"],
            group["lr"],
            group["betas"][0],
            group["betas"][1],
            group["eps"],
            group["weight_decay"],
            self.decoupled,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p −= lr · λ · p`` beside the update.

    Source: Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
    """

    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class NonFiniteGradientError(CnncoreError, ArithmeticError):
    """A gradient holds NaN or Inf: an update would destroy the weights."""


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor so that their joint Euclidean norm is at most ``max_norm``.

    One pass for the norm, and one for the scaling if it is needed.  Returns the norm before.  A NaN
    or Inf raises ``NonFiniteGradientError``, naming the parameter by position.
    Source: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks",
    2013, algorithm 1.

    >>> from cnncore import tensor
    >>> p = tensor([3.0, 4.0], requires_grad=True)
    >>> p.grad = tensor([3.0, 4.0])
    >>> clip_grad_norm([p], 1.0), p.grad.data.round(2).tolist()
    (5.0, [0.6000000238418579, 0.800000011920929])
    """
    if not max_norm > 0:
        raise ArgumentError("max_norm", "a number > 0", max_norm)
    parameters = list(params)
    gradients = {i: p.grad for i, p in enumerate(parameters) if p.grad is not None}
    squares = {}
    for number, gradient in gradients.items():
        flat = gradient.data.reshape(-1)
        squares[number] = float(array_module(flat).vdot(flat, flat))
    norm = math.sqrt(sum(squares.values()))
    if not math.isfinite(norm):
        number = next(i for i, square in squares.items() if not math.isfinite(square))
        raise NonFiniteGradientError(
            f"the gradient of parameter {number} (shape {parameters[number].shape}) is not finite; "
            "try: a lower learning rate, or cnncore.detect_anomaly() to see where it first appears"
        )
    if norm > max_norm:
        for number, gradient in gradients.items():
            # A new array: a gradient may share its memory, or be read-only.
            scaled = gradient.data * gradient.dtype.type(max_norm / norm)
            parameters[number].grad = Tensor(scaled)
    return norm
