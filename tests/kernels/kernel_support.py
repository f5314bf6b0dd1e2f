"""What the kernel tests share: tolerances, forms of arrays, random windows and taps."""

from __future__ import annotations

import device_support
import numpy as np
import pytest
from hypothesis import strategies as st

from cnncore.geometry import Window2d
from cnncore.taps import Bins, Taps

AVAILABLE = device_support.backends()


def assert_close(actual, expected, length, terms, dtype):
    """A sum of ``length`` terms is right up to rounding.

    Adding n terms in any order errs by at most (n − 1) u Σ|term| to first order, u = eps/2 being
    the rounding of one operation (Higham, "Accuracy and Stability of Numerical Algorithms", 4.2).
    A term that is a product of rounded factors brings at most 4 roundings more (two factors of the
    taps and their product with each other and the pixel).  So the bound is (n + 4) u Σ|term|,
    doubled for what "to first order" leaves out.  ``terms`` is Σ|term|, element by element: the
    same oracle on absolute values.
    """
    dtype = np.dtype(dtype)
    assert actual.dtype == dtype, f"type {actual.dtype}, not {dtype}"
    assert actual.dtype.isnative
    assert actual.flags.c_contiguous
    assert actual.shape == expected.shape
    # what one term loses by denormal numbers (about 1e-45 in float32) is added once a term
    tiny = np.finfo(dtype).smallest_subnormal
    bound = (length + 4) * (np.finfo(dtype).eps * np.abs(terms) + tiny)
    error = np.abs(actual.astype(np.float64) - expected)
    worst = np.unravel_index(np.argmax(error - bound), error.shape) if error.size else None
    assert np.all(error <= bound), (
        f"at {worst}: {actual[worst]!r}, expected {expected[worst]!r}, "
        f"error {error[worst]:.3g}, allowed {np.broadcast_to(bound, error.shape)[worst]:.3g}"
    )


def assert_exact(actual, expected, dtype=None):
    """The same numbers, and a result as the contract promises it."""
    assert actual.dtype == (expected.dtype if dtype is None else dtype)
    assert actual.dtype.isnative
    assert actual.flags.c_contiguous
    np.testing.assert_array_equal(actual, expected)


FORMS = {
    "contiguous": lambda x: x,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "column major": np.asfortranarray,
    "foreign bytes": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "unaligned": lambda x: _unaligned(x),
    "read-only": lambda x: _read_only(x),
}


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    y = raw[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def window(kernel, stride=1, padding=0, dilation=1):
    return Window2d.make(kernel, stride, padding, dilation)


def random_taps(rng, groups, length, size, most=3):
    """Sparse matrices with empty rows, repeated positions, and rubbish beyond ``count``."""
    shape = (groups, length, most)
    count = rng.integers(0, most + 1, shape[:2])
    index = rng.integers(0, size, shape)
    index[np.arange(most) >= count[:, :, None]] = 10**6  # no backend may look here
    return Taps(size, index, rng.normal(size=shape), count)


def absolute(taps):
    return Taps(taps.size, taps.index, np.abs(taps.weight), taps.count)


def random_bins(rng, groups, length, size):
    """Intervals inside 0 .. size, some empty, some overlapping."""
    edges = rng.integers(0, size + 1, (2, groups, length))
    return Bins(size, edges[0], edges[1])


@st.composite
def windows(draw, largest=9):
    """A window and the size of a plane into which it fits."""
    one_to = lambda n: draw(st.integers(1, n))  # noqa: E731
    kernel, stride, dilation = ((one_to(4), one_to(4)) for _ in range(3))
    dilation = (min(dilation[0], 3), min(dilation[1], 3))
    side = st.tuples(st.integers(0, 3), st.integers(0, 3))
    padding = (draw(side), draw(side))
    made = Window2d(kernel, stride, padding, dilation)
    size = []
    for axis in (0, 1):
        least = max(1, made.extent[axis] - sum(padding[axis]))
        size.append(draw(st.integers(least, max(least, largest))))
    return made, tuple(size)


seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])
each_backend = pytest.mark.parametrize("name", AVAILABLE)
