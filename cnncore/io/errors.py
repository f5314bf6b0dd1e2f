"""What can be wrong with a file."""

from __future__ import annotations

from cnncore.errors import CnncoreError


class FileFormatError(CnncoreError, ValueError):
    """A file that is damaged, or not what its name says."""


class RefusedError(FileFormatError):
    """A file that holds something a weight file has no need of; it was not executed."""
