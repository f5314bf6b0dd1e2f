"""Results as they come: one JSON file and one page, written anew after every row."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# section -> heading, and its columns as (key, title)
SECTIONS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "stages": (
        "What was run",
        [("stage", "stage"), ("outcome", "outcome"), ("seconds", "s"), ("detail", "")],
    ),
    "rates": ("Measured rates of the device", [("rate", "rate"), ("value", "value")]),
    "kernels": (
        "Kernels: device events, medians, inputs rotated past the cache",
        [
            ("name", "kernel"),
            ("shape", "shape"),
            ("bytes", "bytes"),
            ("operations", "operations"),
            ("microseconds", "µs"),
            ("share", "share of the ceiling"),
            ("ceiling", "ceiling"),
            ("peer_microseconds", "peer µs"),
            ("ratio", "times the peer's speed"),
            ("error", "error"),
        ],
    ),
    "large": (
        "More than 2³¹ elements",
        [("name", "kernel"), ("shape", "shape"), ("outcome", "outcome"), ("seconds", "s")],
    ),
    "training": (
        "Training steps",
        [
            ("name", "network"),
            ("milliseconds", "ms a step"),
            ("peer", "peer"),
            ("peer_milliseconds", "peer ms"),
            ("ratio", "times the peer's time"),
        ],
    ),
}


class Record:
    """Rows by section; every ``add`` leaves both files whole on disk."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.data: dict[str, Any] = {"facts": {}, **{section: [] for section in SECTIONS}}

    @classmethod
    def resumed(cls, folder: Path, name: str) -> Record:
        """The record that another process of the same run began."""
        record = cls(folder, name)
        record.data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return record

    def add(self, section: str, **row: Any) -> None:
        self.data[section].append(row)
        self.save()
        columns = SECTIONS[section][1]
        print("  ".join(shown(row.get(key)) for key, _ in columns), flush=True)

    def rows(self, section: str) -> list[Row]:
        found: list[Row] = self.data[section]
        return found

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / f"{self.name}.json", json.dumps(self.data, indent=1) + "\n")
        _write(self.folder / f"{self.name}.md", self.page())

    def page(self) -> str:
        lines = [f"# {self.data['facts'].get('device', self.name)}", ""]
        lines += [f"- {key}: {value}" for key, value in self.data["facts"].items()]
        for section, (heading, columns) in SECTIONS.items():
            rows = self.data[section]
            if not rows:
                continue
            lines += ["", f"## {heading}", ""]
            lines.append("| " + " | ".join(title for _, title in columns) + " |")
            lines.append("|" + "---|" * len(columns))
            for row in rows:
                lines.append("| " + " | ".join(shown(row.get(key)) for key, _ in columns) + " |")
            lines += self._summary(section, rows)
        return "\n".join([*lines, ""])

    def _summary(self, section: str, rows: list[Row]) -> list[str]:
        if section != "kernels":
            return []
        lines = [""]
        for family in dict.fromkeys(row["family"] for row in rows):
            ratios = [r["ratio"] for r in rows if r["family"] == family and r.get("ratio")]
            shares = [r["share"] for r in rows if r["family"] == family and r.get("share")]
            if ratios:
                mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                lines.append(
                    f"- {family}: {mean:.2f} times the peer's speed (geometric mean of "
                    f"{len(ratios)}), share of the ceiling {min(shares):.2f} … {max(shares):.2f}"
                )
        return lines


def shown(value: Any) -> str:
    """Numbers with three digits, thousands marked; None empty; a bar would end the cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "/")


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
