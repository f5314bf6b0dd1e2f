"""Where published results go: ``results/<cpu>.md``, and a block of the README between markers."""

from __future__ import annotations

import re
from pathlib import Path

from cnncore.bench.results import Results
from cnncore.bench.table import markdown, summary_table
from cnncore.errors import ArgumentError
from cnncore.io import atomic_write

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"


def publish(results: Results, folder: Path, readme: Path | None = None) -> Path:
    """Write the page and its JSON, replace the README's block; returns the page's path."""
    name = re.sub(r"[^a-z0-9]+", "-", results.machine.lower()).strip("-")
    page = folder / f"{name}.md"
    results.write(folder / f"{name}.json")
    with atomic_write(page) as file:
        file.write(markdown(results).encode("utf-8"))
    if readme is not None:
        text = replace_block(readme.read_text(encoding="utf-8"), block(results, page, readme))
        with atomic_write(readme) as file:
            file.write(text.encode("utf-8"))
    return page


def block(results: Results, page: Path, readme: Path) -> str:
    """The summary, with date, machine and a link to all figures."""
    link = page.resolve().relative_to(readme.resolve().parent).as_posix()
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [
        f"{results.date}, {results.machine}; {versions}; {results.settings['dtype']}. Ratio: time "
        "of the best peer, in whichever memory format suits it, over ours; above 1, cnncore is "
        f"faster. [All figures]({link}).",
        "",
        *summary_table(results),
    ]
    return "\n".join(lines)


def replace_block(text: str, content: str) -> str:
    """The text with what stands between the markers replaced.

    >>> print(replace_block(f"a\\n{BEGIN}\\nold\\n{END}\\nb", "new"))
    a
    <!-- benchmark: begin -->
    new
    <!-- benchmark: end -->
    b
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ArgumentError("readme", f"a page with {BEGIN} and {END}", "no such markers")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"
