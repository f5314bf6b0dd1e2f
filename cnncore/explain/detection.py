"""Why is this object not found?  Every box of a detector, from its anchors to its detections.

    with record_detection() as record:
        outputs = model(images)
        found = model.decode(outputs)
    print(record)  # how many were left after every step
    print("\\n".join(record.explain((120, 40, 160, 90))))  # what became of those near this object

Detectors tell what they do as notes of the event stream (``cnncore.autograd.events``); nothing is
computed for it when nobody watches.  Letters: ``C`` candidates, ``A`` anchors, ``R`` regions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from cnncore.autograd.events import Event, observe
from cnncore.errors import ArgumentError
from cnncore.vision.boxes import FloatArray, IntArray, as_boxes, box_iou
from cnncore.vision.selection import FATES, KEPT, Selection

STAGES = ("proposals", "detections")


@dataclass(frozen=True)
class Match:
    """Which true box each anchor or region was given while a loss was computed.

    ``matches``: number of the true box, or negative (nothing, or between the thresholds).
    ``sampled``: those that the loss counted.
    """

    image: int
    matches: IntArray
    sampled: IntArray

    def of(self, box: int) -> tuple[int, int]:
        """How many a true box was given, and how many of these the loss counted."""
        mine = self.matches == box
        return int(mine.sum()), int(mine[self.sampled].sum())


@dataclass
class DetectionRecord:
    """What a detector did with one batch while it was watched.

    ``anchors``: of each level ``(A, 4)``; ``anchor_matches`` and ``region_matches``: one an image,
    where a loss was computed; ``selections``: by stage, one an image.  Of several batches, the
    images count on.
    """

    anchors: list[FloatArray] = field(default_factory=list)
    anchor_matches: list[Match] = field(default_factory=list)
    region_matches: list[Match] = field(default_factory=list)
    selections: dict[str, list[Selection]] = field(default_factory=dict)

    def watch(self, event: Event) -> None:
        """The observer."""
        if event.kind != "note":
            return
        if event.subject == "anchors":
            self.anchors = list(event.outputs[0])
        elif event.subject == "anchor_matches":
            matches, positive, negative = event.outputs
            sampled = np.concatenate([positive, negative])
            self.anchor_matches.append(Match(event.inputs[0], matches, sampled))
        elif event.subject == "proposal_matches":
            self.region_matches.append(Match(event.inputs[0], *event.outputs))
        elif event.subject == "selection":
            selection: Selection = event.outputs[0]
            self.selections.setdefault(selection.candidates.stage, []).append(selection)

    def selection(self, stage: str, image: int = 0) -> Selection:
        """How the candidates of a stage, ``"proposals"`` or ``"detections"``, became few."""
        found = self.selections.get(stage, [])
        if not 0 <= image < len(found):
            known = {name: len(many) for name, many in self.selections.items()}
            hint = "call model.decode inside the with block"
            raise ArgumentError("stage, image", f"among {known or 'nothing recorded'}",
                                f"{stage!r}, {image}", hint)  # fmt: skip
        return found[image]

    def funnel(self, stage: str, image: int = 0) -> dict[str, int]:
        """How many boxes there were, how many passed the first cut, and what became of those."""
        selection = self.selection(stage, image)
        counts = Counter(selection.fates()[0])
        c = selection.candidates
        return {"all": c.total, c.cut: len(c.boxes)} | {fate: counts[fate] for fate in FATES}

    def explain(self, box: Sequence[float], image: int = 0, iou: float = 0.5) -> list[str]:
        """What became of the anchors, proposals and detections near ``box`` (x1, y1, x2, y2).

        Near: an IoU of at least ``iou``.  A line a stage, and one for the best candidate of it.
        """
        wanted = as_boxes([box], "box")
        lines = [self._about_anchors(wanted, iou)] if self.anchors else []
        for stage in STAGES:
            if image < len(self.selections.get(stage, [])):
                lines += _about(self.selections[stage][image], wanted, iou)
        return lines or ["nothing was recorded"]

    def _about_anchors(self, wanted: FloatArray, iou: float) -> str:
        overlap = box_iou(np.concatenate(self.anchors), wanted)[:, 0]
        near, best = int((overlap >= iou).sum()), float(overlap.max(initial=0.0))
        return f"anchors: {near:,} of {len(overlap):,} near, the best has an IoU of {best:.2f}"

    def __str__(self) -> str:
        lines = []
        if self.anchors:
            sizes = [len(level) for level in self.anchors]
            lines.append(f"anchors: {sum(sizes):,} on {len(sizes)} levels {sizes}")
        for word, matches in (("anchors", self.anchor_matches), ("regions", self.region_matches)):
            for m in matches:
                given = int((m.matches >= 0).sum())
                lines.append(
                    f"image {m.image}: {given:,} of {len(m.matches):,} {word} match an object, "
                    f"the loss counts {len(m.sampled):,}"
                )
        for stage, selections in self.selections.items():
            for image in range(len(selections)):
                counts = self.funnel(stage, image)
                steps = ", ".join(f"{n:,} {word}" for word, n in counts.items() if n)
                lines.append(f"image {image}, {stage}: {steps or 'none'}")
        return "\n".join(lines) or "nothing was recorded"


def _about(selection: Selection, wanted: FloatArray, iou: float) -> list[str]:
    """Those near a box: how many met which fate, and the story of the best."""
    c = selection.candidates
    stage, overlap = c.stage, box_iou(c.boxes, wanted)[:, 0]
    passed = f"{len(c.boxes):,} of {c.total:,} passed the first cut ({c.cut})"
    near = np.flatnonzero(overlap >= iou)
    if not len(near):
        best = float(overlap.max(initial=0.0))
        return [f"{stage}: {passed}, none is near, the best has an IoU of {best:.2f}"]
    fates, by = selection.fates()
    counts = Counter(fates[i] for i in near)
    shares = ", ".join(f"{counts[fate]} {fate}" for fate in FATES if counts[fate])
    lines = [f"{stage}: {passed}, {len(near)} are near: {shares}"]
    # The best of those that were kept; if none was, of all.
    able = [i for i in near if fates[i] == KEPT] or near
    i = max(able, key=lambda n: overlap[n])
    story = f"  the best (IoU {overlap[i]:.2f}, score {c.scores[i]:.2f}, group {c.group[i]}): "
    story += fates[i]
    if (k := by[i]) >= 0:
        between = box_iou(c.boxes[[i]], c.boxes[[k]])[0, 0]
        story += f" by one with score {c.scores[k]:.2f}, IoU {between:.2f}"
    return [*lines, story]


@contextmanager
def record_detection() -> Iterator[DetectionRecord]:
    """Watch what detectors do inside the ``with`` block; see the head of this file."""
    record = DetectionRecord()
    with observe(record.watch):
        yield record
