"""One self-contained HTML page from titles, paragraphs, pictures and tables.

Pictures are embedded, so the file can be mailed or opened anywhere; it is written in one go
(temporary file, rename), so a kill never leaves half a page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.errors import require
from cnncore.io import atomic_write

Table = Sequence[Sequence[str]]  # heading first


@dataclass(frozen=True)
class Picture:
    """A caption and a picture: RGB bytes ``(H, W, 3)`` or a matplotlib figure."""

    image: Any
    caption: str = ""

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` address."""
        buffer = io.BytesIO()
        if isinstance(self.image, np.ndarray):
            require("PIL.Image", "vision").fromarray(self.image).save(buffer, "PNG", optimize=True)
        else:
            self.image.savefig(buffer, format="png", dpi=110)
            require("matplotlib.pyplot", "vision").close(self.image)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: Sequence[str] = ()  # paragraphs
    pictures: Sequence[Picture] = ()
    table: Table = ()
    total: bool = False  # whether the last row of the table is a total


@dataclass
class Report:
    """A page under construction."""

    title: str
    subtitle: str = ""
    sections: list[Section] = field(default_factory=list)

    def add(self, title: str, *text: str, **parts: Any) -> None:
        """Append a section: ``add(title, paragraphs…, pictures=[…], table=[…])``."""
        self.sections.append(Section(title, text, **parts))

    def html(self) -> str:
        """The whole page."""
        jinja2 = require("jinja2", "vision")
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = (Path(__file__).parent / "page.html.jinja").read_text(encoding="utf-8")
        page: str = environment.from_string(template).render(report=self)
        return page

    def write(self, path: Path) -> None:
        """Write the page to ``path``, making its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(self.html().encode("utf-8"))
