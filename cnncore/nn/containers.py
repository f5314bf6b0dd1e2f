"""Modules made of modules in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.nn.module import Module
from cnncore.nn.norm import activated, fuses


class ModuleList(Module):
    """Modules by number, named ``"0"``, ``"1"``, …; it only holds them.

    >>> from cnncore.nn import ReLU
    >>> len(ModuleList([ReLU(), ReLU()]))
    2
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        self._add(str(len(self)), module)

    def _add(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise ArgumentError(f"module {name}", "a Module", type(module).__name__)
        setattr(self, name, module)

    def __len__(self) -> int:
        return len(self.children())

    def __iter__(self) -> Iterator[Module]:
        return iter(self.children().values())

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]


class Sequential(ModuleList):
    """Modules applied one after the other; a mapping instead gives them names.

    >>> from cnncore.nn import Linear, ReLU
    >>> list(Sequential(Linear(2, 3), ReLU(), Linear(3, 1)).state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, named in modules[0].items():
                self._add(name, named)
            return
        for module in modules:
            self.append(module)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Any:
        """The last module's result; what ``fuses`` names is one pass over memory."""
        modules = iter((*self, None))
        module = next(modules)
        while module is not None:
            after = next(modules)
            if fuses(module, after):
                x, after = activated(module, after, x), next(modules)
            else:
                x = module(x)
            module = after
        return x
