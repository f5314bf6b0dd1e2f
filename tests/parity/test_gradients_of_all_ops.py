"""First and second derivatives of every op with a PyTorch namesake, by finite differences."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from torch_table import TABLE, D

from cnncore import ops
from cnncore.testing import gradcheck, gradgradcheck

CASES = 2
WITHOUT_GRADIENT = {"lt", "le", "gt", "ge", "eq", "to"}


def split(value, wanted):
    """A function that puts tensors where the drawn argument has something to differentiate by."""
    if isinstance(value, D):
        wanted.append(value.array)
        position = len(wanted) - 1
        return lambda tensors: tensors[position]
    if isinstance(value, dict):
        parts = {name: split(part, wanted) for name, part in value.items()}
        return lambda tensors: {name: part(tensors) for name, part in parts.items()}
    if isinstance(value, (list, tuple)):
        items = [split(part, wanted) for part in value]
        return lambda tensors: type(value)(part(tensors) for part in items)
    # Running statistics are written to: every call gets its own.
    return lambda _: value.copy() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", [name for name in TABLE if name not in WITHOUT_GRADIENT])
def test_gradients_of_op(name):
    for seed in range(CASES):
        call = TABLE[name].draw(np.random.default_rng([zlib.crc32(name.encode()), 99, seed]))
        arrays = []
        args, options = split(list(call.args), arrays), split(call.options, arrays)

        def fn(*tensors, args=args, options=options):
            return getattr(ops, name)(*args(tensors), **options(tensors))

        gradcheck(fn, arrays, seeds=(seed,))
        gradgradcheck(fn, arrays, seeds=(seed,))
