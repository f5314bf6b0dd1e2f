"""Mutated files of PyTorch: a reader may refuse them, and that is all that may happen.

``make fuzz`` runs this for ten minutes (``ARGS="--seconds 60 --seed 7"``); the tests run a fixed
number.  A file that breaks something is printed as the call that makes it again.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from torch_builder import (
    ORDERED,
    Call,
    Global,
    Persistent,
    Specimen,
    dump,
    specimen,
    storage,
    tensor,
)
from torch_watch import examine

from cnncore.io.torch_file import read_stream
from cnncore.io.torch_file.pickle_machine import OPCODES, REFUSED

INTERESTING = [0, 1, 2, 11, 12, 13, 127, 255, 2**15, 2**31 - 1, -1, -(2**31)]
NAMES = [
    b"os\nsystem\n",
    b"torch\nLongStorage\n",
    b"torch\nfloat64\n",
    b"collections\nOrderedDict\n",
]


def seeds() -> list[Specimen]:
    """Sound files that between them use every opcode and every call that is known."""
    arrays = {
        "weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "bias": np.arange(3, dtype=np.float16),
        "steps": np.array(7, np.int64),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 2), np.int8),
    }
    made = [specimen(layout, arrays) for layout in ("zip", "legacy")]
    content = {"0": (12, bytes(range(48)))}
    one = tensor(storage("Float", "0", 12), 2, (2, 3), (1, 2))
    untyped = Persistent(("storage", Global("torch.storage", "UntypedStorage"), "1", "cpu", 6))
    third = Global("torch._utils", "_rebuild_tensor_v3")
    short = Call(third, (untyped, 0, (3,), (1,), False, ORDERED, Global("torch", "bfloat16")))
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), (one, True, ORDERED))
    stretch = storage("Float", "0", 12, ("v", 4, 4))
    rich = {
        "epoch": 3,
        "state_dict": {"w": one, "p": parameter, "s": short},
        "list": [1, 2.5, None, True, ("text", 2**40)],
    }
    made.append(Specimen("zip", dump(rich), content | {"1": (6, bytes(6))}))
    made.append(Specimen("legacy", dump({"v": tensor(stretch, 1, (2,), (1,))}), content))
    # PyTorch's own way of writing: short numbers, and a memo for everything.
    code = (
        b"\x80\x02}q\x00U\x01wctorch._utils\n_rebuild_tensor\nq\x01((X\x07\x00\x00\x00storageq\x02"
    )
    code += b"ctorch\nFloatStorage\nq\x03U\x010q\x04X\x03\x00\x00\x00cpuq\x05K\x0ctq\x06QK\x01"
    code += b"K\x02\x85r\x07\x00\x00\x00M\x01\x00\x85tRr\x08\x01\x00\x00sU\x01xj\x08\x01\x00\x00s."
    made.append(Specimen("zip", code, content))
    return made


def mutate(rng: random.Random, made: Specimen) -> bytes:
    """One to four changes: of the parts (checksums then fit), or of the finished bytes."""
    if rng.random() < 0.3:
        return changed(rng, made.bytes())
    pickle, storages = made.pickle, dict(made.storages)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if rng.random() < 0.9 or not storages:
            pickle = changed(rng, pickle)
        else:
            key = rng.choice(list(storages))
            count, content = storages[key]
            storages[key] = (rng.choice([*INTERESTING, count]), changed(rng, content))
    return dataclasses.replace(made, pickle=pickle, storages=storages).bytes()


def changed(rng: random.Random, content: bytes) -> bytes:
    """One random change of bytes."""
    if not content:
        return rng.randbytes(4)
    at = rng.randrange(len(content))
    until = min(len(content), at + rng.choice([1, 1, 2, 4, 8, 64]))
    kind = rng.randrange(8)
    if kind == 0:  # a bit
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == 1:  # another opcode
        code = rng.choice([*OPCODES, *REFUSED])
        return content[:at] + code + content[at + rng.randrange(2) :]
    if kind == 2:  # a number
        number = rng.choice(INTERESTING).to_bytes(8, "little", signed=True)[: rng.choice([1, 4, 8])]
        return content[:at] + number + content[at + len(number) :]
    if kind == 3:  # a piece less
        return content[:at] + content[until:]
    if kind == 4:  # a piece twice
        return content[:until] + content[at:]
    if kind == 5:  # a piece elsewhere
        to = rng.randrange(len(content))
        return content[:to] + content[at:until] + content[to:]
    if kind == 6:  # another name
        return content[:at] + b"c" + rng.choice(NAMES) + content[at:]
    return content[:at] if rng.random() < 0.3 else content[:at] + rng.randbytes(3) + content[at:]


def candidate(seed: int) -> bytes:
    """The file of that number; the same number gives the same file."""
    rng = random.Random(seed)
    return mutate(rng, rng.choice(SEEDS))


SEEDS = seeds()


def fuzz(first: int, go_on: Callable[[int], bool], read: Any = read_stream) -> Counter[str]:
    """Examine files number ``first`` and up while ``go_on(count)``; how often what came of them."""
    outcomes: Counter[str] = Counter()
    while go_on(outcomes.total()):
        seed = first + outcomes.total()
        try:
            outcome = examine(candidate(seed), read)
        except Exception as error:
            raise AssertionError(f"fuzz_torch.candidate({seed}): {error!r}") from error
        outcomes[outcome if outcome == "read" else " ".join(outcome.split()[:4])] += 1
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description="Feed mutated files to the reader of .pth files.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()) * 1000, help="first number")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    outcomes = fuzz(options.seed, lambda count: time.monotonic() < end)
    print(f"{outcomes.total()} files from number {options.seed}, {outcomes['read']} of them sound")
    for outcome, count in outcomes.most_common(25):
        print(f"{count:8} {outcome}")


if __name__ == "__main__":
    main()
