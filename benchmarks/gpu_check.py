"""Everything that only a GPU can show, in one command of less than 8 minutes, without a network.

    python benchmarks/gpu_check.py               # builds, tests, checks, times; a GPU is needed
    python benchmarks/gpu_check.py --dry-run     # its logic, on the host, with tiny shapes

Needs Python, CUDA's nvcc, CuPy, pybind11, CMake and ninja; pytest for the tests, PyTorch and
torchvision for the comparisons, compute-sanitizer for the memory and race checks: what is missing
is left out and said.  Each stage has a limit of time and a process of its own, and results are
written after every line to ``benchmarks/results/<device>.json`` and ``.md``, so that whatever stops
it loses nothing of what was measured.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.record import Record  # noqa: E402

BUILD = ROOT / "build" / "gpu-check"
TOTAL = 470.0  # seconds, of the 480 that the whole may take
# stage -> its limit; those in a process of their own have a function of the same name below
LIMITS = {
    "build": 180.0,
    "tests": 90.0,
    "memcheck": 40.0,
    "racecheck": 40.0,
    "kernels": 70.0,
    "convolutions": 70.0,
    "large": 40.0,
    "training": 60.0,
}


def main() -> int:
    options = parse(sys.argv[1:])
    if options.stage:
        return run_stage(options)
    begin = time.monotonic()
    options.results = options.results or (
        ROOT / "build" if options.dry_run else ROOT / "benchmarks" / "results"
    )
    record = Record(options.results, "dry-run" if options.dry_run else device_name())
    record.data["facts"] = facts(options.dry_run)
    record.save()
    print(f"results go to {options.results / record.name}.md and .json")
    for stage, limit in LIMITS.items():
        left = TOTAL - (time.monotonic() - begin)
        if options.only and stage not in options.only:
            continue
        if left < 5:
            record.add("stages", stage=stage, outcome="no time left", seconds=0.0, detail="")
            continue
        start = time.monotonic()
        outcome, detail = perform(stage, min(limit, left), record, options)
        record = Record.resumed(options.results, record.name)  # a stage has written into it
        seconds = time.monotonic() - start
        record.add("stages", stage=stage, outcome=outcome, seconds=seconds, detail=detail)
        if stage == "build" and outcome != "done":
            return 1
    bad = [row for row in record.rows("stages") if row["outcome"] == "failed"]
    return 1 if bad else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="on the host, with tiny shapes")
    parser.add_argument("--only", nargs="*", choices=list(LIMITS), help="these stages alone")
    parser.add_argument("--results", type=Path, help="the folder")
    parser.add_argument("--stage", help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--name", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


# --- what is here ---------------------------------------------------------------------------------


def device_name() -> str:
    """The device's name as a file's."""
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def facts(dry: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "Python": platform.python_version(),
    }
    if dry:
        return {"device": "none: a dry run on the host", **found}
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    found = {
        "device": properties["name"].decode(),
        **found,
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory": f"{properties['totalGlobalMem'] / 2**30:.0f} GiB",
        "driver speaks CUDA": cupy.cuda.runtime.driverGetVersion(),
        "CuPy": cupy.__version__,
    }
    for package in ("torch", "torchvision"):
        try:
            module = __import__(package)
            found[package] = module.__version__
        except ImportError:
            found[package] = "absent: no comparison"
    return found


# --- stages ---------------------------------------------------------------------------------------


def perform(
    stage: str, limit: float, record: Record, options: argparse.Namespace
) -> tuple[str, str]:
    """(outcome, detail); nothing that goes wrong in a stage ends the others."""
    try:
        if stage == "build":
            return build(limit, options.dry_run)
        if stage == "tests":
            return tests(limit, options.dry_run)
        command = stage_command(stage, limit, record, options)
        if command is None:
            return "left out", "no compute-sanitizer on PATH"
        return finished(*call(command, limit))
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"[:300]


def stage_command(
    stage: str, limit: float, record: Record, options: argparse.Namespace
) -> list[str] | None:
    command = [sys.executable, str(Path(__file__).resolve()), "--results", str(options.results)]
    command += ["--name", record.name, "--seconds", str(limit), "--stage"]
    dry = ["--dry-run"] if options.dry_run else []
    if stage not in ("memcheck", "racecheck"):
        return [*command, stage, *dry]
    sanitizer = shutil.which("compute-sanitizer")
    if options.dry_run or sanitizer is None:
        return [*command, "small", *dry] if options.dry_run else None
    tool = [sanitizer, "--tool", stage, "--error-exitcode", "7", "--print-limit", "10"]
    return [*tool, *command, "small"]


def call(command: list[str], limit: float, **variables: str) -> tuple[int | None, str]:
    """Exit status (None: stopped at the limit) and output, of which the last line is the word."""
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what it starts can be stopped with it
    )
    try:
        output, _ = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        print(output)
        return None, output
    print(output)
    return child.returncode, output


def finished(status: int | None, output: str) -> tuple[str, str]:
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")[:300]
    if status is None:
        return "stopped at its limit", last
    return ("done" if status == 0 else "failed"), last


def build(limit: float, dry: bool) -> tuple[str, str]:
    """``_native`` and ``_cuda`` for this device, into the tree."""
    if dry:
        return "done", "a dry run uses what is built"
    import cupy

    architecture = cupy.cuda.Device(0).compute_capability
    begin = time.monotonic()
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja", "-DCNNCORE_CUDA=ON",
        f"-DPython_EXECUTABLE={sys.executable}", f"-DCNNCORE_OUTPUT_DIR={ROOT / 'cnncore'}",
        f"-DCNNCORE_CUDA_ARCHITECTURES={architecture}-real",
    ]  # fmt: skip
    status, output = call(configure, limit)
    if status != 0:
        return finished(status or 1, output)
    left = limit - (time.monotonic() - begin)
    targets = ["--target", "_cuda", "_native"]
    status, output = call(["cmake", "--build", str(BUILD), *targets], left)
    if status != 0:
        return "failed", finished(status, output)[1]
    return "done", f"for {architecture}"


def tests(limit: float, dry: bool) -> tuple[str, str]:
    """Every test of kernels, ops and networks that speaks of the device."""
    try:
        import hypothesis  # noqa: F401
        import pytest  # noqa: F401
    except ImportError:
        return "left out", "no pytest or no hypothesis; the timed kernels are still verified"
    chosen = ["tests/kernels", "tests/cuda"] if not dry else ["tests/cuda/test_cuda_launch.py"]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-k", "cuda", *chosen]
    command += ["--ignore=tests/cuda/test_cuda_build.py", "--ignore=tests/cuda/test_gpu_check.py"]
    if not dry and importlib.util.find_spec("xdist"):
        command += ["-n", "8"]
    variables = {} if dry else {"CNNCORE_TEST_DEVICE": "cuda"}
    return finished(*call(command, limit, **variables))


# --- in a process of their own --------------------------------------------------------------------


def run_stage(options: argparse.Namespace) -> int:
    from contextlib import nullcontext

    until = time.monotonic() + options.seconds
    left: Callable[[], float] = lambda: until - time.monotonic()  # noqa: E731
    record = Record.resumed(options.results, options.name)
    if options.dry_run:
        sys.path.insert(0, str(ROOT / "tests"))
        import device_support

        sys.modules["cupy"] = device_support.array_module()
        scope: Any = device_support.hosted()
    else:
        scope = nullcontext()
    import cupy

    from benchmarks.gpu.clock import Device, Torch

    with scope:
        device = Device(cupy, options.dry_run, tiny=options.stage == "small")
        said = STAGES[options.stage](device, Torch(device), record, left)
    print(said)
    return 1 if "WRONG" in said or said.startswith("wrong") else 0


def small(device: Any, torch: Any, record: Record, left: Callable[[], float]) -> str:
    """Every kernel once on a tiny shape: what the memory and race checkers look at."""
    from benchmarks.gpu.cases import convolution_cases, memory_cases
    from benchmarks.gpu.run_cases import difference
    from cnncore.kernels import cuda, switches

    wrong, count = [], 0
    for cases in (memory_cases, convolution_cases):
        for case in cases(device, torch):
            kernel = getattr(cuda, case.kernel, None)
            if kernel is None or left() < 3:
                continue
            with switches.allow_tf32(case.tf32):
                error = difference(
                    case,
                    lambda *i, k=kernel, c=case: k(*c.arguments(*i), **c.keywords),
                    None,
                    device,
                    torch,
                )
            count += 1
            if not error <= 10 * case.tolerance:
                wrong.append(f"{case.kernel} {case.shape}: {error:.2g}")
    return f"WRONG: {'; '.join(wrong)}" if wrong else f"{count} small cases"


def kernels(device: Any, torch: Any, record: Record, left: Callable[[], float]) -> str:
    from benchmarks.gpu.cases import memory_cases

    return timed(memory_cases, measured_rates(device, torch, record), device, torch, record, left)


def convolutions(device: Any, torch: Any, record: Record, left: Callable[[], float]) -> str:
    from benchmarks.gpu.cases import convolution_cases

    rates = {row["rate"]: row["number"] for row in record.rows("rates")}
    return timed(convolution_cases, rates, device, torch, record, left)


def timed(
    cases: Any, rates: dict[str, float], device: Any, torch: Any, record: Record, left: Any
) -> str:
    from benchmarks.gpu.run_cases import run_case

    before, skipped = len(record.rows("kernels")), 0
    for case in cases(device, torch):
        if left() < 5:
            skipped += 1
            continue
        run_case(case, device, torch, record, rates)
    rows = record.rows("kernels")[before:]
    said = [row["error"] for row in rows if isinstance(row.get("error"), str)]
    bad = [text for text in said if not text.startswith("no kernel")]
    late = f", {skipped} left out for lack of time" if skipped else ""
    return f"{len(bad)} WRONG of {len(rows)}{late}" if bad else f"{len(rows)} cases{late}"


def measured_rates(device: Any, torch: Any, record: Record) -> dict[str, float]:
    """What the device reaches: bytes of a copy, operations of a large product."""
    rates = {"copy": device.copy_rate()}
    if torch.torch is not None:
        rates |= {"float32": torch.matrix_rate(False), "TF32": torch.matrix_rate(True)}
    units = {"copy": "TB/s"}
    for rate, number in rates.items():
        text = f"{number / 1e12:.3g} {units.get(rate, 'Tera-operations a second')}"
        record.add("rates", rate=rate, value=text, number=number)
    return rates


def large(device: Any, torch: Any, record: Record, left: Callable[[], float]) -> str:
    from benchmarks.gpu.large import run

    return run(device, record, left)


def training(device: Any, torch: Any, record: Record, left: Callable[[], float]) -> str:
    from benchmarks.gpu.training import run

    return run(device, torch, record, left)


STAGES: dict[str, Callable[..., str]] = {
    "small": small,
    "kernels": kernels,
    "convolutions": convolutions,
    "large": large,
    "training": training,
}

if __name__ == "__main__":
    sys.exit(main())
