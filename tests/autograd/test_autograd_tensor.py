"""The tensor as an array: construction, NumPy, DLPack, printing."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import cnncore
from cnncore import Tensor, from_dlpack, grad, ops, tensor
from cnncore.errors import ArgumentError, DTypeError, GraphError


def test_types_of_new_tensors():
    assert tensor([1.0]).dtype == np.float32
    assert tensor(1).dtype == np.int64
    assert tensor(np.ones(2)).dtype == np.float64
    assert tensor([1.0], dtype="float64").dtype == np.float64
    assert tensor(np.ones(2, ">f8")).dtype.isnative
    with pytest.raises(DTypeError):
        tensor(["a"])
    with pytest.raises(DTypeError):
        tensor([1j])


def test_tensor_copies_and_Tensor_does_not():  # noqa: N802
    array = np.ones(2)
    assert not np.shares_memory(tensor(array).data, array)
    assert Tensor(array).data is array


def test_arithmetic_with_arrays_on_either_side():
    x = tensor(np.ones(3), requires_grad=True)
    for y in (np.ones(3) + x, x + np.ones(3), np.float64(2) * x, np.ones((2, 3)) @ x):
        assert isinstance(y, Tensor)
        assert y.requires_grad


def test_numpy_reads_tensors():
    x = tensor([[1.0, 2.0]])
    np.testing.assert_array_equal(np.asarray(x), [[1, 2]])
    assert np.asarray(x, np.float64).dtype == np.float64
    assert np.array(x) is not x.data
    assert len(x) == 1
    assert float(tensor(2.5)) == 2.5
    assert int(tensor(2)) == 2
    assert bool(tensor([True]))
    with pytest.raises(TypeError):
        len(tensor(1.0))


def test_dlpack_both_ways():
    x = tensor([1.0, 2.0])
    view = np.from_dlpack(x)
    assert np.shares_memory(view, x.data)
    back = from_dlpack(x.data)
    assert isinstance(back, Tensor)
    assert np.shares_memory(back.data, x.data)
    with pytest.raises(GraphError, match="detach"):
        np.from_dlpack(tensor([1.0], requires_grad=True))
    with pytest.raises(ArgumentError, match="__dlpack__"):
        from_dlpack([1.0])


def test_dlpack_with_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.tensor([1.0, 2.0])
    ours = from_dlpack(theirs)
    theirs[0] = 5.0
    assert ours.numpy()[0] == 5
    np.testing.assert_array_equal(torch.from_dlpack(ours).numpy(), [5, 2])


def test_printing():
    x = tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "tensor([1., 2.], requires_grad=True)"
    assert repr(x * 2.0) == "tensor([2., 4.], from=Mul)"
    assert repr(tensor(np.ones(1))) == "tensor([1.], dtype=float64)"
    assert len(repr(tensor(np.zeros((1000, 1000))))) < 2000


def test_tensors_can_be_copied_and_are_their_own_keys():
    x = tensor([1.0], requires_grad=True)
    y = copy.deepcopy(x)
    assert y.requires_grad
    assert not np.shares_memory(x.data, y.data)
    assert {x: 1}[x] == 1
    assert y not in {x: 1}


def test_devices():
    x = tensor([1.0])
    assert x.device == "cpu"
    assert tensor([1.0], device="cpu").device == "cpu"
    with pytest.raises(ArgumentError):
        tensor([1.0], device="tpu")


def test_methods_reach_the_ops():
    x = tensor(np.array([[1.0, 4.0], [9.0, 16.0]]), requires_grad=True)
    np.testing.assert_array_equal(x.sqrt().numpy(), [[1, 2], [3, 4]])
    assert x.mean().item() == 7.5
    assert x.max().item() == 16
    assert x.min(0).shape == (2,)
    assert x.T.shape == (2, 2)
    assert abs(-x).sum().item() == 30
    assert (x @ x).shape == (2, 2)
    assert x.clamp(max=4.0).sum().item() == 13
    (gx,) = grad(x.log().sum(), x)
    np.testing.assert_allclose(gx.numpy(), 1 / x.data)


# --- the package's front door ---------------------------------------------------------------------


def test_every_public_name_is_there():
    for name in cnncore.__all__:
        if name not in cnncore._LAZY:
            assert getattr(cnncore, name) is not None
    for name in ops.__all__:
        assert getattr(ops, name).__doc__
    with pytest.raises(AttributeError, match="nonsense"):
        cnncore.nonsense  # noqa: B018


def test_every_op_can_be_followed_to_its_kernels(capsys):
    text = cnncore.where(ops.conv2d)
    assert capsys.readouterr().out.strip() == text
    lines = text.splitlines()
    assert "conv.py:" in lines[0]
    for part in ("Function Conv2d", "kernel conv2d", "contract.py:", "checks", "dispatch.py:"):
        assert part in text
    assert "normalize" in cnncore.where(ops.batch_norm)
    assert "pointwise" in cnncore.where(ops.gelu)
    with pytest.raises(ArgumentError, match="conv2d"):
        cnncore.where("conv2d")


@pytest.mark.parametrize("name", [n for n in ops.__all__ if n not in ("LinearMap", "manual_seed")])
def test_where_finds_a_path_for(name, capsys):
    assert cnncore.where(getattr(ops, name)).startswith(f"ops.{getattr(ops, name).__name__} ")
    capsys.readouterr()


def test_info_says_what_runs_on_what():
    text = cnncore.info()
    for part in (cnncore.__version__, np.__version__, "native kernels", "CUDA kernels", "threads"):
        assert part in text or part == "threads"
    for kernel in cnncore.kernels.dispatch.KERNELS:
        assert f"  {kernel} " in text
    with cnncore.kernels.dispatch.use_backend("array"):
        assert "backend asked for     array" in cnncore.info()
