"""Kernels without arithmetic say the shape and type that real kernels give."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from test_kernels_invariance import linear, rounded

from cnncore import kernels
from cnncore.geometry import Window2d
from cnncore.kernels import dispatch, shapes

WITHOUT_A_SHAPE = {"nms", "sgd_update", "adam_update"}


def described(result):
    arrays = result if isinstance(result, tuple) else (result,)
    return [(array.shape, array.dtype) for array in arrays]


@contextlib.contextmanager
def comparing(seen):
    """Every kernel called inside the block is compared with its shape rule."""

    def compared(name, real):
        def kernel(*args, **kwargs):
            result = real(*args, **kwargs)
            promised = getattr(shapes, name)(*args, **kwargs)
            assert described(promised) == described(result), name
            seen.add(name)
            return result

        return kernel

    with contextlib.ExitStack() as stack:
        for name in set(dispatch.KERNELS) - WITHOUT_A_SHAPE:
            real = dispatch.resolve(name)[1]
            stack.enter_context(dispatch.override(name, compared(name, real)))
        yield


def test_every_kernel_keeps_its_promise(dtype):
    seen = set()
    with comparing(seen):
        linear(dtype, True)
        rounded(dtype)
        kernels.ufunc("greater", np.zeros(3, dtype), np.zeros(3, dtype))
        kernels.take(np.zeros((4, 3)), (np.array([True, False, True, True]), None))
    assert seen == set(dispatch.KERNELS) - WITHOUT_A_SHAPE


def test_results_take_no_memory_and_cannot_be_written():
    x = shapes.hollow((1000, 1000, 1000, 1000))
    with shapes.computing_shapes_only():
        y = kernels.max_pool2d(x, Window2d((2, 2), (2, 2)), (500, 500))[0]
    assert y.shape == (1000, 1000, 500, 500)
    assert shapes.is_hollow(y)
    assert not shapes.is_hollow(np.zeros(2))
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 1


def test_kernels_compute_again_afterwards():
    with contextlib.suppress(KeyError), shapes.computing_shapes_only():
        raise KeyError
    assert kernels.reduce_sum(np.ones(3), (0,)) == 3
