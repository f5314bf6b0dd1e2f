"""Layer 4: weight files and training checkpoints."""

from __future__ import annotations

from cnncore.io.atomic import atomic_write
from cnncore.io.checkpoint import checkpoint_metadata, load_checkpoint, save_checkpoint
from cnncore.io.errors import FileFormatError, RefusedError
from cnncore.io.files import load, load_metadata, save
from cnncore.io.torch_file import read_torch
from cnncore.io.weights import CHECKPOINTS, Checkpoint, DownloadError, find_weights

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "DownloadError",
    "FileFormatError",
    "RefusedError",
    "atomic_write",
    "checkpoint_metadata",
    "find_weights",
    "load",
    "load_checkpoint",
    "load_metadata",
    "read_torch",
    "save",
    "save_checkpoint",
]
