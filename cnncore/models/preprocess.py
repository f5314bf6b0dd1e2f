"""How a photograph becomes a classifier's input: each network's own size, crop and scaling.

The settings are those with which the public weights of a network were evaluated; with others the
same weights do worse.  Needs Pillow (the extra ``vision``), whose resizing the authors used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, require
from cnncore.models.classification import VARIANTS

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (123.675, 116.28, 103.53)
IMAGENET_STD: Triple = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side, crop the centre, ``(x − mean) / std`` of values 0..255.

    >>> Preprocess()(np.zeros((300, 400, 3), np.uint8)).shape
    (1, 3, 224, 224)
    """

    resize: int = 256  # the shorter side
    crop: int = 224
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    bicubic: bool = False
    channels: str = "RGB"  # or "BGR", or "L" for one grey channel

    def __call__(self, picture: Any) -> np.ndarray[Any, Any]:
        """``(H, W, 3)`` uint8 to ``(1, C, crop, crop)`` float32."""
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            got = f"{picture.dtype} {picture.shape}"
            raise ArgumentError("picture", "uint8 (H, W, 3)", got, "cnncore.vision.read_image")
        pillow = require("PIL.Image", "vision")
        image = pillow.fromarray(picture)
        scale = self.resize / min(image.size)
        size = tuple(max(round(n * scale), self.crop) for n in image.size)
        image = image.resize(size, pillow.BICUBIC if self.bicubic else pillow.BILINEAR)
        left, top = ((n - self.crop) // 2 for n in image.size)
        image = image.crop((left, top, left + self.crop, top + self.crop))
        if self.channels == "L":
            pixels = np.asarray(image.convert("L"), np.float32)[None]
            return ((pixels - self.mean[0]) / self.std[0]).astype(np.float32)[None]
        pixels = np.asarray(image, np.float32)
        pixels = pixels[..., ::-1] if self.channels == "BGR" else pixels
        scaled = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


_HALF = Preprocess(mean=(127.5,) * 3, std=(127.5,) * 3)
_B_RESIZE = (256, 256, 288, 320, 384, 456, 528, 600)
_B_CROP = (224, 240, 288, 300, 380, 456, 528, 600)

PREPROCESS: dict[str, Preprocess] = {
    "lenet5": Preprocess(32, 32, (0.0,) * 3, (255.0,) * 3, channels="L"),
    "alexnet_two_tower": Preprocess(256, 227),
    # Trained in TensorFlow: values −1..1.
    "googlenet": _HALF,
    "inception_v3": replace(_HALF, resize=342, crop=299),
    "inception_v4": replace(_HALF, resize=341, crop=299, bicubic=True),
    "inception_resnet_v2": replace(_HALF, resize=333, crop=299, bicubic=True),
    "xception": replace(_HALF, resize=333, crop=299, bicubic=True),
    "nasnet_mobile": _HALF,
    "mobilenet_v1": replace(_HALF, bicubic=True),
    "resnet50_v2": replace(_HALF, resize=224),
    "resnet101_v2": replace(_HALF, resize=224),
    # Trained in Caffe.
    "bn_inception": Preprocess(mean=(104.0, 117.0, 128.0), std=(1.0,) * 3, channels="BGR"),
    "efficientnet_lite0": Preprocess(224, 224, (127.0,) * 3, (128.0,) * 3),
    **{
        f"efficientnet_b{i}": Preprocess(resize, crop, bicubic=True)
        for i, (resize, crop) in enumerate(zip(_B_RESIZE, _B_CROP, strict=True))
    },
}


def preprocess_of(name: str) -> Preprocess:
    """The preprocessing of a classifier of ``models.classification``.

    >>> preprocess_of("resnet50").crop
    224
    """
    if name not in VARIANTS:
        raise ArgumentError("name", "a classifier's name", repr(name), "models.list_models()")
    return PREPROCESS.get(name, Preprocess())
