"""An encoder from ImageNet, where its public weights are on this machine already.

They are half a gigabyte, so the study does not fetch them: ``models.create("vgg11", 1000,
weights="vgg11_imagenet1k_v1")`` does, once, and then the experiment is among the others.
"""

from __future__ import annotations

from cnncore import io
from cnncore.errors import MissingDependencyError
from cnncore.io.weights import CHECKPOINTS, cache_folder
from cnncore.models.segmentation import TernausNet
from cnncore.nn import init
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.segmentation.training import TRAINING, train_and_score

WEIGHTS = "vgg11_imagenet1k_v1"
COUNTS = (8, 32)


def present() -> bool:
    """Whether the weights are in the cache."""
    try:
        return (cache_folder() / CHECKPOINTS[WEIGHTS].url.rsplit("/", 1)[1]).is_file()
    except MissingDependencyError:
        return False


def _run(settings: Settings, seed: int) -> Measures:
    init.seed(seed)
    model = TernausNet(settings["digits"] + 1, depth=11, filters=8)
    if settings["pretrained"]:
        model.load_encoder(io.load(io.find_weights(settings["weights"])))
    return train_and_score(model, settings, seed)


def _name(pretrained: bool, count: int) -> str:
    return f"{'ImageNet' if pretrained else 'from scratch'}, {count} scenes"


IMAGENET_ENCODER = Experiment(
    name="imagenet_encoder",
    title="An encoder from ImageNet helps with little data",
    claim="TernausNet converges sooner and to a higher IoU with VGG-11's ImageNet weights than "
    "from scratch.",
    source="Iglovikov & Shvets, 2018, section 4 and figure 3",
    method="TernausNet-11 with a narrow way up, trained from few scenes.",
    measures={"mean IoU": ".3f", "boundary F1": ".3f", "parameters": ",.0f"},
    plotted=("mean IoU", "boundary F1"),
    run=_run,
    settings={**TRAINING, "steps": 60, "learning_rate": 0.0005, "weights": WEIGHTS},
    conditions={
        _name(kind, count): {"pretrained": kind, "train_scenes": count}
        for count in COUNTS
        for kind in (False, True)
    },
    expected=[Expectation("mean IoU", _name(True, count), _name(False, count)) for count in COUNTS],
)
