"""One case: verified first, then timed beside its peer."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu.cases import Case
from benchmarks.gpu.clock import Device, Torch
from benchmarks.gpu.record import Record
from cnncore.kernels import array, cuda, switches


def run_case(
    case: Case, device: Device, torch: Torch, record: Record, rates: dict[str, float]
) -> None:
    """Adds a row, also where the kernel is missing, fails or is wrong (then it is not timed)."""
    row: dict[str, Any] = {
        "family": case.family,
        "kernel": case.kernel,
        "name": case.label or case.kernel,
        "shape": case.shape,
        "bytes": case.bytes,
        "operations": case.operations,
    }
    kernel = getattr(cuda, case.kernel, None)
    if kernel is None:
        record.add("kernels", **row, error="no kernel of its own")
        return
    try:
        with switches.allow_tf32(case.tf32):
            row |= _measured(case, kernel, device, torch, rates)
    except Exception as error:  # a table with a gap is better than none
        row["error"] = f"{type(error).__name__}: {error}"[:200]
    record.add("kernels", **row)
    device.release()


def _measured(
    case: Case, kernel: Any, device: Device, torch: Torch, rates: dict[str, float]
) -> dict[str, Any]:
    def ours(*inputs: Any) -> Any:
        return kernel(*case.arguments(*inputs), **case.keywords)

    peer = case.peer if torch.torch is not None else None
    if peer is not None:
        torch.tf32(case.tf32)
    error = difference(case, ours, peer, device, torch)
    if not error <= case.tolerance:
        return {"error": f"WRONG: relative error {error:.2g} > {case.tolerance:.2g}; not timed"}
    sets = device.sets(case.make)
    seconds = device.median(ours, sets)
    row: dict[str, Any] = {"microseconds": seconds * 1e6, "error": float(error)}
    row |= ceiling(case, seconds, rates)
    if peer is not None:
        tensors = [tuple(torch.shared(value) for value in inputs) for inputs in sets]
        theirs = torch.median(peer, tensors)
        row |= {"peer_microseconds": theirs * 1e6, "ratio": theirs / seconds}
    return row


def ceiling(case: Case, seconds: float, rates: dict[str, float]) -> dict[str, Any]:
    """The larger of the two times that bytes and operations need, as a share of what it took."""
    floors = {}
    if case.bytes and rates.get("copy"):
        floors["copy"] = case.bytes / rates["copy"]
    kind = "TF32" if case.tf32 else "float32"
    if case.operations and rates.get(kind):
        floors[kind] = case.operations / rates[kind]
    if not floors:
        return {}
    name = max(floors, key=lambda key: floors[key])
    return {"share": floors[name] / seconds, "ceiling": name}


def difference(case: Case, ours: Any, peer: Any, device: Device, torch: Torch) -> float:
    """‖ours − reference‖/‖reference‖, the reference being the peer or else the plain kernel."""
    inputs = case.make()
    copies = tuple(v.copy() if hasattr(v, "copy") else v for v in inputs)
    result = ours(*inputs)
    if peer is not None:
        expected = peer(*(torch.shared(v) for v in copies))
        torch.wait()
    else:
        expected = getattr(array, case.kernel)(*case.arguments(*copies), **case.keywords)
    if case.written:
        result = tuple(inputs[k] for k in case.written)
        expected = tuple(copies[k] for k in case.written)
    device.wait()
    pairs = zip(_several(result), _several(expected), strict=True)
    return max(_relative(device.comparable(a), device.comparable(e)) for a, e in pairs)


def _several(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (tuple, list)) else (values,)


def _relative(actual: Any, expected: Any) -> float:
    """Works where the arrays are; on a device nothing large comes to the host."""
    if actual.shape != expected.shape:
        return float("inf")
    a, e = actual.ravel(), expected.ravel()
    if a.dtype.kind in "iu":
        return float((a != e).sum()) / max(1, e.size)
    a, e = a.astype(np.float64), e.astype(np.float64)
    norm, error = float((e * e).sum()) ** 0.5, float(((a - e) ** 2).sum()) ** 0.5
    return error / norm if norm else error
