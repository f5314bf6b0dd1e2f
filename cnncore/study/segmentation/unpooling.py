"""Ways to undo a pooling in one network: SegNet's switches, and what else there is."""

from __future__ import annotations

from cnncore.models.segmentation import UPSAMPLINGS, SegNet
from cnncore.nn import init
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.segmentation.training import TRAINING, train_and_score

WORDS = {"bed_of_nails": "bed of nails"}


def _segnet(settings: Settings, seed: int) -> Measures:
    init.seed(seed)
    model = SegNet(
        settings["digits"] + 1,
        widths=(8, 16, 32),
        depths=(2, 2, 2),
        upsampling=settings["upsampling"],
    )
    return train_and_score(model, settings, seed)


UNPOOLING = Experiment(
    name="unpooling",
    title="Switches help: SegNet's unpooling against other ways up",
    claim="Putting values back where the maxima were keeps boundaries, which unpooling to a fixed "
    "corner or to all four pixels loses; without a single parameter.",
    source="Badrinarayanan, Kendall & Cipolla, 2017, section 3 and table 1; Zeiler, Taylor & "
    "Fergus, 2011",
    method="SegNet with three poolings, the way up chosen. All but the transposed convolution have "
    "equal parameters.",
    measures={"mean IoU": ".3f", "boundary F1": ".3f", "parameters": ",.0f"},
    plotted=("mean IoU", "boundary F1"),
    run=_segnet,
    settings={
        **TRAINING,
        "size": 48,
        "digit_pixels": (16, 24),
        "digits": 2,
        "steps": 300,
        "learning_rate": 0.02,
    },
    conditions={WORDS.get(kind, kind): {"upsampling": kind} for kind in UPSAMPLINGS},
    expected=[
        Expectation(measure, "switches", worse)
        for measure in ("mean IoU", "boundary F1")
        for worse in ("bed of nails", "nearest")
    ],
)
