"""Fashion-MNIST: 70,000 grey pictures of clothes, 28x28.

Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST", 2017 (MIT licence).  Read from the Debian package
``dataset-fashion-mnist`` where it is installed, else downloaded once and checked by SHA-256.
"""

from __future__ import annotations

import functools
import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.data.errors import DataError
from cnncore.data.items import Items, check_split, shuffled
from cnncore.errors import require

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
CLASS_NAMES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
VALIDATION_COUNT = 5000  # taken out of the 60,000 training items
_SPLIT_SEED = 28


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file, gzipped or not.

    Four bytes ``0 0 8 rank``, then ``rank`` big-endian 32-bit sizes, then exactly their product of
    bytes.  Anything else (another element type, too few or too many bytes, a damaged archive)
    raises ``DataError`` with the file's name.
    """
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: could not be read ({error}); try: fetch the file again"
        ) from error
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{path}: not an IDX file (begins with {content[:4]!r})")
    kind, rank = content[2], content[3]
    if kind != 8:
        raise DataError(f"{path}: expected IDX type 8 (unsigned bytes), got type {kind}")
    header = 4 + 4 * rank
    if rank == 0 or len(content) < header:
        raise DataError(f"{path}: the IDX header is cut short ({len(content)} bytes, rank {rank})")
    shape = struct.unpack(f">{rank}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path}: expected {math.prod(shape)} bytes for shape {shape}, "
            f"got {len(content) - header}; try: fetch the file again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def installed_folder() -> Path | None:
    """Where the Debian package put the files, if all four are there."""
    shares = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for share in shares.split(":"):
        folder = Path(share) / "datasets" / "fashion-mnist"
        if all((folder / name).is_file() for name in SHA256):
            return folder
    return None


def _locate(name: str, folder: str | os.PathLike[str] | None) -> Path:
    """The path of one file: in ``folder``, else the Debian package, else downloaded and checked."""
    place = Path(folder) if folder is not None else installed_folder()
    if place is not None:
        return place / name
    pooch = require("pooch", "vision")
    progress: Any = _has_tqdm()
    try:
        fetched = pooch.retrieve(
            URL + name,
            known_hash=f"sha256:{SHA256[name]}",
            fname=name,
            path=pooch.os_cache("cnncore") / "fashion-mnist",
            progressbar=progress,
        )
    except (OSError, ValueError) as error:  # no network; a file that is not the published one
        raise DataError(
            f"Fashion-MNIST is not on this machine and {URL + name} could not be fetched "
            f"({error}); try: connect to the network once, apt install dataset-fashion-mnist, or "
            f"pass folder= with the files {', '.join(SHA256)}"
        ) from error
    return Path(fetched)


def _has_tqdm() -> bool:
    try:
        import tqdm  # noqa: F401
    except ImportError:
        return False
    return True


@functools.lru_cache(maxsize=4)
def fashion_mnist(split: str, folder: str | os.PathLike[str] | None = None) -> Items:
    """Fashion-MNIST's items: 55,000 for ``"train"``, 5,000 ``"validation"``, 10,000 ``"test"``.

    images ``(N, 28, 28)`` float32 in ``0..1``, read-only.  ``folder`` overrides where the four
    published files are looked for.  Raises ``DataError`` for damaged files or when offline.
    """
    check_split(split)
    prefix = "t10k" if split == "test" else "train"
    images = read_idx(_locate(f"{prefix}-images-idx3-ubyte.gz", folder))
    labels = read_idx(_locate(f"{prefix}-labels-idx1-ubyte.gz", folder))
    count = 10_000 if split == "test" else 60_000
    if images.shape != (count, 28, 28) or labels.shape != (count,) or labels.max() > 9:
        raise DataError(
            f"Fashion-MNIST {prefix}: expected images {(count, 28, 28)} and labels {(count,)} in "
            f"0..9, got {images.shape} and {labels.shape}; try: fetch the files again"
        )
    chosen = np.arange(count)
    if split != "test":
        order = shuffled(count, _SPLIT_SEED)
        held = VALIDATION_COUNT
        chosen = np.sort(order[:held] if split == "validation" else order[held:])
    scaled = images[chosen].astype(np.float32)
    scaled /= 255
    classes = labels[chosen].astype(np.int64)
    for array in (scaled, classes, chosen):
        array.flags.writeable = False  # shared by all callers
    return Items(scaled, classes, CLASS_NAMES, chosen)
