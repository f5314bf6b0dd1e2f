"""Faster R-CNN as first published: one map of stride 16, nine anchors a cell.

    image ─ VGG-16 … conv5_3 ─┬─ RPN: 3×3, 512 ─ 9 objectness, 9 boxes ── proposals ─┐
                              └──────────────────────────────────────────────────────┴─ RoI pooling
                                                               7×7 ─ fc6, fc7 ─ class, box a class

Trained jointly, or in four steps that alternate: ``alternating_steps``.

Letters: as ``faster_rcnn.py``.

Source: Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
Networks", 2015, figure 2, section 3; defaults of its published code for end-to-end training.
Differences: objectness is one logit an anchor (there: a softmax of two, 4,617 parameters more, the
same function); anchors that reach out of the image are used; see ``rpn.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.geometry import as_int
from cnncore.models.backbones import Body, ClassifierBody, body_at
from cnncore.models.detection.detector import checked_images
from cnncore.models.detection.fast_rcnn import FastRcnnSettings
from cnncore.models.detection.faster_rcnn import FasterRcnn, Outputs, RcnnSettings
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.roi_heads import RoiHeads, RoiSettings
from cnncore.models.detection.rpn import RegionProposalNetwork, RpnSettings
from cnncore.models.detection.truth import checked_truth
from cnncore.nn import Parameter
from cnncore.vision import (
    AnchorSettings,
    BalancedSampler,
    IouMatcher,
    LevelRule,
    ProposalSettings,
)
from cnncore.vision.boxes import Size

Rng = np.random.Generator


@dataclass(frozen=True)
class C4Settings(RcnnSettings):
    """All of it; the defaults are those of the published code with VGG-16."""

    body: Body = ClassifierBody("vgg16")
    rpn: RpnSettings = RpnSettings(
        channels=512,
        lowest_level=4,
        whole_strides=False,
        anchors=AnchorSettings(sizes=((128.0, 256.0, 512.0),), offset=0.5, rounded=False, base=16),
        train=ProposalSettings(pre_nms=12000, post_nms=2000, min_size=16.0),
        test=ProposalSettings(pre_nms=6000, post_nms=300, min_size=16.0),
    )
    roi: RoiSettings = RoiSettings(
        masks=False,
        pooling="max",
        levels=LevelRule(lowest=4, highest=4),
        box_channels=4096,
        dropout=0.5,
        matcher=IouMatcher(0.5, 0.5),
        sampler=BalancedSampler(128, 0.25),
        detections=FastRcnnSettings().roi.detections,
        smooth_l1_beta=1.0,
    )
    resize: Resize | None = Resize(min_size=600, max_size=1000, divisor=16)


class FasterRcnnC4(FasterRcnn):
    """Faster R-CNN on one map of ``settings.rpn.lowest_level``; used as ``FasterRcnn``."""

    def __init__(self, num_classes: int, settings: RcnnSettings = C4Settings()) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        self.backbone, channels = body_at(settings.body, settings.rpn.lowest_level)
        self.rpn = RegionProposalNetwork(channels, settings.rpn)
        self.roi_heads = RoiHeads(channels, num_classes, settings.roi)

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> Outputs:
        """The map, objectness and deltas of images ``(N, 3, H, W)``."""
        x, sizes = checked_images(images, image_sizes)
        features = [self.backbone(x)]
        return Outputs(features, self.rpn(features, (x.shape[2], x.shape[3])), sizes)


@dataclass(frozen=True)
class Step:
    """One of the four: what is trained, by which terms, on whose proposals."""

    name: str
    model: FasterRcnn
    parts: tuple[str, ...]  # of the model that are trained
    proposer: FasterRcnn | None = None  # None: the step trains the proposal network

    def parameters(self) -> Iterator[Parameter]:
        """Those that the step trains; all others stay as they are."""
        for part in self.parts:
            yield from getattr(self.model, part).parameters()

    def loss(
        self,
        images: Any,
        targets: Sequence[Any],
        rng: Rng,
        image_sizes: Sequence[Size] | None = None,
    ) -> dict[str, Tensor]:
        """Two of the four terms: ``objectness`` and ``rpn_box``, or ``class`` and ``box``."""
        model = self.model
        outputs = model(images, image_sizes)
        truth = checked_truth(targets, outputs.image_sizes, model.num_classes, with_masks=False)
        if self.proposer is None:
            return model.rpn.loss(outputs.rpn, [t.boxes for t in truth], rng)
        with no_grad():
            asked = outputs if self.proposer is model else self.proposer(images, image_sizes)
            settings = model.settings.rpn.train
            proposals = self.proposer.rpn.propose(asked.rpn, asked.image_sizes, settings)
        boxes = [p.boxes for p in proposals]
        return model.roi_heads.loss(model._roi_features(outputs), boxes, truth, rng)


def alternating_steps(model: FasterRcnn) -> Iterator[Step]:
    """The four steps of alternating training; train each before asking for the next.

    1. The proposal network and the body.  2. The heads and a body of their own, from the same
    start, on proposals of step 1.  3. The proposal network on the body of step 2, which stays.
    4. The heads on that body and on these proposals.  At the end ``model`` is one network.
    Each step asks for a new optimiser: ``AdamW(list(step.parameters()), …)``.
    Source: section 3.2, "4-Step Alternating Training".
    """
    start = model.backbone.state_dict()
    yield Step("1: proposals", model, ("backbone", "rpn"))
    proposer = copy.deepcopy(model).eval()
    model.backbone.load_state_dict(start)
    yield Step("2: heads", model, ("backbone", "roi_heads"), proposer)
    yield Step("3: proposals, shared body", model, ("rpn",))
    yield Step("4: heads, shared body", model, ("roi_heads",), model)


def fasterrcnn_vgg16(num_classes: int = 20, **changes: Any) -> FasterRcnnC4:
    """Faster R-CNN on VGG-16, 137.1 M parameters for VOC's 20 classes.

    ``changes`` replace fields of ``C4Settings``.
    """
    return FasterRcnnC4(num_classes, C4Settings(**changes))
