"""Layer 4: weight files and training checkpoints."""

from __future__ import annotations

from cnncore.io.atomic import atomic_write
from cnncore.io.checkpoint import checkpoint_metadata, load_checkpoint, save_checkpoint
from cnncore.io.files import FileFormatError, load, load_metadata, save

__all__ = [
    "FileFormatError",
    "atomic_write",
    "checkpoint_metadata",
    "load",
    "load_checkpoint",
    "load_metadata",
    "save",
    "save_checkpoint",
]
