"""An interpreter of the small part of pickle that tensors need.

A pickle is a program for a machine with a stack and a memo.  Python's own machine can import any
function and call it.  This one can not: it knows the opcodes below and no others, a global is a
``Name`` (text, never looked up), and a call means one of the few functions that its ``Meaning``
holds.  What comes out is made of ``None``, bool, int, float, str, tuple, list, dict and what
``Meaning`` made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from cnncore.io.errors import FileFormatError, RefusedError

MAX_STEPS = 1_000_000  # opcodes of one pickle; the largest public classifiers have 60,000
MAX_NAME = 200  # characters of a global's module or name


def refuse(what: str, hint: str = "") -> NoReturn:
    """Stop at something that no weight file needs."""
    hint = hint or "where PyTorch is: torch.save(model.state_dict(), path)"
    raise RefusedError(f"holds {what}; nothing of it was executed; try: {hint}")


def damaged(what: str) -> NoReturn:
    """Stop at something that cannot be right."""
    raise FileFormatError(f"{what}; try: download or save it again")


@dataclass(frozen=True)
class Name:
    """A global that the file mentions: a label, not the thing."""

    text: str


class Ordered(dict[Any, Any]):
    """What stands for ``collections.OrderedDict`` (a plain dict keeps its order, too)."""


class Source:
    """The next ``size`` bytes of a file, and never one more."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes; asked before reading: a lie about a size costs nothing."""
        if count > self.left:
            damaged(f"ends {count - self.left} bytes too early")
        content = self.file.read(count)
        if len(content) != count:
            damaged("ends too early")
        self.left -= count
        return content

    def line(self) -> str:
        """Text up to the end of a line, of which a name's length is the limit."""
        content = self.file.readline(min(self.left, MAX_NAME + 1))
        self.left -= len(content)
        if not content.endswith(b"\n"):
            damaged("a global's name has no end")
        return text(content[:-1])


class Meaning:
    """What names, calls and persistent ids stand for: here nothing, all is refused."""

    def name(self, name: str) -> Any:
        """The value of a global."""
        refuse(f"the global {name!r}, which tensors have no need of")

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """The result of a call (opcode REDUCE)."""
        refuse(f"a call of {describe(function)}")

    def new(self, kind: Any, arguments: tuple[Any, ...]) -> Any:
        """An object without its contents (opcode NEWOBJ)."""
        refuse(f"an object of type {describe(kind)}")

    def build(self, value: Any, state: Any) -> None:
        """Fill an object (opcode BUILD)."""
        refuse(f"a state for {describe(value)}")

    def persistent(self, identity: Any) -> Any:
        """What an id stands for (opcode BINPERSID)."""
        refuse("a reference to something outside of the pickle")


class Machine:
    """One run over one pickle; ``run`` returns its value."""

    def __init__(self, source: Source, meaning: Meaning, max_steps: int = MAX_STEPS) -> None:
        self.source, self.meaning, self.max_steps = source, meaning, max_steps
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Execute up to STOP; every step does a bounded amount of work."""
        for _ in range(self.max_steps):
            code = self.source.take(1)
            if code == b".":
                break
            action = OPCODES.get(code)
            if action is None:
                name = REFUSED.get(code, f"0x{code.hex()}")
                refuse(f"the pickle opcode {name}, which tensors have no need of")
            action(self)
        else:
            damaged(f"a pickle of more than {self.max_steps} steps")
        if len(self.stack) != 1 or self.outer:
            damaged(f"a pickle that ends with {len(self.stack)} values")
        return self.stack.pop()

    def pop(self) -> Any:
        if not self.stack:
            damaged("a pickle that takes a value that is not there")
        return self.stack.pop()

    def top(self, kind: type | tuple[type, ...], action: str) -> Any:
        """The uppermost value, which stays where it is, if it is of exactly this type."""
        if not self.stack:
            damaged(f"a pickle that {action} nothing")
        if type(self.stack[-1]) not in (kind if isinstance(kind, tuple) else (kind,)):
            refuse(f"a pickle that {action} {describe(self.stack[-1])}")
        return self.stack[-1]

    def unmark(self) -> list[Any]:
        """The values above the last mark."""
        if not self.outer:
            damaged("a pickle that looks for a mark that is not there")
        values, self.stack = self.stack, self.outer.pop()
        return values

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.source.take(struct.calcsize(form)))[0]

    def remember(self, place: int) -> None:
        if not self.stack:
            damaged("a pickle that remembers nothing")
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        if place not in self.memo:
            damaged(f"a pickle that recalls number {place}, which it did not remember")
        self.stack.append(self.memo[place])

    def gather(self, count: int) -> None:
        """Make a tuple of the uppermost values."""
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def append(self, values: list[Any]) -> None:
        self.top(list, "appends to").extend(values)

    def insert(self, values: list[Any]) -> None:
        if len(values) % 2:
            damaged("a pickle with a key that has no value")
        target = self.top((dict, Ordered), "sets an item of")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[checked_key(key)] = value

    def call(self) -> None:
        arguments = self.arguments()
        self.stack.append(self.meaning.call(self.pop(), arguments))

    def new(self) -> None:
        arguments = self.arguments()
        self.stack.append(self.meaning.new(self.pop(), arguments))

    def arguments(self) -> tuple[Any, ...]:
        values = self.pop()
        if type(values) is not tuple:
            damaged(f"a call with {describe(values)} for arguments")
        return values

    def build(self) -> None:
        state = self.pop()
        if not self.stack:
            damaged("a pickle that gives nothing a state")
        self.meaning.build(self.stack[-1], state)

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def protocol(self) -> None:
        version = self.number("<B")
        if version != 2:
            refuse(f"a pickle of protocol {version}", "torch.save with its usual protocol, 2")

    def pop_pair(self) -> list[Any]:
        value = self.pop()
        return [self.pop(), value]


def checked_key(key: Any) -> Any:
    """A key that is cheap to hash and to compare, whatever the file's author had in mind.

    A tuple of tuples of tuples would overflow the C stack in ``hash``, and integers of many digits
    can be chosen to have the same hash.
    """
    if type(key) is str or (type(key) is int and abs(key) < 2**31):
        return key
    refuse(f"a dictionary with {describe(key)} for a key")


def describe(value: Any) -> str:
    """What a value is, in few words: its text could be endless."""
    return repr(value.text) if isinstance(value, Name) else f"a {type(value).__name__}"


def text(content: bytes) -> str:
    try:
        return content.decode("utf-8", "strict")
    except UnicodeDecodeError:
        damaged("text that is not UTF-8")


def _push(make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    def push(machine: Machine) -> None:
        value = make(machine)  # first, since it may change which stack is the present one
        machine.stack.append(value)

    return push


def _long(machine: Machine) -> int:
    return int.from_bytes(machine.source.take(machine.number("<B")), "little", signed=True)


# Opcode -> what it does; the names are those of Python's Lib/pickletools.py.
OPCODES: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": Machine.protocol,  # PROTO
    b"(": Machine.mark,  # MARK
    b"N": _push(lambda m: None),  # NONE
    b"\x88": _push(lambda m: True),  # NEWTRUE
    b"\x89": _push(lambda m: False),  # NEWFALSE
    b"K": _push(lambda m: m.number("<B")),  # BININT1
    b"M": _push(lambda m: m.number("<H")),  # BININT2
    b"J": _push(lambda m: m.number("<i")),  # BININT
    b"\x8a": _push(_long),  # LONG1
    b"G": _push(lambda m: m.number(">d")),  # BINFLOAT
    b"X": _push(lambda m: text(m.source.take(m.number("<I")))),  # BINUNICODE
    b"U": _push(lambda m: text(m.source.take(m.number("<B")))),  # SHORT_BINSTRING, of Python 2
    b")": _push(lambda m: ()),  # EMPTY_TUPLE
    b"]": _push(lambda m: []),  # EMPTY_LIST
    b"}": _push(lambda m: {}),  # EMPTY_DICT
    b"t": _push(lambda m: tuple(m.unmark())),  # TUPLE
    b"\x85": lambda m: m.gather(1),  # TUPLE1
    b"\x86": lambda m: m.gather(2),  # TUPLE2
    b"\x87": lambda m: m.gather(3),  # TUPLE3
    b"a": lambda m: m.append([m.pop()]),  # APPEND
    b"e": lambda m: m.append(m.unmark()),  # APPENDS
    b"s": lambda m: m.insert(m.pop_pair()),  # SETITEM
    b"u": lambda m: m.insert(m.unmark()),  # SETITEMS
    b"q": lambda m: m.remember(m.number("<B")),  # BINPUT
    b"r": lambda m: m.remember(m.number("<I")),  # LONG_BINPUT
    b"h": lambda m: m.recall(m.number("<B")),  # BINGET
    b"j": lambda m: m.recall(m.number("<I")),  # LONG_BINGET
    b"c": _push(lambda m: m.meaning.name(f"{m.source.line()}.{m.source.line()}")),  # GLOBAL
    b"R": Machine.call,  # REDUCE
    b"\x81": Machine.new,  # NEWOBJ
    b"b": Machine.build,  # BUILD
    b"Q": _push(lambda m: m.meaning.persistent(m.pop())),  # BINPERSID
}

# Names of the others, for the message.
REFUSED = {
    **{b"i": "INST", b"o": "OBJ", b"P": "PERSID", b"\x92": "NEWOBJ_EX", b"\x93": "STACK_GLOBAL"},
    **{b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4", b"0": "POP", b"1": "POP_MARK"},
    **{b"2": "DUP", b"I": "INT", b"L": "LONG", b"F": "FLOAT", b"S": "STRING", b"V": "UNICODE"},
    **{b"T": "BINSTRING", b"B": "BINBYTES", b"C": "SHORT_BINBYTES", b"\x8b": "LONG4"},
    **{b"g": "GET", b"p": "PUT", b"d": "DICT", b"l": "LIST", b"\x94": "MEMOIZE", b"\x95": "FRAME"},
    **{b"\x8c": "SHORT_BINUNICODE", b"\x8d": "BINUNICODE8", b"\x8e": "BINBYTES8"},
    **{b"\x8f": "EMPTY_SET", b"\x90": "ADDITEMS", b"\x91": "FROZENSET", b"\x96": "BYTEARRAY8"},
    **{b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER"},
}
