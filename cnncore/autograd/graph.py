"""The walk backwards: reverse-mode differentiation of an explicit graph, without recursion.

``backward`` visits every op after all ops that used its results, hands it the gradient of its
outputs, and adds what it returns to the gradients of its inputs.  That is all there is to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cnncore.autograd import events, modes
from cnncore.autograd.function import Function, is_finite
from cnncore.autograd.tensor import OPERATORS, Edge, Tensor
from cnncore.errors import AnomalyError, ArgumentError, GraphError, ShapeError
from cnncore.kernels.dispatch import array_module

Key = tuple[int, int]  # (id of a Function or leaf Tensor, output index)


def topological_order(roots: Iterable[Tensor]) -> list[Function]:
    """Every op below ``roots``, each after all ops it depends on (so: reversed for backward)."""
    order: list[Function] = []
    seen: set[int] = set()
    stack = [(root.node, False) for root in roots if root.node is not None]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            for edge in reversed(node.edges):
                if edge is not None and isinstance(edge[0], Function) and id(edge[0]) not in seen:
                    stack.append((edge[0], False))
    return order


def backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Any],
    retain_graph: bool | None,
    create_graph: bool,
    inputs: Sequence[Tensor] | None = None,
) -> list[Tensor | None]:
    """Differentiate ``outputs`` towards ``inputs``, or (None) into ``.grad`` of all leaves."""
    retain = create_graph if retain_graph is None else retain_graph
    arrived: dict[Key, Tensor] = {}
    with modes.set_grad_enabled(create_graph):
        for output, gradient in zip(outputs, gradients, strict=True):
            _add(arrived, output.edge, _seed(output, gradient))
        order = topological_order(outputs)
        targets = None if inputs is None else {_key(x.edge) for x in inputs}
        useful = _useful(order, targets)
        for node in reversed(order):
            if id(node) in useful:
                _visit(node, arrived, useful, targets, retain)
    if inputs is not None:
        return [
            # Ops that were visited have run the hooks of their outputs already.
            arrived.get(_key(x.edge)) if id(x.node) in useful else _hooked(x.edge, arrived)
            for x in inputs
        ]
    _store(order, outputs, arrived, gradients)
    return []


def _visit(
    node: Function,
    arrived: dict[Key, Tensor],
    useful: set[int],
    targets: set[Key] | None,
    retain: bool,
) -> None:
    """One op: take the gradients of its outputs, give those of its inputs."""
    gys: list[Tensor | None] = []
    for index in range(len(node.shapes)):
        key = (id(node), index)
        gy = arrived.pop(key, None) if not node.hooks else _hooked((node, index), arrived)
        if gy is not None and targets is not None and key in targets:
            arrived[key] = gy
        elif node.hooks:
            arrived.pop(key, None)
        gys.append(gy)
    if all(gy is None for gy in gys):
        return
    needs = node.needs
    if targets is not None:
        node.needs = tuple(
            edge is not None and (_key(edge) in targets or id(edge[0]) in useful)
            for edge in node.edges
        )
    if events.observers:
        events.emit("before_backward", node, tuple(gys))
    try:
        gxs = node.backward(*gys)
        wanted = node.needs
    finally:
        node.needs = needs
    if events.observers:
        events.emit("after_backward", node, tuple(gys), tuple(gxs))
    if len(gxs) != len(node.edges):
        raise GraphError(
            f"backward of {node.name} returned {len(gxs)} gradients for {len(node.edges)} inputs"
        )
    anomaly = modes.is_anomaly_enabled()
    for edge, needed, gx in zip(node.edges, wanted, gxs, strict=True):
        if edge is not None and needed and gx is not None:
            if anomaly and not is_finite(gx.data):
                where = f"; its forward was called at {node.line}" if node.line else ""
                raise AnomalyError(f"backward of {node.name} gave NaN or Inf{where}")
            _add(arrived, edge, gx)
    if not retain:
        node.release()


def _add(arrived: dict[Key, Tensor], edge: Edge, gradient: Tensor) -> None:
    key = id(edge[0]), edge[1]
    shape = edge[0].data.shape if isinstance(edge[0], Tensor) else edge[0].shapes[edge[1]]
    if gradient.data.shape != shape:
        name = "a leaf" if isinstance(edge[0], Tensor) else edge[0].name
        raise GraphError(f"gradient towards {name} has shape {gradient.shape}, expected {shape}")
    present = arrived.get(key)
    arrived[key] = gradient if present is None else OPERATORS["add"](present, gradient)


def _key(edge: Edge) -> Key:
    return id(edge[0]), edge[1]


def _useful(order: list[Function], targets: set[Key] | None) -> set[int]:
    """Ops below which some target lies; the others need no visit."""
    if targets is None:
        return {id(node) for node in order}
    useful: set[int] = set()
    for node in order:
        if any(e and (_key(e) in targets or id(e[0]) in useful) for e in node.edges):
            useful.add(id(node))
    return useful


def _seed(output: Tensor, gradient: Any) -> Tensor:
    if not output.requires_grad:
        raise GraphError(
            "backward: this tensor does not depend on any tensor with requires_grad=True "
            "(or was computed under no_grad)"
        )
    if gradient is None:
        if output.size != 1:
            raise ShapeError(
                "gradient", f"an array of shape {output.shape}", "None", "reduce with .sum() first"
            )
        return Tensor(array_module(output.data).ones_like(output.data))
    seed = gradient if isinstance(gradient, Tensor) else Tensor(np.asarray(gradient, output.dtype))
    if seed.shape != output.shape:
        raise ShapeError("gradient", f"shape {output.shape}", seed.shape)
    return seed


def _hooked(edge: Edge, arrived: dict[Key, Tensor]) -> Tensor | None:
    """What arrived at a tensor, after its hooks."""
    source, index = edge
    gradient = arrived.get(_key(edge))
    if gradient is None:
        return None
    hooks = source.hooks if isinstance(source, Tensor) else (source.hooks or {}).get(index, ())
    for hook in tuple(hooks):
        replaced = hook(gradient)
        gradient = gradient if replaced is None else replaced
    return gradient


def _store(
    order: list[Function],
    outputs: Sequence[Tensor],
    arrived: dict[Key, Tensor],
    seeds: Sequence[Any],
) -> None:
    """Add what arrived at the leaves to their ``.grad``.

    Each ``.grad`` has memory of its own, which may be written into: it is shared neither with
    another leaf's nor with the gradient that the caller gave.
    """
    leaves: dict[int, Tensor] = {id(x): x for x in outputs if x.is_leaf}
    for node in order:
        for edge in node.edges:
            if edge is not None and isinstance(edge[0], Tensor):
                leaves[id(edge[0])] = edge[0]
    owners = {memory_owner(s.data if isinstance(s, Tensor) else s) for s in seeds}
    for leaf in leaves.values():
        gradient = _hooked((leaf, 0), arrived)
        if gradient is None:
            continue
        if leaf.grad is not None:
            leaf.grad = OPERATORS["add"](leaf.grad, gradient)
            continue
        if gradient.node is None:
            flags, owner = gradient.data.flags, memory_owner(gradient.data)
            own = flags.c_contiguous and getattr(flags, "writeable", True) and owner not in owners
            gradient = gradient if own else Tensor(gradient.data.copy())
        owners.add(memory_owner(gradient.data))
        leaf.grad = gradient


def owner_of(array: Any) -> Any:
    """The array whose memory this one sees: itself, or what it is a view of."""
    while getattr(array, "base", None) is not None and hasattr(array.base, "shape"):
        array = array.base
    return array


def memory_owner(array: Any) -> int:
    """What owns an array's memory: equal for all views of one block."""
    return id(owner_of(array))


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``outputs`` towards ``inputs`` (tensors or sequences of them), as a tuple.

    ``.grad`` is untouched.  With ``create_graph=True`` the gradients can be differentiated again.

    >>> from cnncore import tensor
    >>> x = tensor([3.0], requires_grad=True)
    >>> (first,) = grad(x * x * x, x, create_graph=True)
    >>> (second,) = grad(first, x)
    >>> second.item()
    18.0
    """
    outs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    ins = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if grad_outputs is None or (
        isinstance(outputs, Tensor) and not isinstance(grad_outputs, (list, tuple))
    ):
        seeds: tuple[Any, ...] = (grad_outputs,) * len(outs)
    else:
        seeds = tuple(grad_outputs)
    if len(seeds) != len(outs):
        raise ArgumentError("grad_outputs", f"{len(outs)} gradients", len(seeds), "one per output")
    for position, x in enumerate(ins):
        if not x.requires_grad:
            raise GraphError(f"grad: inputs[{position}] has requires_grad=False")
    results = backward(outs, seeds, retain_graph, create_graph, ins)
    for position, result in enumerate(results):
        if result is None and not allow_unused:
            raise GraphError(
                f"grad: outputs do not depend on inputs[{position}]; try: allow_unused=True"
            )
    return tuple(results)


def describe(output: Tensor) -> str:
    """The graph below a tensor as text, one op a line, inputs by number.

    >>> from cnncore import tensor
    >>> x = tensor([3.0], requires_grad=True)
    >>> print(describe(x * x + x))
    0  Mul  (1,)  <- leaf (1,), leaf (1,)
    1  Add  (1,)  <- 0, leaf (1,)
    """
    order = topological_order([output])
    numbers = {id(node): str(i) for i, node in enumerate(order)}

    def source(edge: Edge | None) -> str:
        if edge is None:
            return "constant"
        return f"leaf {edge[0].shape}" if isinstance(edge[0], Tensor) else numbers[id(edge[0])]

    lines = []
    for i, node in enumerate(order):
        shapes = ", ".join(str(shape) for shape in node.shapes)
        lines.append(f"{i}  {node.name}  {shapes}  <- {', '.join(map(source, node.edges))}")
    return "\n".join(lines)


def to_dot(output: Tensor) -> str:
    """The graph below a tensor in Graphviz' language, leaves as boxes."""
    lines = ["digraph cnncore {", "  rankdir=TB;"]
    for node in topological_order([output]):
        shape = " ".join(str(s) for s in node.shapes)
        lines.append(f'  n{id(node)} [label="{node.name}\\n{shape}"];')
        for edge in node.edges:
            if edge is None:
                continue
            if isinstance(edge[0], Tensor):
                lines.append(f'  n{id(edge[0])} [shape=box, label="leaf {edge[0].shape}"];')
            lines.append(f"  n{id(edge[0])} -> n{id(node)};")
    return "\n".join([*dict.fromkeys(lines), "}"])
