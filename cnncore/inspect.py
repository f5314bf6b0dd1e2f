"""What runs on what, and why not on better (``info``); from an op to its kernel (``where``).

Nothing computes with this module; it only looks at what lies below it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cnncore
from cnncore.autograd import Function
from cnncore.errors import ArgumentError, BackendError
from cnncore.kernels import checks, contract, cuda, dispatch, native, switches

# Optional packages and the extra of cnncore that installs each.
OPTIONAL = {
    "PIL": "vision",
    "cupy": "cuda13",
    "jinja2": "vision",
    "matplotlib": "vision",
    "onnx": "onnx",
    "pooch": "vision",
    "pycocotools": "vision",
    "safetensors": "pretrained",
    "scipy": "vision",
    "skimage": "vision",
    "sklearn": "vision",
    "tqdm": "vision",
}

# --- info -----------------------------------------------------------------------------------------


def info() -> str:
    """What runs on what, and why not on better, as text.

    Versions; the backend asked for; whether the compiled kernels are there, else the reason; the
    instruction set in use and those available; threads; the memory pool; CUDA or the reason why
    not; optional packages; and for every kernel the backend that serves it.

    >>> print(info())  # doctest: +ELLIPSIS
    cnncore ...
    """
    import importlib.util
    import platform  # here, because it would be a tenth of the time of ``import cnncore``

    lines = [
        _line("cnncore", f"{cnncore.__version__} ({Path(cnncore.__file__).parent})"),
        _line("Python", f"{platform.python_version()} on {platform.platform()}"),
        _line("NumPy", np.__version__),
        _line("processor", machine()),
        _line("backend asked for", dispatch.get_backend()),
    ]
    built = native.describe()
    lines.append(_line("native kernels", "yes" if native.AVAILABLE else f"no: {native.REASON}"))
    for key, value in built.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        lines.append(_line(f"  {key.replace('_', ' ')}", text or "none"))
    lines += [
        _line(f"  memory {key}", f"{value:,}") for key, value in native.memory_stats().items()
    ]
    lines.append(_line("CUDA kernels", "yes" if cuda.AVAILABLE else f"no: {cuda.REASON}"))
    lines += _device_lines()
    for module, extra in OPTIONAL.items():
        found = importlib.util.find_spec(module) is not None
        lines.append(
            _line(f"  {module}", "present" if found else f'pip install "cnncore[{extra}]"')
        )
    return "\n".join([*lines, *_kernel_lines()])


def _line(name: str, value: str) -> str:
    return f"{name:<22}{value}"


def _device_lines() -> Iterator[str]:
    """Architectures, switches, what falls back and what is not deterministic on a GPU."""
    if cuda.architectures():
        yield _line("  compiled for", ", ".join(cuda.architectures()))
    yield _line("  TF32 products", "allowed" if switches.tf32_allowed() else "not allowed")
    missing = [name for name in dispatch.KERNELS if not hasattr(cuda, name)]
    yield _line("  through array", ", ".join(missing) or "none")
    for backend in ("cuda", "array"):
        for name, reason in dispatch.nondeterministic(backend).items():
            yield _line("  nondeterministic", f"{name} on a device through {backend}: {reason}")


def _kernel_lines() -> Iterator[str]:
    yield "kernels"
    for name in dispatch.KERNELS:
        try:
            backend, _, reasons = dispatch.resolve(name)
        except BackendError as error:
            yield _line(f"  {name}", f"none ({error})")
            continue
        why = f" ({'; '.join(reasons)})" if reasons else ""
        yield _line(f"  {name}", backend + why)


def machine() -> str:
    """The machine in words, for every figure that depends on it."""
    import platform

    threads = native.get_num_threads()
    isa = native.describe().get("isa", "NumPy")
    return f"{_cpu_name()}, {threads} thread{'s' * (threads > 1)}, {isa}, {platform.system()}"


def _cpu_name() -> str:
    """The processor's family, model and name where Linux tells (a name alone may be generic)."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    name = facts.get("model name", platform.machine())
    numbers = [facts[key] for key in ("cpu family", "model") if key in facts]
    return f"{name} ({' / '.join(numbers)})" if numbers else name


# --- where ----------------------------------------------------------------------------------------


def where(op: Callable[..., Any]) -> str:
    """Print and return the hops from an op's Python call to its kernels, each with file and line.

    The op; the ``Function`` classes or linear maps that it and its helpers build; for each kernel
    these call: its declaration in the contract, the backend chosen (and why not a better one), the
    Python function that serves it and, for compiled kernels, the C++ source.

    >>> text = where(cnncore.ops.relu)  # doctest: +ELLIPSIS
    ops.relu ...
    """
    if not isinstance(op, types.FunctionType):
        raise ArgumentError("op", "a function of cnncore.ops", repr(op), "cnncore.ops.conv2d")
    lines = [f"ops.{op.__name__}  {_place(op)}"]
    functions, kernels = _reach(op)
    for cls in functions:
        lines.append(f"  Function {cls.__name__}  {_place(cls)}")
        _, used = _reach(cls.backward, cls)
        through = f"  (kernels {', '.join(used)})" if used else ""
        lines.append(f"    backward  {_place(cls.backward)}{through}")
    sources = native.sources()
    for name in kernels:
        lines.append(f"  kernel {name}")
        lines.append(f"    means     {_place(getattr(contract, name))}")
        try:
            backend, implementation, reasons = dispatch.resolve(name)
        except BackendError as error:
            lines.append(f"    nowhere   {error}")
            continue
        lines.append(f"    checked   {_place(getattr(checks, name))}")
        lines.append(f"    chosen    {backend}, by {_place(dispatch.resolve)}")
        lines += [f"    not       {reason}" for reason in reasons]
        lines.append(f"    runs      {_place(implementation)}")
        if backend == "native" and name in sources:
            lines.append(f"    compiled  {sources[name]}")
    text = "\n".join(lines)
    print(text)
    return text


def _place(thing: Any) -> str:
    """``file:line`` of a function or class."""
    import inspect  # the standard library's: this file is cnncore.inspect

    try:
        thing = inspect.unwrap(thing)
        path, (_, line) = inspect.getsourcefile(thing), inspect.getsourcelines(thing)
    except (OSError, TypeError):
        return "(built in)"
    return f"{path}:{line}"


def _reach(
    start: Callable[..., Any], owner: type | None = None
) -> tuple[list[type[Function]], list[str]]:
    """The Function classes and kernels that code names, itself or through helpers.

    Read off the names in the compiled code, without running it: functions and classes of the layer
    of ops, the forward pass of a Function, and methods of the classes met on the way.
    """
    functions: list[type[Function]] = []
    kernels: list[str] = []
    methods: dict[str, list[Any]] = {}
    seen: set[int] = set()
    if owner is not None:
        _add_methods(owner, methods)
    waiting: list[Any] = [start]
    while waiting:
        thing = waiting.pop(0)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, type):
            _add_methods(thing, methods)
            if issubclass(thing, Function):
                functions.append(thing)
                waiting.insert(0, thing.forward)
            continue
        names = list(dict.fromkeys(_names(thing.__code__)))
        if "kernels" in names:
            kernels += [n for n in names if n in dispatch.KERNELS and n not in kernels]
        for name in names:
            found = thing.__globals__.get(name)
            waiting += [found] if _belongs(found) else methods.get(name, [])
    return functions, kernels


def _add_methods(cls: type, methods: dict[str, list[Any]]) -> None:
    for base in cls.__mro__:
        if base.__module__.startswith("cnncore.ops"):
            for name, method in vars(base).items():
                if isinstance(method, types.FunctionType) and name not in ("forward", "backward"):
                    methods.setdefault(name, []).append(method)


def _belongs(thing: Any) -> bool:
    """A function or class of the layer of ops."""
    module = getattr(thing, "__module__", None) or ""
    return isinstance(thing, (type, types.FunctionType)) and module.startswith("cnncore.ops")


def _names(code: types.CodeType) -> Iterator[str]:
    """Names that code uses, those of its inner functions included, in order."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
