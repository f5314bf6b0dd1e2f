"""What every network for semantic segmentation offers besides its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, beside
from cnncore.errors import ArgumentError
from cnncore.nn import Module

Outputs = Tensor | Mapping[str, Tensor]  # logits, or "out" and auxiliary ones by name
Criterion = Callable[[Tensor, Any], Tensor]  # (logits, truth) -> a scalar

MAIN = "out"  # the name of the logits that are the answer


class Segmenter(Module):
    """Images ``(N, C, H, W)`` to logits ``(N, K, H, W)``, background counted among the K classes.

    ``model(images)`` -> logits, or a dict of them where a network has auxiliary heads;
    ``model.loss(outputs, targets)`` -> named terms; ``model.decode(outputs)`` -> label maps.  All
    three do the same in training and in evaluation.
    """

    num_classes: int
    # What an auxiliary head's loss counts: torchvision's reference training, section "losses".
    auxiliary_weight: float = 0.5

    @property
    def margin(self) -> int:
        """Pixels that the logits lack on every side of the images."""
        return 0

    def loss(
        self,
        outputs: Outputs,
        targets: Sequence[Any],
        rng: np.random.Generator | None = None,
        *,
        class_weights: Any = None,
        ignore_index: int = -100,
        criterion: Criterion | None = None,
    ) -> dict[str, Tensor]:
        """Cross-entropy with each pixel's class: the mean, weighted by ``class_weights (K,)``.

        ``targets`` have ``semantic`` maps ``(H, W)`` of integers (``data.Sample``, say), or are
        such maps; logits of another resolution are resized bilinearly.  Pixels of
        ``ignore_index`` do not count.  ``criterion(logits, truth)`` replaces the cross-entropy.
        Auxiliary outputs give a term each, times ``auxiliary_weight``.  ``rng`` is not used.
        """
        heads = outputs if isinstance(outputs, Mapping) else {MAIN: outputs}
        logits = heads[MAIN]
        maps = [getattr(target, "semantic", target) for target in targets]
        if len(maps) != logits.shape[0]:
            raise ArgumentError("targets", f"one an image, {logits.shape[0]}", len(maps))
        truth = np.stack(maps) if maps else np.zeros((0, *logits.shape[2:]), np.int64)
        labels = beside(logits, truth).data
        if class_weights is not None:
            class_weights = beside(logits, np.asarray(class_weights, logits.dtype))

        def entropy(x: Tensor, truth: Any) -> Tensor:
            return ops.cross_entropy(x, truth, class_weights, ignore_index)

        name = "cross_entropy" if criterion is None else "loss"
        measure = criterion or entropy
        terms = {}
        for head, x in heads.items():
            term = measure(resized(x, truth.shape[1:]), labels)
            if head == MAIN:
                terms[name] = term
            else:
                terms[f"{head}_{name}"] = term * self.auxiliary_weight
        return terms

    def decode(self, outputs: Outputs, size: tuple[int, int] | None = None) -> list[Any]:
        """The likeliest class of every pixel, one ``(H, W)`` int64 array an image.

        ``size`` asks for another resolution: logits, not labels, are resized.
        """
        return list(self.logits(outputs, size).detach().numpy().argmax(1))

    def logits(self, outputs: Outputs, size: Sequence[int] | None = None) -> Tensor:
        """The logits that are the answer ``(N, K, H, W)``, at another resolution if asked for."""
        logits = outputs[MAIN] if isinstance(outputs, Mapping) else outputs
        return resized(logits, logits.shape[2:] if size is None else size)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinearly to ``size`` (h, w), pixel centres kept; itself where that is its size."""
    if tuple(size) == x.shape[2:]:
        return x
    return ops.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def cropped(x: Tensor, top: int, left: int, size: Sequence[int]) -> Tensor:
    """``(N, C, H, W)``: the window of ``size`` (h, w) that begins at (top, left)."""
    part: Tensor = x[:, :, top : top + size[0], left : left + size[1]]
    return part


def centre_cropped(x: Tensor, size: Sequence[int]) -> Tensor:
    """The window of ``size`` (h, w) in the middle."""
    return cropped(x, (x.shape[2] - size[0]) // 2, (x.shape[3] - size[1]) // 2, size)
