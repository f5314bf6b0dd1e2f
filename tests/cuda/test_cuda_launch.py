"""How device code is launched, and what its Python side does: devices, streams, memory, errors."""

from __future__ import annotations

from types import SimpleNamespace

import device_support as support
import numpy as np
import pytest
import strict_arrays

import cnncore
from cnncore import kernels
from cnncore.errors import ArgumentError, BackendError, CudaError, OutOfMemoryError
from cnncore.kernels import cuda, dispatch, switches
from cnncore.kernels.cuda import runtime

pytestmark = [
    support.needs_device_code,
    pytest.mark.skipif(support.REAL, reason="plays with the stand-in for CuPy"),
]
ORDERS = [{}, {"reverse": True}, {"max_blocks": 1}, {"max_blocks": 3, "reverse": True}]


@pytest.fixture
def hosted():
    with support.hosted() as module:
        yield module


def there(*shape, dtype=np.float32, seed=0):
    numbers = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    return strict_arrays.asarray(numbers)


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("count", [1, 3, 4, 1023, 5000])
def test_any_grid_and_any_order_give_the_same(hosted, count, order):
    x, scale = there(count), there(count, seed=1)
    expected = kernels.pointwise(x, "gelu", scale=scale).get()
    with support.host_order(**order):
        np.testing.assert_array_equal(kernels.pointwise(x, "gelu", scale=scale).get(), expected)


def test_arrays_that_start_between_packs(hosted):
    x = there(103)
    whole = kernels.pointwise(x, "silu").get()
    for start in (1, 2, 3, 4):
        np.testing.assert_array_equal(kernels.pointwise(x[start:], "silu").get(), whole[start:])


def test_device_and_stream_are_the_current_ones(hosted, monkeypatch):
    seen = []
    monkeypatch.setattr(strict_arrays.state, "device", 3)
    monkeypatch.setattr(strict_arrays.state, "stream", 0xABC)
    probe = SimpleNamespace(probe=lambda *args: seen.append(args))
    monkeypatch.setattr(runtime, "compiled", probe)
    runtime.call("probe", strict_arrays, 1, 2)
    assert seen == [((3, 0xABC), 1, 2)]


def test_out_of_memory_names_op_and_bytes(hosted, monkeypatch):
    x = there(10, 1000)
    monkeypatch.setattr(strict_arrays.state, "room", 1000)
    with pytest.raises(OutOfMemoryError, match=r"pointwise: no room .* 40,000 bytes") as caught:
        kernels.pointwise(x, "relu")
    assert isinstance(caught.value, MemoryError)
    assert kernels.pointwise(x[0, :100], "relu").shape == (100,)  # nothing is broken


def test_a_failed_launch_is_an_error_with_its_op(hosted, monkeypatch):
    def failing(queue):
        raise RuntimeError("relu", 700, "relu: an illegal memory access was encountered")

    monkeypatch.setattr(runtime, "compiled", SimpleNamespace(relu=failing))
    with pytest.raises(CudaError, match=r"relu: an illegal .*CUDA error 700.*LAUNCH_BLOCKING"):
        runtime.call("relu", strict_arrays)


def test_bindings_refuse_what_kernels_cannot_read(hosted):
    x, y = there(4, 6), there(4, 6)

    def call(x, y, scale=None):
        runtime.call("pointwise", strict_arrays, x, 0, 0.0, 0.0, 0, scale, y)

    call(x, y)
    for bad in (
        (x[:, ::2], y[:, :3], None),  # not contiguous
        (x, there(6, 4), None),
        (x, y, there(4, 5)),
        (x, there(4, 6, dtype=np.float64), None),
        (strict_arrays.asarray(np.zeros((4, 6), np.int64)), y, None),
    ):
        with pytest.raises(ArgumentError):
            call(*bad)
    read_only = np.zeros((4, 6), np.float32)
    read_only.flags.writeable = False
    with pytest.raises(ArgumentError, match="writeable"):
        call(x, strict_arrays.Array(read_only))
    with pytest.raises(TypeError):
        call(np.zeros((4, 6), np.float32), y)  # nothing of the host comes in


def test_what_has_no_device_kernel_runs_through_array(hosted, monkeypatch):
    monkeypatch.delattr(cuda, "pointwise")
    backend, _, reasons = dispatch.resolve("pointwise", device=True)
    assert backend == "array"
    assert reasons == ["cuda: has no pointwise"]
    assert kernels.pointwise(there(5), "relu").shape == (5,)


def test_array_kernels_out_of_memory_name_the_op_too(hosted, monkeypatch):
    def greedy(*args, **kwargs):
        raise strict_arrays.OutOfMemoryError("Out of memory allocating 12,000 bytes")

    monkeypatch.delattr(cuda, "pointwise")
    monkeypatch.setattr(dispatch.array, "pointwise", greedy)
    with pytest.raises(OutOfMemoryError, match="pointwise: Out of memory allocating 12,000 bytes"):
        kernels.pointwise(there(5), "relu")


def test_deterministic_refuses_what_adds_by_atomics(hosted, monkeypatch):
    monkeypatch.setattr(
        dispatch,
        "BACKENDS",
        {
            **dispatch.BACKENDS,
            "cuda": SimpleNamespace(AVAILABLE=False, REASON="absent for this test"),
        },
    )
    src, key = there(3), strict_arrays.asarray(np.array([0, 0, 1]))
    with cnncore.deterministic(True):
        with pytest.raises(BackendError, match=r"put_add.*array.*atomics"):
            kernels.put_add(src, key, (2,))
        kernels.put_add(src.get(), key.get(), (2,))  # on the CPU the order is fixed
    assert kernels.put_add(src, key, (2,)).shape == (2,)
    assert "put_add" in cnncore.info()


def test_switches_are_set_at_once_and_restored():
    with cnncore.allow_tf32(True):
        assert switches.tf32_allowed()
        cnncore.allow_tf32(False)
        assert not switches.tf32_allowed()
    assert not switches.tf32_allowed()
    with cnncore.deterministic(), pytest.raises(BackendError):
        kernels.put_add(there(3), strict_arrays.asarray(np.zeros(3, np.int64)), (2,))
    assert not switches.is_deterministic()
