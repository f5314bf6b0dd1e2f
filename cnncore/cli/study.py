"""``cnncore study``: the claims of the field, tried again here."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncore.errors import ArgumentError
from cnncore.geometry import as_int

if TYPE_CHECKING:
    from cnncore.study import Experiment


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "study",
        help="try the field's claims: seeded experiments, tables with spread, figures",
        epilog="Example: cnncore study segmentation unet_bridges --seeds 5",
    )
    parser.add_argument("study", help="segmentation or detection")
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: all of them")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each condition (default 3)")
    parser.add_argument("--output", type=Path, help="folder (default: runs/study-STUDY)")
    parser.add_argument("--list", action="store_true", help="name the experiments and their claims")
    parser.add_argument("--fresh", action="store_true", help="forget finished runs, start anew")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="another setting of an experiment: steps=100, split=validation",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run what is missing, print a table each, write the page."""
    from cnncore import study
    from cnncore.study import page

    known = study.experiments(options.study)
    if options.list:
        for name, experiment in known.items():
            print(f"{name:18} {experiment.title}\n{'':18} {experiment.claim}")
        return 0
    seeds = range(as_int("seeds", options.seeds, 1))
    chosen = _chosen(known, options)
    folder = options.output or Path("runs") / f"study-{options.study}"
    if options.fresh:
        for name in chosen:
            (folder / f"{name}.json").unlink(missing_ok=True)
    for experiment in chosen.values():  # before minutes of work
        study.Results.open(experiment, folder)
    for experiment in chosen.values():
        print(f"{experiment.title}\n  {experiment.claim} ({experiment.source})\n")
        results = study.run(experiment, folder, seeds, progress=not options.quiet)
        print(page.text_table(page.cells(results)))
        print("\n".join(["", *(f"  {line}" for line in page.verdict(results)), ""]), flush=True)
    everything = {}
    for name, experiment in known.items():
        try:
            everything[name] = study.Results.open(chosen.get(name, experiment), folder)
        except ArgumentError as error:  # an earlier one with settings of its own
            print(f"{name} is left out of the page: {error}")
    print(f"Page: {page.write_page(options.study, everything, folder)}")
    return 0


def _chosen(known: Mapping[str, Experiment], options: argparse.Namespace) -> dict[str, Experiment]:
    """The experiments asked for, settings changed; unknown names are refused."""
    for name in options.experiments:
        if name not in known:
            raise ArgumentError("experiment", f"one of {sorted(known)}", repr(name), "--list")
    names = list(dict.fromkeys(options.experiments)) or list(known)
    changes = {}
    for text in options.settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise ArgumentError("set", "NAME=VALUE", repr(text), "--set steps=100")
        changes[key] = _value(value)
    return {name: known[name].changed(**changes) for name in names}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
