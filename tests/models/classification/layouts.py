"""Keys and shapes of public weight files, as fingerprints and, for developers, key by key.

A layout is a dict key -> shape.  Its fingerprint is the SHA-256 of the lines ``key shape`` (say
``fc.weight [1000, 2048]``), sorted, each ended by a newline.  ``public_layouts.json`` holds the
fingerprints; when one does not match, see what differs with

    CNNCORE_LAYOUTS=layouts.json python tests/models/classification/layouts.py [NAME ...]

where ``layouts.json`` maps model names (ours, or the one in ``Variant.layout``) to
``{key: shape}``, written for instance by

    json.dump({"resnet18": {k: list(v.shape) for k, v in torch_model.state_dict().items()}}, file)
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

PUBLIC = Path(__file__).with_name("public_layouts.json")


def fingerprint(layout):
    """The number of entries and the SHA-256 of a layout."""
    lines = sorted(f"{key} {list(shape)}\n" for key, shape in layout.items())
    return len(lines), hashlib.sha256("".join(lines).encode()).hexdigest()


def differences(ours, theirs):
    """What to change in ours, a line an entry."""
    lines = [f"missing    {key} {list(theirs[key])}" for key in theirs if key not in ours]
    lines += [f"unexpected {key} {list(ours[key])}" for key in ours if key not in theirs]
    lines += [
        f"shape      {key} {list(ours[key])}, there {list(theirs[key])}"
        for key in theirs
        if key in ours and list(ours[key]) != list(theirs[key])
    ]
    return lines


def public_layout(name, layout_name):
    """The whole layout from the file that ``CNNCORE_LAYOUTS`` names, or None."""
    path = os.environ.get("CNNCORE_LAYOUTS")
    if not path:
        return None
    known = json.loads(Path(path).read_text(encoding="utf-8"))
    endings = (name, layout_name.split()[-1])
    return next((known[key] for key in known if key.split()[-1] in endings), None)


def main(names):
    from cnncore import models
    from cnncore.models.classification import VARIANTS

    for name in names or VARIANTS:
        theirs = public_layout(name, VARIANTS[name].layout)
        if theirs is None:
            print(f"{name}: not in the file")
            continue
        lines = differences(models.state_shapes(models.outline(name)), theirs)
        print(f"{name}: {len(lines)} differences", *lines, sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1:])
