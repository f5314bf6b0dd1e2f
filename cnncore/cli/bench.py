"""``cnncore bench``: an operation, a suite or several, verified and timed beside the peers."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnncore import bench
from cnncore.bench import convolution, operations, plugins, readme, runner, suites, table
from cnncore.bench.comparison import THRESHOLD
from cnncore.bench.peers import PEERS
from cnncore.bench.results import Results, join
from cnncore.errors import ArgumentError
from cnncore.kernels import native

NETWORK_ROUNDS = 10  # at most: a step takes long


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "bench",
        help="time kernels beside PyTorch and ONNX Runtime, each result verified first",
        epilog='Example: cnncore bench conv2d --shape 4,256,14,14 --filters 256 --kernel 3 '
        "--padding 1 --algorithm all",
    )  # fmt: skip
    parser.add_argument(
        "what", nargs="*", help="suites (all: every one), or an operation with --shape"
    )
    parser.add_argument(
        "--join", nargs="+", type=Path, metavar="JSON", help="measure nothing, put runs together"
    )
    parser.add_argument("--list", action="store_true", help="name all suites and operations")
    _problem_options(parser)
    parser.add_argument(
        "--against", help=f"peers joined by commas: {', '.join(PEERS)}, or none (default: suite's)"
    )
    parser.add_argument("--algorithm", default="auto", help="ours, joined by commas, or all")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--threads", type=int, help="of everybody (default: one a core)")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each (default 20)")
    parser.add_argument("--only", default="", help="cases whose name or label contains this")
    parser.add_argument("--plugin", action="append", default=[], help="a file with your kernels")
    parser.add_argument("--json", type=Path, help="write all figures")
    parser.add_argument("--html", type=Path, help="write a page with a roofline plot")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="what became slower")
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD,
        help="loss of ratio that counts (default 0.1), if the quartiles are apart, too",
    )  # fmt: skip
    parser.add_argument("--publish", type=Path, metavar="FOLDER", help="write <cpu>.md and .json")
    parser.add_argument("--readme", type=Path, help="with --publish: put the summary in here")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _problem_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", help="of the input: 4,256,14,14 (matmul: M,L,N)")
    parser.add_argument("--filters", type=int, help="output channels")
    parser.add_argument("--kernel", help="3 or 3,5")
    parser.add_argument("--stride", help="default 1")
    parser.add_argument("--padding", help="default 0")
    parser.add_argument("--dilation", help="default 1")
    parser.add_argument("--groups", type=int, help="default 1")
    parser.add_argument("--direction", help="forward, input, weight or backward, or all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="more",
        help="another setting: regions=512, mode=bilinear, output_size=7,7",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Measure; status 1 if a result was wrong or something became slower."""
    if options.join:
        results = join([bench.load(path) for path in options.join])
        print("\n".join([*table.machine_lines(results), "", *table.closing_lines(results)]))
        return finish(results, bench.load(options.compare) if options.compare else None, options)
    if options.list or not options.what:
        print("\n".join(listing()))
        return 0
    old = bench.load(options.compare) if options.compare else None  # before minutes of measuring
    for path in options.plugin:
        plugins.load(path)
    jobs, whole = plan(options), []
    if suites.MODELS_SUITE in _names(options):
        from cnncore.bench import networks

        whole = networks.find(options.only)
    peers, missing = bench.find_peers(
        against(options), options.threads or native.get_num_threads()
    )  # fmt: skip
    settings = runner.Settings(
        tuple(options.algorithm.split(",")), options.dtype, options.rounds, options.threads
    )
    results, neighbours = runner.start(settings, peers, missing), runner.Neighbours()
    print("\n".join([*table.machine_lines(results), "", table.head()]))
    with _bar(len(jobs) + len(whole), options.quiet) as (say, tick):
        for suite, case in jobs:
            found = runner.run_case(case, settings, peers, suite)
            results.cases.append(found)
            say("\n".join(table.case_lines(found, results.roof)))
            tick()
        for network in whole:
            beside = any(peer.name == "torch" for peer in peers)
            threads = results.settings["threads"]
            rounds = min(options.rounds, NETWORK_ROUNDS)
            for result in networks.run_network(network, rounds, beside, threads):
                results.networks.append(result)
                say("\n".join(table.network_lines(result)))
            tick()
    results.remarks += (busy := neighbours.remarks())
    print("\n".join(["", *busy, *table.closing_lines(results)]))
    return finish(results, old, options)


def finish(results: Results, old: Results | None, options: argparse.Namespace) -> int:
    """Write what was asked for; the exit status."""
    if options.json:
        results.write(options.json)
    if options.html:
        from cnncore.bench import page

        page.build(results).write(options.html)
    if options.publish:
        print(f"written to {readme.publish(results, options.publish, options.readme)}")
    status = 1 if results.refusals else 0
    if old is not None:
        comparison = bench.compare(old, results, options.threshold)
        print("\n".join(["", *comparison.lines()]))
        status = max(status, 1 if comparison.slower else 0)
    return status


def listing() -> list[str]:
    """Suites, operations, peers."""
    lines = ["suites"]
    for name, suite in suites.SUITES.items():
        lines.append(f"  {name:12} {len(suite.cases()):3} cases  {suite.title}")
    title = "Whole networks: a training step and inference, and memory, beside PyTorch"
    lines.append(f"  {suites.MODELS_SUITE:12}            {title}")
    lines += ["operations (with --shape and their settings)"]
    for kind in plugins.kinds():
        if "." not in kind:
            family = [k.partition(".")[2] for k in plugins.kinds() if k.startswith(f"{kind}.")]
            lines.append(f"  {kind:18} forward{''.join(f', {d}' for d in family)}")
    return [*lines, f"peers: {', '.join(PEERS)}"]


def plan(options: argparse.Namespace) -> list[tuple[str, bench.Case]]:
    """(suite, case) of everything asked for."""
    jobs: list[tuple[str, bench.Case]] = []
    for name in _names(options):
        if name in runner.OPS:
            jobs += [("", case) for case in _single(name, options)]
        elif name == suites.MODELS_SUITE:
            continue
        elif name in suites.SUITES:
            directions = _wanted(options)
            jobs += [(name, case) for case in suites.SUITES[name].cases(directions)]
        else:
            expected = "a suite or an operation"
            raise ArgumentError("what", expected, repr(name), "cnncore bench --list")
    if options.only:
        jobs = [(suite, case) for suite, case in jobs if options.only in _words(case)]
        if not jobs and suites.MODELS_SUITE not in options.what:
            raise ArgumentError("only", "part of a case's name", repr(options.only))
    return jobs


def _names(options: argparse.Namespace) -> list[str]:
    every = [*suites.SUITES, suites.MODELS_SUITE]
    return every if options.what == ["all"] else options.what


def _words(case: bench.Case) -> str:
    return f"{case.name} {case.op} {case.settings}"


def _wanted(options: argparse.Namespace) -> tuple[str, ...] | None:
    if options.direction is None:
        return None
    if options.direction == "all":
        return ("forward", *suites.GRADIENTS)
    return tuple(options.direction.split(","))


def _single(op: str, options: argparse.Namespace) -> list[bench.Case]:
    if options.shape is None:
        hint = f"cnncore bench {op} --shape 4,64,56,56"
        raise ArgumentError("shape", "the sizes of the input", "none", hint)
    conv = op in runner.CONVOLUTIONS
    names = {"filters": "filters", "kernel": "kernel" if conv else "kernel_size",
             "stride": "stride", "padding": "padding", "dilation": "dilation",
             "groups": "groups"}  # fmt: skip
    given = {names[k]: getattr(options, k) for k in names if getattr(options, k) is not None}
    settings = {k: suites.value(v) if isinstance(v, str) else v for k, v in given.items()}
    for text in options.more:
        key, equals, word = text.partition("=")
        if not equals:
            raise ArgumentError("set", "NAME=VALUE", repr(text), "--set regions=512")
        settings[key] = suites.value(word)
    if conv and "kernel" not in settings:
        raise ArgumentError("kernel", "the size of the kernel", "none", "--kernel 3")
    case = bench.Case(op, {"shape": suites.numbers(options.shape), **settings})
    default: tuple[str, ...] = ("forward",)
    family = convolution if conv else operations
    wanted = family.DIRECTIONS if options.direction == "all" else _wanted(options) or default
    return [case.towards(direction) for direction in wanted]


def against(options: argparse.Namespace) -> list[str]:
    """The peers asked for, else those of the suites."""
    if options.against is not None:
        return [name for name in options.against.split(",") if name not in ("", "none")]
    wanted = [
        name
        for what in _names(options)
        for name in (suites.SUITES[what].against if what in suites.SUITES else suites.AGAINST)
    ]
    return list(dict.fromkeys(wanted))


@contextlib.contextmanager
def _bar(count: int, quiet: bool) -> Iterator[tuple[Any, Any]]:
    """(print a line, one case is done); a bar below the table where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda text: print(text, flush=True), lambda: None
        return
    with tqdm(total=count, disable=quiet or None, unit="case", dynamic_ncols=True) as bar:
        yield lambda text: (tqdm.write(text), None)[1], bar.update
