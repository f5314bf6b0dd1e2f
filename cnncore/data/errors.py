"""The error of all readers."""

from __future__ import annotations

import os

from cnncore.errors import CnncoreError


class DataError(CnncoreError):
    """A data file that is damaged, or data that could not be fetched."""


def broken(path: str | os.PathLike[str], field: str, expected: str, got: object) -> DataError:
    """What is wrong with which field of which file.

    >>> print(broken("a.xml", "size/width", "a number", "'x'"))
    a.xml: size/width: expected a number, got 'x'
    """
    return DataError(f"{os.fspath(path)}: {field}: expected {expected}, got {got}")
