"""COCO's layout: one JSON file of annotations and a folder of pictures; results as JSON.

    {"images":      [{"id": 7, "file_name": "a.jpg", "height": H, "width": W}, …],
     "categories":  [{"id": 18, "name": "dog"}, …],
     "annotations": [{"image_id": 7, "category_id": 18, "bbox": [x, y, width, height],
                      "segmentation": polygons or run lengths, "area": …, "iscrowd": 0}, …]}

Category ids may have gaps; labels are positions in the list of categories sorted by id.

Letters: ``H W`` image, ``R`` objects.

Source: Lin et al., "Microsoft COCO: common objects in context", 2014, and its description of the
data format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.data.errors import DataError, broken
from cnncore.data.run_lengths import counts_of_text, mask_of_counts
from cnncore.data.scenes import IGNORE, Sample
from cnncore.data.voc import filled_boxes
from cnncore.errors import ArgumentError, require
from cnncore.io import atomic_write
from cnncore.vision import Objects, encode_rle, read_image, to_picture

Record = dict[str, Any]


class Coco:
    """The annotated pictures of one JSON file, as ``Sample``.

    Masks come from polygons or run lengths; an object that has only a box gets the filled box.
    The label map is painted from the masks, small objects over large ones; crowds are ``IGNORE``
    in it.  Crowds, and boxes without width or height (COCO has some), are no objects; with
    ``keep_ignored`` they are there, flagged in ``Sample.ignored``.

    ``image_ids``, ``category_ids``, ``class_names``: the file's, in the order of samples and
    labels.  ``file`` lies in memory (parsed once), pictures are read when asked for.
    Raises ``DataError`` naming file and field.

    Where masks overlap: no order is recorded in the file, so that what is small is taken to be in
    front, as most often it is.
    """

    ignore_index: int | None = IGNORE

    def __init__(
        self,
        file: str | os.PathLike[str],
        images: str | os.PathLike[str],
        keep_ignored: bool = False,
    ) -> None:
        self.file, self.folder, self.keep_ignored = Path(file), Path(images), keep_ignored
        content = _read_json(self.file)
        if not isinstance(content, dict):
            raise broken(self.file, "top level", "an object", type(content).__name__)
        fields = {"id": int, "name": str}
        categories = sorted(self._records(content, "categories", fields), key=lambda c: c["id"])
        self.category_ids = tuple(category["id"] for category in categories)
        self.class_names = tuple(category["name"] for category in categories)
        fields = {"id": int, "file_name": str, "height": int, "width": int}
        self.images = list(self._records(content, "images", fields))
        self.image_ids = tuple(image["id"] for image in self.images)
        self.image_names = tuple(image["file_name"] for image in self.images)
        for name, ids in (("categories", self.category_ids), ("images", self.image_ids)):
            if len(set(ids)) != len(ids):
                raise broken(self.file, f"{name}.id", "every id once", "some twice")
        self.annotations: dict[int, list[tuple[str, Record]]] = {i: [] for i in self.image_ids}
        label_of = {category: label for label, category in enumerate(self.category_ids)}
        fields = {"image_id": int, "category_id": int, "bbox": list}
        for number, record in enumerate(self._records(content, "annotations", fields)):
            field = f"annotations[{number}]"
            if record["image_id"] not in self.annotations:
                raise broken(self.file, f"{field}.image_id", "an image's id", record["image_id"])
            if record["category_id"] not in label_of:
                expected, got = "a category's id", record["category_id"]
                raise broken(self.file, f"{field}.category_id", expected, got)
            self.annotations[record["image_id"]].append((field, record))

    def _records(self, content: Any, name: str, fields: dict[str, type]) -> Iterator[Record]:
        """The records of one list, each with the fields that it must have."""
        records = content.get(name)
        if not isinstance(records, list):
            raise broken(self.file, name, "a list", type(records).__name__)
        for number, record in enumerate(records):
            if not isinstance(record, dict):
                raise broken(self.file, f"{name}[{number}]", "an object", type(record).__name__)
            for field, kind in fields.items():
                value = record.get(field)
                if not isinstance(value, kind) or isinstance(value, bool):
                    expected = {int: "an integer", str: "a text", list: "a list"}[kind]
                    raise broken(self.file, f"{name}[{number}].{field}", expected, repr(value))
            yield record

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Sample:
        record = self.images[index]
        size = record["height"], record["width"]
        path = self.folder / record["file_name"]
        if not path.is_file():
            raise DataError(f"{path}: named in {self.file}, not there")
        picture = read_image(path)
        if picture.shape[:2] != size:
            expected = f"the picture's (height, width), {picture.shape[:2]}"
            raise broken(self.file, f"images[{index}]", expected, size)
        image = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)
        objects = self._objects(record["id"], size)
        kept = np.full(len(objects[1]), True) if self.keep_ignored else ~objects[3]
        boxes, labels, masks, ignored = (values[kept] for values in objects)
        return Sample(image, boxes, labels, masks, _painted(*objects[1:]), ignored=ignored)

    def _objects(self, image: int, size: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
        """Boxes, labels, masks and whether they are ignored, of one image."""
        records = self.annotations[image]
        boxes = np.array([self._box(f, r) for f, r in records], np.float32).reshape(-1, 4)
        labels = [self.category_ids.index(r["category_id"]) for _, r in records]
        masks = np.zeros((len(records), *size), np.bool_)
        for mask, box, (field, record) in zip(masks, boxes, records, strict=True):
            drawn = self._mask(f"{field}.segmentation", record.get("segmentation"), size)
            mask[:] = filled_boxes(box[None], size)[0] if drawn is None else drawn
        flat = (boxes[:, 2:] <= boxes[:, :2]).any(1)
        crowd = [bool(r.get("iscrowd", 0)) for _, r in records]
        return boxes, np.array(labels, np.int64), masks, np.array(crowd, np.bool_) | flat

    def _box(self, field: str, record: Record) -> list[float]:
        box = record["bbox"]
        numbers = len(box) == 4 and all(isinstance(v, (int, float)) for v in box)
        if not numbers or not np.isfinite(box).all() or box[2] < 0 or box[3] < 0:
            raise broken(self.file, f"{field}.bbox", "x, y, width >= 0, height >= 0", box)
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]

    def _mask(self, field: str, drawn: Any, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The pixels of polygons or run lengths; None where there is neither."""
        if drawn is None or drawn == []:
            return None
        if isinstance(drawn, list):
            return self._polygons(field, drawn, size)
        if not isinstance(drawn, dict) or not {"size", "counts"} <= set(drawn):
            raise broken(self.file, field, "polygons, or size and counts", type(drawn).__name__)
        if drawn["size"] != list(size):
            raise broken(self.file, f"{field}.size", f"the image's, {list(size)}", drawn["size"])
        counts = drawn["counts"]
        try:
            runs = counts_of_text(counts) if isinstance(counts, str) else counts
            return mask_of_counts(runs, size)
        except ArgumentError as error:
            raise broken(self.file, f"{field}.counts", error.expected, error.got) from None

    def _polygons(self, field: str, drawn: list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
        for number, ring in enumerate(drawn):
            pairs = isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0
            if not pairs or not all(isinstance(v, (int, float)) for v in ring):
                expected = "at least three points x, y, x, y, …"
                raise broken(self.file, f"{field}[{number}]", expected, ring)
            # Their rasteriser walks along every edge: far outside it would walk for ever.
            if not np.isfinite(ring).all() or np.abs(ring).max() > 10 * max(*size, 1):
                raise broken(self.file, f"{field}[{number}]", f"points in {size}", ring)
        masks = require("pycocotools.mask", "vision")
        merged = masks.merge(masks.frPyObjects(drawn, *size))
        return mask_of_counts(counts_of_text(merged["counts"].decode()), size)


def _painted(labels: Any, masks: Any, ignored: Any) -> NDArray[np.int64]:
    """The label map: crowds below, then objects, large ones first."""
    semantic = np.zeros(masks.shape[1:], np.int64)
    semantic[masks[ignored].any(0)] = IGNORE
    areas = np.where(ignored, 0, masks.sum((1, 2)))
    for r in np.argsort(-areas, kind="stable"):
        if not ignored[r]:
            semantic[masks[r]] = labels[r] + 1
    return semantic


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no readable JSON ({error})") from None


# --- writing --------------------------------------------------------------------------------------


def write_coco(
    file: str | os.PathLike[str],
    images: str | os.PathLike[str],
    samples: Sequence[Sample],
    class_names: Sequence[str],
    names: Sequence[str] | None = None,
) -> None:
    """Write samples in COCO's layout: PNG pictures, masks as compressed run lengths.

    ``names``: of the files, by default ``000000.png``, ….  Ids count from 1; ``ignored`` objects
    become crowds.  Label maps are not written: ``Coco`` paints them from the masks.
    """
    names = [f"{i:06}.png" for i in range(len(samples))] if names is None else names
    if len(names) != len(samples):
        raise ArgumentError("names", f"one a sample, {len(samples)}", len(names))
    module = require("PIL.Image", "vision")
    pictures: list[Record] = []
    annotations: list[Record] = []
    for number, (name, sample) in enumerate(zip(names, samples, strict=True), 1):
        with atomic_write(Path(images) / name) as out:
            module.fromarray(to_picture(sample.image)).save(out, format="PNG")
        height, width = sample.semantic.shape
        pictures.append({"id": number, "file_name": name, "height": height, "width": width})
        crowds = np.zeros(len(sample.labels), bool) if sample.ignored is None else sample.ignored
        objects = Objects(sample.boxes, sample.labels, sample.masks)
        for record, crowd in zip(_records(objects, number), crowds.tolist(), strict=True):
            record |= {"id": len(annotations) + 1, "iscrowd": int(crowd)}
            annotations.append(record)
    categories = [{"id": k, "name": name} for k, name in enumerate(class_names, 1)]
    content = {"images": pictures, "categories": categories, "annotations": annotations}
    _write_json(Path(file), content)


def _records(objects: Objects, image: int, categories: Sequence[int] | None = None) -> list[Record]:
    """Boxes, areas, classes and masks of one image as COCO writes them."""
    boxes = np.asarray(objects.boxes, np.float64).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    records: list[Record] = []
    for number, label in enumerate(np.asarray(objects.labels).tolist()):
        category = label + 1 if categories is None else categories[label]
        box = [*boxes[number, :2].tolist(), *sides[number].tolist()]
        record: Record = {"image_id": image, "category_id": category, "bbox": box}
        record["area"] = float(sides[number].prod())
        if objects.masks is not None:
            (rle,) = encode_rle(objects.masks[number : number + 1])
            record["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
            record["area"] = int(objects.masks[number].sum())
        records.append(record)
    return records


def write_coco_results(
    path: str | os.PathLike[str],
    predictions: Sequence[Objects],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> None:
    """Write detections as COCO's results: a list of boxes (and masks) with scores.

    ``image_ids``: of each prediction's image, ``category_ids``: of each label; ``Coco`` has both.
    """
    records: list[Record] = []
    if len(predictions) != len(image_ids):
        raise ArgumentError("image_ids", f"one a prediction, {len(predictions)}", len(image_ids))
    for image, found in zip(image_ids, predictions, strict=True):
        if found.scores is None:
            raise ArgumentError("predictions", "scores", None)
        scores = np.asarray(found.scores, np.float64).tolist()
        for record, score in zip(_records(found, image, category_ids), scores, strict=True):
            records.append(record | {"score": score})
    _write_json(Path(path), records)


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content).encode())
