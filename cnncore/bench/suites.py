"""The suites: tables of layers as networks have them.

A line is ``op shape setting=value …``, in the words of the command line, with ``×n`` for a layer
that the network has n times, after a name and a colon.  Batches are what two cores are used with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnncore.bench.problem import Case
from cnncore.errors import ArgumentError

GRADIENTS = ("input", "weight")
AGAINST = ("torch", "onnxruntime")  # unless a suite says otherwise


@dataclass(frozen=True)
class Suite:
    """``table``: its lines; ``directions``: of those lines that name none."""

    title: str
    table: str
    directions: tuple[str, ...] = ("forward",)
    against: tuple[str, ...] = AGAINST

    def cases(self, directions: tuple[str, ...] | None = None) -> list[Case]:
        """Its lines, in each direction."""
        lines = [line.strip() for line in self.table.strip().splitlines()]
        return [
            case.towards(direction)
            for case in map(parse, lines)
            for direction in (directions or _directions(case, self.directions))
        ]


def _directions(case: Case, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Gradients of a convolution are two, those of other ops one."""
    if case.op in ("conv2d", "conv_transpose2d"):
        return wanted
    if case.op in ("nms", "matmul"):
        return ("forward",)
    return tuple(dict.fromkeys("backward" if d in GRADIENTS else d for d in wanted))


def parse(line: str) -> Case:
    """One line of a table.

    >>> parse("conv1: conv2d 4,3,224,224 filters=64 kernel=7 stride=2 padding=3 ×1").settings
    {'shape': (4, 3, 224, 224), 'filters': 64, 'kernel': 7, 'stride': 2, 'padding': 3}
    """
    name, _, rest = line.rpartition(":")
    op, shape, *more = rest.split()
    settings: dict[str, Any] = {"shape": numbers(shape)}
    count = 1
    for word in more:
        key, equals, text = word.partition("=")
        if equals:
            settings[key] = value(text)
        else:
            count = int(word.removeprefix("×"))
    return Case(op, settings, "forward", name.strip(), count)


def numbers(text: str) -> tuple[int, ...]:
    """``"4,3,7"`` as integers."""
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise ArgumentError("shape", "sizes joined by commas", repr(text), "4,64,56,56") from None


def value(text: str) -> Any:
    """An integer, a pair of them, a number, a truth value or a word.

    >>> value("3"), value("3,5"), value("0.25"), value("true"), value("bilinear")
    (3, (3, 5), 0.25, True, 'bilinear')
    """
    if text in ("true", "false"):
        return text == "true"
    parts = text.split(",")
    for kind in (int, float):
        try:
            found = tuple(kind(part) for part in parts)
        except ValueError:
            continue
        return found if len(found) > 1 else found[0]
    return text


RESNET50 = """
conv1:            conv2d 4,3,224,224   filters=64   kernel=7 stride=2 padding=3
layer1 first 1x1: conv2d 4,64,56,56    filters=64   kernel=1
layer1 3x3:       conv2d 4,64,56,56    filters=64   kernel=3 padding=1 ×3
layer1 last 1x1:  conv2d 4,64,56,56    filters=256  kernel=1 ×4
layer1 next 1x1:  conv2d 4,256,56,56   filters=64   kernel=1 ×2
layer2 first 1x1: conv2d 4,256,56,56   filters=128  kernel=1
layer2 3x3 s2:    conv2d 4,128,56,56   filters=128  kernel=3 stride=2 padding=1
layer2 shortcut:  conv2d 4,256,56,56   filters=512  kernel=1 stride=2
layer2 last 1x1:  conv2d 4,128,28,28   filters=512  kernel=1 ×4
layer2 next 1x1:  conv2d 4,512,28,28   filters=128  kernel=1 ×3
layer2 3x3:       conv2d 4,128,28,28   filters=128  kernel=3 padding=1 ×3
layer3 first 1x1: conv2d 4,512,28,28   filters=256  kernel=1
layer3 3x3 s2:    conv2d 4,256,28,28   filters=256  kernel=3 stride=2 padding=1
layer3 shortcut:  conv2d 4,512,28,28   filters=1024 kernel=1 stride=2
layer3 last 1x1:  conv2d 4,256,14,14   filters=1024 kernel=1 ×6
layer3 next 1x1:  conv2d 4,1024,14,14  filters=256  kernel=1 ×5
layer3 3x3:       conv2d 4,256,14,14   filters=256  kernel=3 padding=1 ×5
layer4 first 1x1: conv2d 4,1024,14,14  filters=512  kernel=1
layer4 3x3 s2:    conv2d 4,512,14,14   filters=512  kernel=3 stride=2 padding=1
layer4 shortcut:  conv2d 4,1024,14,14  filters=2048 kernel=1 stride=2
layer4 last 1x1:  conv2d 4,512,7,7     filters=2048 kernel=1 ×3
layer4 next 1x1:  conv2d 4,2048,7,7    filters=512  kernel=1 ×2
layer4 3x3:       conv2d 4,512,7,7     filters=512  kernel=3 padding=1 ×2
"""

UNET = """
inc 1:    conv2d 1,3,256,256     filters=64   kernel=3 padding=1
inc 2:    conv2d 1,64,256,256    filters=64   kernel=3 padding=1 ×2
down1 1:  conv2d 1,64,128,128    filters=128  kernel=3 padding=1
down1 2:  conv2d 1,128,128,128   filters=128  kernel=3 padding=1 ×2
down2 1:  conv2d 1,128,64,64     filters=256  kernel=3 padding=1
down2 2:  conv2d 1,256,64,64     filters=256  kernel=3 padding=1 ×2
down3 1:  conv2d 1,256,32,32     filters=512  kernel=3 padding=1
down3 2:  conv2d 1,512,32,32     filters=512  kernel=3 padding=1 ×2
down4 1:  conv2d 1,512,16,16     filters=1024 kernel=3 padding=1
down4 2:  conv2d 1,1024,16,16    filters=1024 kernel=3 padding=1
up1:      conv_transpose2d 1,1024,16,16  filters=512 kernel=2 stride=2
up1 1:    conv2d 1,1024,32,32    filters=512  kernel=3 padding=1
up2:      conv_transpose2d 1,512,32,32   filters=256 kernel=2 stride=2
up2 1:    conv2d 1,512,64,64     filters=256  kernel=3 padding=1
up3:      conv_transpose2d 1,256,64,64   filters=128 kernel=2 stride=2
up3 1:    conv2d 1,256,128,128   filters=128  kernel=3 padding=1
up4:      conv_transpose2d 1,128,128,128 filters=64  kernel=2 stride=2
up4 1:    conv2d 1,128,256,256   filters=64   kernel=3 padding=1
outc:     conv2d 1,64,256,256    filters=21   kernel=1
"""

FPN = """
inner C2: conv2d 1,256,128,128  filters=256 kernel=1
inner C3: conv2d 1,512,64,64    filters=256 kernel=1
inner C4: conv2d 1,1024,32,32   filters=256 kernel=1
inner C5: conv2d 1,2048,16,16   filters=256 kernel=1
layer P2: conv2d 1,256,128,128  filters=256 kernel=3 padding=1
layer P3: conv2d 1,256,64,64    filters=256 kernel=3 padding=1
layer P4: conv2d 1,256,32,32    filters=256 kernel=3 padding=1
layer P5: conv2d 1,256,16,16    filters=256 kernel=3 padding=1
top-down: interpolate 1,256,64,64 scale_factor=2 mode=nearest
"""

MOBILENET = """
stem:            conv2d 4,3,224,224   filters=32   kernel=3 stride=2 padding=1
depthwise 112:   conv2d 4,32,112,112  filters=32   kernel=3 padding=1 groups=32
depthwise 112 s2: conv2d 4,96,112,112 filters=96   kernel=3 stride=2 padding=1 groups=96
depthwise 56:    conv2d 4,144,56,56   filters=144  kernel=3 padding=1 groups=144
depthwise 56 s2: conv2d 4,144,56,56   filters=144  kernel=3 stride=2 padding=1 groups=144
depthwise 28:    conv2d 4,192,28,28   filters=192  kernel=3 padding=1 groups=192 ×2
depthwise 28 s2: conv2d 4,192,28,28   filters=192  kernel=3 stride=2 padding=1 groups=192
depthwise 14:    conv2d 4,384,14,14   filters=384  kernel=3 padding=1 groups=384 ×4
depthwise 14 w:  conv2d 4,576,14,14   filters=576  kernel=3 padding=1 groups=576 ×2
depthwise 14 s2: conv2d 4,576,14,14   filters=576  kernel=3 stride=2 padding=1 groups=576
depthwise 7:     conv2d 4,960,7,7     filters=960  kernel=3 padding=1 groups=960 ×3
project 112:     conv2d 4,32,112,112  filters=16   kernel=1
expand 112:      conv2d 4,16,112,112  filters=96   kernel=1
project 56:      conv2d 4,144,56,56   filters=24   kernel=1
expand 56:       conv2d 4,24,56,56    filters=144  kernel=1 ×2
expand 28:       conv2d 4,32,28,28    filters=192  kernel=1 ×3
expand 14:       conv2d 4,64,14,14    filters=384  kernel=1 ×4
project 14:      conv2d 4,384,14,14   filters=64   kernel=1 ×3
expand 7:        conv2d 4,160,7,7     filters=960  kernel=1 ×3
last:            conv2d 4,320,7,7     filters=1280 kernel=1
"""

FCN = """
fc6:          conv2d 1,512,16,16 filters=1024 kernel=7
fc7:          conv2d 1,1024,10,10 filters=1024 kernel=1
score pool3:  conv2d 1,256,64,64 filters=21 kernel=1
score pool4:  conv2d 1,512,32,32 filters=21 kernel=1
upscore2:     conv_transpose2d 1,21,16,16 filters=21 kernel=4 stride=2
upscore8:     conv_transpose2d 1,21,32,32 filters=21 kernel=16 stride=8
upscore32:    conv_transpose2d 1,21,10,10 filters=21 kernel=64 stride=32
decoder 4x4:  conv_transpose2d 4,256,14,14 filters=128 kernel=4 stride=2 padding=1
decoder wide: conv_transpose2d 4,128,28,28 filters=64 kernel=4 stride=2 padding=1
decoder 2x2:  conv_transpose2d 4,256,28,28 filters=128 kernel=2 stride=2
dilated:      conv2d 1,512,32,32 filters=512 kernel=3 padding=2 dilation=2
"""

MASKRCNN = """
stem:        conv2d 8,3,128,128 filters=16  kernel=3 stride=2 padding=1
layer1:      conv2d 8,32,32,32  filters=32  kernel=3 padding=1
layer2 s2:   conv2d 8,32,32,32  filters=64  kernel=3 stride=2 padding=1
layer2:      conv2d 8,64,16,16  filters=64  kernel=3 padding=1
layer3:      conv2d 8,128,8,8   filters=128 kernel=3 padding=1
layer4:      conv2d 8,128,4,4   filters=128 kernel=3 padding=1
inner:       conv2d 8,128,8,8   filters=32  kernel=1
rpn:         conv2d 8,32,32,32  filters=32  kernel=3 padding=1
mask head:   conv2d 80,32,14,14 filters=32  kernel=3 padding=1 ×4
mask up:     conv_transpose2d 80,32,14,14 filters=32 kernel=2 stride=2
mask logits: conv2d 80,32,28,28 filters=11  kernel=1
box head:    matmul 256,1568,128
"""

POOL = """
max 3x3 s2:    max_pool2d 4,64,112,112 kernel_size=3 stride=2 padding=1
max 2x2:       max_pool2d 4,64,224,224 kernel_size=2 stride=2
max 2x2 deep:  max_pool2d 4,512,28,28 kernel_size=2 stride=2
unpool 2x2:    max_unpool2d 4,64,112,112 kernel_size=2 stride=2
average 2x2:   avg_pool2d 4,64,112,112 kernel_size=2 stride=2
average 3x3:   avg_pool2d 4,192,35,35 kernel_size=3 stride=1 padding=1
nearest ×2:    interpolate 4,64,56,56 scale_factor=2 mode=nearest
bilinear ×2:   interpolate 4,64,56,56 scale_factor=2 mode=bilinear
"""

ROI = """
align 7:      roi_align 2,256,50,68 regions=512 output_size=7 spatial_scale=0.0625
align 14:     roi_align 2,256,50,68 regions=128 output_size=14 spatial_scale=0.0625
align demo:   roi_align 8,32,32,32 regions=256 output_size=7 spatial_scale=0.25 aligned=true
pool 7:       roi_pool 2,256,50,68 regions=512 output_size=7 spatial_scale=0.0625
suppression:  nms 2000 iou_threshold=0.7
"""

GEMM = """
square 256:   matmul 256,256,256
square 512:   matmul 512,512,512
square 1024:  matmul 1024,1024,1024
square 2048:  matmul 2048,2048,2048
tall:         matmul 4096,256,64
thin:         matmul 64,4096,256
dense:        matmul 64,2048,1000
"""

BACKWARD = """
3x3 56:       conv2d 4,64,56,56   filters=64  kernel=3 padding=1
3x3 28:       conv2d 4,128,28,28  filters=128 kernel=3 padding=1
3x3 14:       conv2d 4,256,14,14  filters=256 kernel=3 padding=1
3x3 7:        conv2d 4,512,7,7    filters=512 kernel=3 padding=1
3x3 s2:       conv2d 4,128,56,56  filters=128 kernel=3 stride=2 padding=1
1x1:          conv2d 4,256,56,56  filters=64  kernel=1
1x1 s2:       conv2d 4,256,56,56  filters=512 kernel=1 stride=2
stem:         conv2d 4,3,224,224  filters=64  kernel=7 stride=2 padding=3
depthwise:    conv2d 4,144,56,56  filters=144 kernel=3 padding=1 groups=144
depthwise s2: conv2d 4,144,56,56  filters=144 kernel=3 stride=2 padding=1 groups=144
transposed 4: conv_transpose2d 4,256,14,14 filters=128 kernel=4 stride=2 padding=1
transposed 2: conv_transpose2d 4,256,28,28 filters=128 kernel=2 stride=2
"""

ELEMENTWISE = """
batch norm:  batch_norm 4,256,56,56
relu:        relu 4,256,56,56
softmax:     softmax 8,21,64,64
"""

SUITES = {
    "resnet50": Suite(
        "All convolutions of ResNet-50, batch 4 at 224×224", RESNET50, ("forward", *GRADIENTS)
    ),
    "unet": Suite("U-Net with 64 channels at its base, one image of 256×256", UNET),
    "fpn": Suite("A feature pyramid on ResNet-50, one image of 512×512", FPN),
    "mobilenet": Suite("MobileNetV2: depthwise and 1×1, batch 4 at 224×224", MOBILENET),
    "fcn": Suite("Fully convolutional networks: large kernels and upsampling", FCN),
    "maskrcnn": Suite("The demo's Mask R-CNN, 8 scenes of 128×128", MASKRCNN),
    "pool": Suite("Pooling, unpooling, resizing", POOL, ("forward", "input")),
    "roi": Suite(
        "Regions of interest", ROI, ("forward", "input"), ("torch", "onnxruntime", "numpy")
    ),
    "gemm": Suite("Matrix products", GEMM, against=("torch", "onnxruntime", "numpy")),
    "backward": Suite("Both gradients of the common convolutions", BACKWARD, GRADIENTS),
    "elementwise": Suite("Normalisation, activation, softmax", ELEMENTWISE, ("forward", "input")),
}
MODELS_SUITE = "models"  # whole networks: see networks.py
