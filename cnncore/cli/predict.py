"""``cnncore predict``: any image file, any network; words, JSON and pictures out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnncore.cli.large import large_image
from cnncore.cli.predictors import VALUES, Options, Prediction, make_predictor
from cnncore.errors import ArgumentError, require
from cnncore.io import atomic_write
from cnncore.vision import PHOTOGRAPHS, ImageError, find_images, photograph, read_image
from cnncore.vision.draw import Picture


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("predict", help="run a network on image files")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help=f"image files, folders or patterns, or a photograph: {', '.join(sorted(PHOTOGRAPHS))}",
    )
    parser.add_argument(
        "--model",
        required=True,
        help="a network's name, centerface, an .onnx file, or a file of cnncore train or "
        "cnncore.models.save",
    )
    parser.add_argument("--weights", help="file or public checkpoint (default: the public one)")
    parser.add_argument(
        "--classes", type=int, default=1000, help="classes of a network with --weights (1000)"
    )
    parser.add_argument("--output", type=Path, help="folder of the pictures")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of text")
    parser.add_argument("--top", type=int, default=5, help="classes to name (default 5)")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score of an object")
    parser.add_argument("--size", help="input of an .onnx file: HEIGHTxWIDTH")
    parser.add_argument(
        "--values",
        choices=sorted(VALUES),
        default="imagenet",
        help="pixels of an .onnx file: ImageNet's mean 0, 0..1, -1..1 or 0..255",
    )
    parser.add_argument("--overlay", action="store_true", help="label maps over the image")
    parser.add_argument(
        "--memory",
        type=int,
        default=2048,
        help="MiB that a label map may take; larger images are read and cut in tiles (2048)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Predict every image; status 1 if one could not be read."""
    predict = make_predictor(
        Options(
            options.model,
            options.weights,
            options.top,
            options.threshold,
            _size(options.size),
            options.values,
            options.classes,
            options.overlay,
        )
    )
    folder = options.output or Path("predictions")
    records: list[dict[str, Any]] = []
    broken = 0
    names = PictureNames(folder)
    for name, read in _sources(options.paths):
        try:
            large = large_image(predict, name, options, names)
            if large is not None:
                records.append(_told(name, large, options))
                continue
            picture = read()
        except ImageError as error:
            broken += 1
            print(f"cnncore predict: skipped {error}", file=sys.stderr)
            records.append({"file": name, "error": str(error)})
            continue
        prediction = predict(picture)
        if _wants_picture(prediction, options):
            target = names.next(name)
            _write(target, prediction.picture)
            prediction.record["picture"] = str(target)
        records.append(_told(name, prediction, options))
    if options.json:
        print(json.dumps(records, indent=2))
    if broken:
        print(f"cnncore predict: {broken} of {len(records)} images skipped", file=sys.stderr)
    return 1 if broken else 0


def _told(name: str, prediction: Prediction, options: argparse.Namespace) -> dict[str, Any]:
    """The record of an image, which is printed unless JSON is wanted."""
    record = {"file": name, **prediction.record}
    if not options.json:
        print(name)
        print("\n".join(f"  {line}" for line in prediction.lines))
        if "picture" in record:
            print(f"  picture: {record['picture']}")
    return record


def _wants_picture(prediction: Prediction, options: argparse.Namespace) -> bool:
    """Boxes and maps are always drawn; the picture with a caption only where a folder is named."""
    if prediction.picture is None:
        return False
    return options.output is not None or "classes" not in prediction.record


def _sources(paths: list[str]) -> Iterator[tuple[str, Any]]:
    """Names and how to read what they name; a file goes before a photograph of the same name."""
    for text in paths:
        if text in PHOTOGRAPHS and not Path(text).exists():
            yield text, lambda text=text: photograph(text)
            continue
        for path in find_images([text]):
            yield str(path), lambda path=path: read_image(path)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise ArgumentError("size", "HEIGHTxWIDTH", repr(text), "--size 480x640")
    return int(height), int(width)


class PictureNames:
    """A file name for every picture, none twice in one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: set[Path] = set()

    def next(self, source: str, suffix: str = ".png") -> Path:
        """The name for the picture of this image."""
        stem = Path(source).stem
        target, number = self.folder / f"{stem}{suffix}", 1
        while target in self.taken:
            number += 1
            target = self.folder / f"{stem}_{number}{suffix}"
        self.taken.add(target)
        return target


def _write(target: Path, picture: Picture | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    image = require("PIL.Image", "vision").fromarray(picture)
    with atomic_write(target) as file:
        image.save(file, format="PNG")
