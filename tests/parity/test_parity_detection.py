"""Whole detectors against torchvision's, in float64: every stage, detections, losses, gradients.

torchvision's compiled operators do not load beside a CPU build of PyTorch.  Of those that detectors
need, its own version of RoI Align in Python takes the place of one, and suppression, written here
from its definition, that of the other.  Random weights are loaded unchanged.  Both draw anchors and
regions to learn from at random; here they draw all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from reference_networks import imported, randomise, torch

from cnncore import models, no_grad
from cnncore.models.detection import RcnnSettings
from cnncore.models.detection.keypoint_rcnn import HEADS as KEYPOINT_HEADS
from cnncore.models.detection.roi_heads import Regions, RoiSettings
from cnncore.vision import BalancedSampler, Objects, ProposalSettings

CLASSES = 4  # real ones
ROUNDED = 5e-7  # anchors, true boxes and keypoints are float32 in one of the two
EVERYTHING = 10**6  # more than there are anchors: sampling takes all
RCNNS = {
    "fasterrcnn_resnet50_fpn": RoiSettings(masks=False),
    "maskrcnn_resnet50_fpn": RoiSettings(),
    "keypointrcnn_resnet50_fpn": KEYPOINT_HEADS,
}
NAMES = [*RCNNS, "retinanet_resnet50_fpn", "ssd300_vgg16"]
TERMS = {  # torchvision's names of the losses, where they are not ours with a prefix
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "rpn_box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "classification": "class",
    "bbox_regression": "box",
}


def suppress(boxes, scores, threshold):
    """Greedy non-maximum suppression from its definition: keep the best, drop what overlaps it."""
    left, top, right, bottom = boxes.detach().numpy().T
    area, kept = (right - left) * (bottom - top), []
    for i in np.argsort(-scores.detach().numpy(), kind="stable"):
        for j in kept:
            width = min(right[i], right[j]) - max(left[i], left[j])
            height = min(bottom[i], bottom[j]) - max(top[i], top[j])
            common = max(width, 0) * max(height, 0)
            if common > threshold * (area[i] + area[j] - common):
                break
        else:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


@pytest.fixture(autouse=True)
def operators(monkeypatch):
    """What torchvision's detectors call, without its compiled operators."""
    if imported("torchvision.models.detection") is None:
        pytest.skip("torchvision is not installed")
    plain = imported("torchvision.ops.roi_align")._roi_align.__wrapped__

    def roi_align(x, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False):
        if isinstance(boxes, list):
            numbered = [torch.full((len(b), 1), i, dtype=b.dtype) for i, b in enumerate(boxes)]
            boxes = torch.cat([torch.cat(numbered), torch.cat(boxes)], 1)
        size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        return plain(x, boxes, spatial_scale, *size, sampling_ratio, aligned)

    monkeypatch.setattr(imported("torchvision.ops.boxes"), "nms", suppress)
    monkeypatch.setattr(imported("torchvision.ops.poolers"), "roi_align", roi_align)
    heads = imported("torchvision.models.detection.roi_heads")
    monkeypatch.setattr(heads, "roi_align", roi_align)


# --- two networks, the same weights ---------------------------------------------------------------


def reference(name):
    """torchvision's network for ``CLASSES`` and background; its body as with public weights."""
    if name == "ssd300_vgg16":
        build = imported("torchvision.models.detection").ssd300_vgg16
        return build(weights=None, weights_backbone=None, num_classes=CLASSES + 1)
    utilities = imported("torchvision.models.detection.backbone_utils")
    frozen = imported("torchvision.ops.misc").FrozenBatchNorm2d
    body = imported("torchvision.models").resnet50(weights=None, norm_layer=frozen)
    detection = imported("torchvision.models.detection")
    settings = {"min_size": 96, "max_size": 999, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    if name == "retinanet_resnet50_fpn":
        extra = imported("torchvision.ops.feature_pyramid_network").LastLevelP6P7(256, 256)
        backbone = utilities._resnet_fpn_extractor(body, 5, [2, 3, 4], extra)
        return exact(detection.RetinaNet(backbone, CLASSES + 1, **settings))
    build = {
        "fasterrcnn_resnet50_fpn": detection.FasterRCNN,
        "maskrcnn_resnet50_fpn": detection.MaskRCNN,
        "keypointrcnn_resnet50_fpn": detection.KeypointRCNN,
    }[name]
    few = {"rpn_post_nms_top_n_train": 60, "rpn_post_nms_top_n_test": 40}
    backbone = utilities._resnet_fpn_extractor(body, 5)
    model = build(backbone, CLASSES + 1, **settings, **few)
    for sampler in (model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler):
        sampler.batch_size_per_image = EVERYTHING
    return exact(model)


def exact(model):
    """Frozen norms without an eps, with statistics of their own."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if type(module).__name__ == "FrozenBatchNorm2d":
            module.eps = 0.0
            for tensor, low, high in (
                (module.weight, 0.3, 0.6),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.6, 1.4),
            ):
                tensor.uniform_(low, high, generator=generator)
    return model


def ours_of(name):
    if name not in RCNNS:
        return models.create(name, num_classes=CLASSES, resize=None)
    rpn, roi = RcnnSettings().rpn, RCNNS[name]
    rpn = replace(
        rpn,
        sampler=BalancedSampler(EVERYTHING, 0.5),
        train=ProposalSettings(pre_nms=2000, post_nms=60),
        test=ProposalSettings(pre_nms=1000, post_nms=40),
    )
    roi = replace(roi, sampler=BalancedSampler(EVERYTHING, 0.25))
    return models.create(name, num_classes=CLASSES, resize=None, rpn=rpn, roi=roi)


@dataclass
class Pair:
    """A case: both networks, a padded batch of two pictures, the truth in ours and their terms."""

    ours: Any
    theirs: Any
    images: Any  # (2, 3, H, W) with zeros where a picture is smaller
    sizes: list[tuple[int, int]]
    truth: list[Objects]

    @property
    def pictures(self):
        cut = zip(self.images, self.sizes, strict=True)
        return [torch.tensor(x[:, :h, :w].copy()) for x, (h, w) in cut]

    @property
    def targets(self):
        found = []
        for objects in self.truth:
            target = {
                "boxes": torch.tensor(objects.boxes),
                "labels": torch.tensor(objects.labels) + 1,
                "masks": torch.tensor(objects.masks.astype(np.uint8)),
                "keypoints": torch.tensor(objects.keypoints.astype(np.float32)),
            }
            found.append(target)
        return found

    def outputs(self):
        return self.ours(self.images, self.sizes)


@pytest.fixture(params=NAMES)
def pair(request):
    torch.manual_seed(0)
    theirs = randomise(reference(request.param)).double()
    widen(theirs)
    ours = ours_of(request.param).to("float64")
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    rng = np.random.default_rng(5)
    H, W = (300, 300) if request.param == "ssd300_vgg16" else (96, 128)
    sizes = [(H, W), (H, W if H == W else W - 27)]
    images = np.zeros((2, 3, H, W))
    for image, (h, w) in zip(images, sizes, strict=True):
        image[:, :h, :w] = rng.normal(size=(3, h, w))
    if request.param == "ssd300_vgg16":  # its transform subtracts a mean
        theirs.transform.image_mean, theirs.transform.image_std = [0, 0, 0], [1, 1, 1]
    return Pair(ours, theirs, images, sizes, [objects_in(rng, size) for size in sizes])


def widen(model):
    """Last layers begin so small that all scores are alike; larger, they tell boxes apart."""
    for key, parameter in model.named_parameters():
        if key.endswith(".weight") and ("cls_" in key or "predictor" in key):
            parameter.data.mul_(30 if parameter.ndim == 2 else 5)
        elif key.startswith("head.classification_head.conv") and parameter.ndim == 4:
            parameter.data.mul_(3)
        elif key == "head.classification_head.cls_logits.bias":
            parameter.data[:: CLASSES + 1] = -50  # never background, which ours leaves out


def objects_in(rng, size):
    """Three objects with masks and keypoints, the last of these not labelled."""
    h, w = size
    corners = rng.uniform(0, 0.6, (3, 2)) * (w, h)
    boxes = np.concatenate([corners, corners + rng.uniform(0.15, 0.4, (3, 2)) * (w, h)], 1)
    boxes = np.minimum(boxes, [w, h, w, h])
    masks = rng.random((3, h, w)) < 0.5
    places = boxes[:, None, :2] + rng.random((3, 17, 2)) * (boxes[:, 2:] - boxes[:, :2])[:, None]
    seen = np.ones((3, 17, 1))
    seen[:, -1] = 0
    keypoints = np.concatenate([places, seen], 2).astype(np.float32)  # as torchvision asks for
    return Objects(boxes, rng.integers(0, CLASSES, 3), masks, None, keypoints)


def close(found, expected, what, tolerance=1e-8):
    """``tolerance`` is ``ROUNDED`` where one of the two rounds to float32 on the way."""
    found = found.numpy() if hasattr(found, "numpy") else found
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    assert found.shape == expected.shape, what
    if found.size:
        error = np.abs(found - expected).max()
        assert error <= tolerance * max(1.0, np.abs(expected).max()), (what, error)


# --- the tests ------------------------------------------------------------------------------------


def test_detections_agree(pair):
    """End to end: the same boxes, classes, scores and keypoints in the same order."""
    with torch.no_grad():
        expected = pair.theirs.eval()(pair.pictures)
    with no_grad():
        found = pair.ours.eval().decode(pair.outputs())
    assert sum(len(e["boxes"]) for e in expected) > 10
    for image, (e, f) in enumerate(zip(expected, found, strict=True)):
        # torchvision's RetinaNet keeps boxes of padding, which have no area once they are cut.
        area = (e["boxes"][:, 2:] - e["boxes"][:, :2]).prod(1)
        e = {key: value[area > 0] for key, value in e.items()}
        close(f.scores, e["scores"], f"scores of image {image}")
        close(f.boxes, e["boxes"], f"boxes of image {image}", ROUNDED)
        np.testing.assert_array_equal(f.labels, e["labels"].numpy() - 1)
        if "keypoints" in e:
            places = e["keypoints"][..., :2]
            close(f.keypoints[..., :2], places, f"keypoints of image {image}", ROUNDED)


def test_losses_and_gradients_agree(pair):
    """Every term, and the gradient of their sum by every parameter."""
    expected = pair.theirs.train()(pair.pictures, pair.targets)
    outputs = pair.ours.train() and pair.outputs()
    rng = (np.random.default_rng(0),) if hasattr(pair.ours, "roi_heads") else ()
    found = pair.ours.loss(outputs, pair.truth, *rng)
    for key, value in expected.items():
        name = TERMS.get(key, key.removeprefix("loss_"))
        assert float(value) > 1e-6, key
        close(np.asarray(float(found.pop(name).data)), value, key, ROUNDED)
    assert not found
    sum(expected.values()).backward()
    total = None
    for term in pair.ours.loss(outputs, pair.truth, *rng).values():
        total = term if total is None else total + term
    total.backward()
    theirs = {k: p.grad for k, p in pair.theirs.named_parameters() if p.grad is not None}
    ours = {k: p.grad for k, p in pair.ours.named_parameters() if p.grad is not None}
    assert ours.keys() == theirs.keys()
    largest = max(float(g.abs().max()) for g in theirs.values())
    for key, gradient in theirs.items():
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert np.abs(ours[key].numpy() - gradient.numpy()).max() < 20 * ROUNDED * scale, key


@pytest.mark.parametrize("name", RCNNS)
def test_every_stage_of_two_agrees(name):
    """Maps, anchors' outputs, proposals; then heads on proposals that are given."""
    torch.manual_seed(0)
    theirs = randomise(reference(name)).double().eval()
    widen(theirs)
    ours = ours_of(name).to("float64").eval()
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(6).normal(size=(1, 3, 96, 128))
    listed = imported("torchvision.models.detection.image_list").ImageList(
        torch.tensor(x), [(96, 128)]
    )
    with torch.no_grad(), no_grad():
        maps, outputs = theirs.backbone(listed.tensors), ours(x)
        for level, (f, e) in enumerate(zip(outputs.features, maps.values(), strict=True)):
            close(f, e, f"level {level}")
        anchors = theirs.rpn.anchor_generator(listed, list(maps.values()))[0]
        close(outputs.rpn.all_anchors, anchors, "anchors", ROUNDED)
        proposals = theirs.rpn(listed, maps)[0]
        proposed = ours.rpn.propose(outputs.rpn, outputs.image_sizes, ours.settings.rpn.test)
        close(proposed[0].boxes, proposals[0], "proposals")
        given = proposals[0].numpy()
        regions, order = Regions.group([given], ours.settings.roi.levels)
        features = outputs.features[:4]
        pooled = theirs.roi_heads.box_roi_pool(maps, proposals, [(96, 128)])
        logits, deltas = theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(pooled))
        found, shifts = ours.roi_heads.boxes(features, regions)
        close(found, logits[order], "class logits")
        close(shifts.reshape(deltas.shape), deltas[order], "deltas")
        if name == "maskrcnn_resnet50_fpn":
            labels = np.random.default_rng(7).integers(1, CLASSES + 1, len(given))
            heads = theirs.roi_heads
            grids = heads.mask_predictor(
                heads.mask_head(heads.mask_roi_pool(maps, proposals, [(96, 128)]))
            )
            expected = grids[torch.arange(len(given)), torch.tensor(labels)]
            masks = ours.roi_heads.masks(features, regions, labels[order])
            close(masks, expected[order], "masks")
        if name == "keypointrcnn_resnet50_fpn":
            heads = theirs.roi_heads
            heat = heads.keypoint_predictor(
                heads.keypoint_head(heads.keypoint_roi_pool(maps, proposals, [(96, 128)]))
            )
            close(ours.roi_heads.keypoints(features, regions), heat[order], "heat maps")


def test_suppression_here_is_that_of_the_definition():
    """Three boxes: the second overlaps the first by half, the third neither."""
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 12, 12]])
    scores = torch.tensor([0.5, 0.9, 0.1])
    assert suppress(boxes, scores, 0.4).tolist() == [1, 2]
    assert suppress(boxes, scores, 0.6).tolist() == [1, 0, 2]
