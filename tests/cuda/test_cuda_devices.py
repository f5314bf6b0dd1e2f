"""Moving between devices, on the stand-in for CuPy: nothing moves unless asked to."""

from __future__ import annotations

import sys

import device_support as support
import numpy as np
import pytest
import strict_arrays

import cnncore
from cnncore import nn, ops, optim, tensor
from cnncore.autograd import Tensor
from cnncore.errors import DeviceError, MissingDependencyError, OutOfMemoryError
from cnncore.kernels import cuda, dispatch

pytestmark = [
    support.needs_device_code,
    pytest.mark.skipif(support.REAL, reason="plays with the stand-in for CuPy"),
]


@pytest.fixture
def cupy(monkeypatch):
    """``import cupy`` gives the stand-in, and the device code of the host runs."""
    monkeypatch.setitem(sys.modules, "cupy", strict_arrays)
    with support.hosted():
        yield strict_arrays


def test_tensors_move_and_come_back(cupy):
    x = tensor([[1.0, -2.0]], requires_grad=True)
    there = x.to("cuda")
    assert (there.device, x.device, (there * 2).device) == ("cuda", "cpu", "cuda")
    assert type(there.data) is strict_arrays.Array
    assert there.to("cuda") is there
    np.testing.assert_array_equal(there.to("cpu").numpy(), x.numpy())
    ops.relu(there).sum().backward()  # the gradient travels back
    assert x.grad.device == "cpu"
    np.testing.assert_array_equal(x.grad.numpy(), [[1, 0]])
    assert tensor([1.0], device="cuda").device == "cuda"
    assert "device=cuda" in repr(there)


def test_nothing_is_copied_to_the_host_silently(cupy):
    x = tensor([1.0, 2.0]).to("cuda")
    for silent in (lambda: np.asarray(x), lambda: np.exp(x), lambda: np.ones(2) + np.asarray(x)):
        with pytest.raises(DeviceError, match=r'on cuda.*to\("cpu"\)'):
            silent()
    assert x.numpy().tolist() == [1.0, 2.0]  # asked for
    assert float(x.sum()) == 3.0


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, z: x + z,
        lambda x, z: z * x,
        lambda x, z: ops.matmul(x, z),
        lambda x, z: ops.conv2d(x[None, None], z[None, None]),
        lambda x, z: ops.mse_loss(x, z),
        lambda x, z: ops.linear(x, z),
        lambda x, z: ops.cat([x, z]),
        lambda x, z: ops.stack([z, x]),
        lambda x, z: ops.where(x > 0, x, z),
    ],
)
def test_mixing_devices_names_both(cupy, mix):
    x, z = tensor(np.ones((2, 2), np.float32)), tensor(np.ones((2, 2), np.float32)).to("cuda")
    with pytest.raises(DeviceError, match=r"(host|cpu).*(device|cuda)|(device|cuda).*(host|cpu)"):
        mix(x, z)


class Net(nn.Module):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)  # the norm takes it away
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)
        for parameter in self.parameters():
            parameter.data[...] = rng.normal(size=parameter.shape)

    def forward(self, x):
        y = ops.max_pool2d(ops.gelu(self.norm(self.conv(x))), 2)
        return self.head(ops.adaptive_avg_pool2d(y, 1).flatten(1))


@pytest.mark.parametrize(
    "make", [lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.AdamW(p, lr=0.1)]
)
def test_training_on_the_device_is_training_on_the_host(cupy, make):
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(4, 2, 6, 6)).astype(np.float32), np.array([0, 1, 2, 3])
    results = []
    for device in ("cpu", "cuda"):
        net = Net().to(device)
        optimizer = make(net.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            y = net(tensor(x, device=device))
            loss = ops.cross_entropy(y, tensor(labels, device=device))
            loss.backward()
            assert {p.grad.device for p in net.parameters()} == {device}
            optim.clip_grad_norm(net.parameters(), 5.0)
            optimizer.step()
        results.append({"loss": np.asarray(loss.numpy()), **net.state_dict()})
    for key, value in results[0].items():
        np.testing.assert_allclose(results[1][key], value, rtol=2e-4, atol=2e-5, err_msg=key)


def test_modules_and_optimisers_move(cupy):
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    gradients = [np.ones(p.shape, np.float32) for p in net.parameters()]

    def step():
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            parameter.grad = tensor(gradient, device=parameter.device)
        optimizer.step()

    step()
    net.to("cuda")
    assert {t.device for t in (*net.parameters(), *net.buffers())} == {"cuda"}
    with pytest.raises(DeviceError, match="velocity"):
        step()  # what is remembered stayed behind
    optimizer.to("cuda")
    step()
    net.to("cpu")
    optimizer.to("cpu")
    step()
    state = optimizer.state_dict()
    net.to("cuda")
    optimizer.load_state_dict(state)  # takes the device of the parameters
    step()
    assert type(optimizer.state[0]["velocity"]) is strict_arrays.Array


def test_saved_weights_of_a_device_load_anywhere(cupy):
    there, here = Net().to("cuda"), Net()
    state = there.state_dict()
    assert all(type(value) is np.ndarray for value in state.values())
    for parameter in here.parameters():
        parameter.data[...] = 0
    here.load_state_dict(state)
    there.load_state_dict(here.state_dict())
    np.testing.assert_array_equal(there.head.weight.numpy(), here.head.weight.numpy())


def test_no_room_on_the_device(cupy, monkeypatch):
    def full(array):
        raise strict_arrays.OutOfMemoryError("out of memory")

    monkeypatch.setattr(strict_arrays, "asarray", full, raising=False)
    with pytest.raises(OutOfMemoryError, match=r'to\("cuda"\).* 4,000 bytes'):
        tensor(np.zeros(1000, np.float32)).to("cuda")


def test_cupy_without_a_device(cupy, monkeypatch):
    def absent(array):
        raise strict_arrays.CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device")

    monkeypatch.setattr(strict_arrays, "asarray", absent, raising=False)
    with pytest.raises(DeviceError, match="cudaErrorNoDevice"):
        tensor([1.0]).to("cuda")


def test_without_cupy_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingDependencyError, match=r"cnncore\[cuda13\]"):
        tensor([1.0]).to("cuda")


def test_without_compiled_kernels_array_serves(monkeypatch):
    monkeypatch.setattr(cuda, "AVAILABLE", False)
    monkeypatch.setattr(cuda, "REASON", "cnncore._cuda could not be imported (for this test)")
    dispatch._chosen.clear()
    try:
        y = ops.softmax(Tensor(strict_arrays.asarray(np.ones((2, 3)))), 1)
        assert y.device == "cuda"
        backend, _, reasons = dispatch.resolve("softmax", device=True)
    finally:
        dispatch._chosen.clear()
    assert backend == "array"
    assert "for this test" in reasons[0]
    assert "for this test" in cnncore.info()
