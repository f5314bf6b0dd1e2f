"""Every full-size network does one step on an image of the reference's size: up to 20 s each.

Counts and shapes without computing are in ``test_segmentation_tables.py``; here numbers go through.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_segmentation_tables import TABLE

from cnncore import models
from cnncore.explain import record_cost
from cnncore.nn import init
from cnncore.train.loop import total_loss

pytestmark = pytest.mark.training

# Batch norm behind a map of one pixel needs two images to have a variance.
BATCH = {"deconvnet": 2, "deeplabv3_resnet50": 2, "deeplabv3_resnet101": 2}
COUNTED = [row for row in TABLE if row[-1] is not None]


@pytest.mark.parametrize(("name", "settings", "classes", "shape", "parameters", "gmacs"), COUNTED)
def test_a_step_of_the_full_size(name, settings, classes, shape, parameters, gmacs):
    init.seed(0)
    model = models.create(name, num_classes=classes, **settings)
    assert model.num_parameters() == parameters
    for key, parameter in model.named_parameters():
        if not parameter.numpy().any() and "score" in key:  # zero scores pass no gradient on
            init.normal_(parameter, std=0.01)
    rng, batch = np.random.default_rng(0), BATCH.get(name, 1)
    x = rng.normal(size=(batch, *shape)).astype(np.float32)
    with record_cost(model, outside=False) as table:
        outputs = model(x)
    assert table.total("multiply_adds") / 1e9 / batch == pytest.approx(gmacs, abs=6e-4)
    main = outputs["out"] if isinstance(outputs, dict) else outputs
    size = tuple(side - 2 * model.margin for side in shape[1:])
    assert main.shape == (batch, classes, *size)
    loss = total_loss(model.loss(outputs, list(rng.integers(0, classes, (batch, *size)))))
    loss.backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            gradient = parameter.grad.numpy()
            assert gradient.shape == parameter.shape, key
            assert np.isfinite(gradient).all(), key
            # One class: there is nothing to choose, and nothing to learn.
            assert classes == 1 or gradient.any(), key
