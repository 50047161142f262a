"""Settings of a classifier training, and the named recipes that preset them. No heavy imports."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from cellcount.errors import UsageError
from cellcount.models.json_types import misfits
from cellcount.training.settings import build_settings


@dataclass(frozen=True, slots=True)
class ClassifierTraining:
    """Settings that decide the outcome of a classifier training.

    Attributes:
        name: of the exported model.
        init: packaged model, weight file or run of the same network to start from, "" for random
            weights; outputs of types that it did not have start at random. lr, warmup, ema_decay
            and frozen_start have other defaults then, so that it keeps what it knows.
        frozen_start: share of the network's layers, counted from its input, that keep the weights
            and statistics they start from; the last layer always learns.
        backbone: ``timm/NAME`` or the name of a plugin.
        options: keyword options of the backbone.
        scheme: ``softmax``, one network for all types; ``ovr``, one binary network per type, each
            with as many cells of its type (N with resample:N) as of all others together, spread
            evenly over them.
        input_px: side of the network's input, 0 for the network's own.
        window_rbc: side of the window about a cell in red-cell diameters; 0: the whole picture.
        rbc_px: red-cell diameter in the data's own pixels, None where it is unknown.
        contour: crop to the centre-most contour first (Chan et al., seeds/002).
        white_balance: bring the background to a fixed white first.
        fine: learn the finer labels (codes) of the data.
        taxonomy: whose types the labels are, "" to find out from the labels.
        type_map: mapping applied to the labels, like ``mll-21:lineage-5``, "" for none.
        balance: imbalanced-sampler, resample:N, class-weights or none.
        split: ``given`` (the data's own; where it has none, 64/16/20 by seed), shares like
            ``64/16/20``, or ``all`` (val is learned from, too, so nothing is reported).
        group: ``patient`` keeps the cells of a patient together in every split.
        holdout: share of train that chooses weights, temperature and threshold.
        prior: mixture of types at which probabilities are stated: uniform, or that of the
            taxonomy's kind of smear.
        accepted_accuracy: share of right labels among the accepted cells that the threshold for
            review aims at.
        epochs, batch_size, iterations: length; ``iterations`` > 0 overrides ``epochs``.
        optimizer, lr, weight_decay, momentum: adamw, adam or sgd.
        schedule: cosine (to 1 % of lr), onecycle, step (÷10 at 2/3 and 8/9) or constant.
        warmup: share of all iterations with rising learning rate.
        clip_norm: largest gradient norm, 0 for none.
        ema_decay: of the averaged weights that are evaluated and exported, 0 for none.
        label_smoothing: share of the truth that is spread over all types.
        mixup, cutmix: strength (alpha) of mixing two cells, 0 for none.
        mix_share: share of the batches that are mixed.
        augment: mild, full (any microscope, but slow to learn), seed-002, seed-003, flips or none.
        settle: share of the last epochs without mixing and with mild augmentation.
        precision: fp32 or bf16 (autocast).
        seed: of everything random.
        validate_every: epochs between validations; the last tenth is validated every epoch.
    """

    name: str = "cells"
    init: str = ""
    frozen_start: float = 0.0
    backbone: str = "timm/mobilevit_s"
    options: dict[str, Any] = field(default_factory=dict)
    scheme: Literal["softmax", "ovr"] = "softmax"
    input_px: int = 160
    window_rbc: float = 3.2
    rbc_px: float | None = None
    contour: bool = False
    white_balance: bool = True
    fine: bool = False
    taxonomy: str = ""
    type_map: str = ""
    balance: str = "imbalanced-sampler"
    split: str = "given"
    group: Literal["", "patient"] = ""
    holdout: float = 0.1
    prior: Literal["uniform", "profile"] = "uniform"
    accepted_accuracy: float = 0.98
    epochs: int = 60
    batch_size: int = 32
    iterations: int = 0
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    warmup: float = 0.06
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    label_smoothing: float = 0.1
    mixup: float = 0.2
    cutmix: float = 0.0
    mix_share: float = 0.5
    augment: Literal["full", "mild", "seed-002", "seed-003", "flips", "none"] = "mild"
    settle: float = 0.1
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    validate_every: int = 3

    def __post_init__(self) -> None:
        if self.init and self.scheme == "ovr":
            raise UsageError("init starts one network for all types; with scheme=ovr leave it out")
        if wrong := misfits(ClassifierTraining, dataclasses.asdict(self)):
            raise UsageError(f"training setting {'; '.join(wrong)}")
        for key in ("epochs", "batch_size", "lr", "validate_every"):
            if getattr(self, key) <= 0:
                raise UsageError(f"{key} is {getattr(self, key)}, expected more than 0")
        if self.frozen_start and self.scheme == "ovr":
            raise UsageError("frozen_start is for one network; with scheme=ovr leave it at 0")
        bounds = {
            "frozen_start": 1.0,
            "holdout": 0.5,
            "ema_decay": 1.0,
            "label_smoothing": 1.0,
            "settle": 1.0,
        }
        for key, limit in bounds.items():
            if not 0 <= getattr(self, key) < limit:
                raise UsageError(f"{key} is {getattr(self, key)}, expected 0 to below {limit:g}")
        if self.input_px and not 16 <= self.input_px <= 1024:
            raise UsageError(f"input_px is {self.input_px}, expected 16 to 1024, or 0")
        if not 0 <= self.window_rbc <= 50:
            raise UsageError(f"window_rbc is {self.window_rbc}, expected 0 to 50")


#: Named presets over the defaults above.
CLASSIFIER_RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    # The packaged blood types, see cellcount/weights/README.md: PBC, red cells of 70 px.
    "blood-types": {
        "name": "blood-types",
        "backbone": "timm/mobilevit_xxs",
        "input_px": 144,
        "rbc_px": 70.0,
        "taxonomy": "pbc-8",
        "augment": "full",
        # 0.98 would send an eighth of the laboratories' own cells to review, and most of others'.
        "accepted_accuracy": 0.95,
        "epochs": 80,
    },
    # The packaged marrow types: seven of MLL's, red cells of about 85 px, windows of 224 px of the
    # pictures' 250. A thousand cells: under the full augmentation at most 0.72 of the held-out
    # cells were right in 36 epochs; under the mild one 0.78 for the packaged weights.
    "marrow-types": {
        "name": "marrow-types",
        "backbone": "timm/mobilevit_xxs",
        "input_px": 144,
        "rbc_px": 85.0,
        "window_rbc": 2.635,
        "taxonomy": "mll-7",
        "augment": "mild",
        "accepted_accuracy": 0.95,
        "epochs": 80,
        "lr": 0.001,
        "validate_every": 4,
    },
    # MobileViT from scratch as in seeds/001: batch 128, 200 epochs, rate 0.001, cross-entropy,
    # ImbalancedDatasetSampler "combining data augmentation", which it does not name: flips. The
    # optimizer is not in the paper either; Adam is the usual one at that rate.
    "seed-001": {
        "name": "seed-001",
        "backbone": "timm/mobilevit_xs",
        "input_px": 256,
        "window_rbc": 0.0,
        "white_balance": False,
        "split": "64/16/20",
        "epochs": 200,
        "batch_size": 128,
        "augment": "flips",
    },
    # Five lineages, 5,000 cells each, by rotation, flips, shifts and shear (seeds/002). Rate and
    # number of epochs are not in the paper: Keras' Adam.
    "seed-002": {
        "name": "seed-002",
        "backbone": "seed002-xception",
        "input_px": 0,
        "window_rbc": 0.0,
        "white_balance": False,
        "type_map": "mll-21:lineage-5",
        "balance": "resample:5000",
        "split": "64/16/20",
        "epochs": 20,
        "batch_size": 32,
        "augment": "seed-002",
    },
    # 224 px, rotation, flips, zoom, Adam, cross-entropy (seeds/003). Rate, epochs and batch size
    # are not in the paper.
    "seed-003": {
        "name": "seed-003",
        "backbone": "seed003-resnet50",
        "input_px": 224,
        "window_rbc": 0.0,
        "white_balance": False,
        "balance": "none",
        "split": "80/20",
        "epochs": 30,
        "batch_size": 32,
        "lr": 1e-4,
        "augment": "seed-003",
    },
}
_PLAIN: dict[str, Any] = {
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0.0,
    "clip_norm": 0.0,
    "ema_decay": 0.0,
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "settle": 0.0,
}
for _name in ("seed-001", "seed-002", "seed-003"):  # what papers do unless they say otherwise
    CLASSIFIER_RECIPES[_name] = {**_PLAIN, **CLASSIFIER_RECIPES[_name]}


#: Defaults of a training that starts from another model: it keeps what it knows.
FROM_A_MODEL: dict[str, Any] = {"lr": 2e-4, "warmup": 0.1, "ema_decay": 0.99, "frozen_start": 0.5}


def classifier_recipe(recipe: str, overrides: dict[str, Any]) -> ClassifierTraining:
    """The settings of a recipe with single values replaced.

    Raises:
        UsageError: unknown recipe or key, with the nearest known name.
    """
    start = FROM_A_MODEL if recipe == "default" and overrides.get("init") else {}
    # --set augment=none arrives as None, which is a name here.
    named = {k: "none" for k in ("augment", "balance") if overrides.get(k, "") is None}
    return build_settings(
        ClassifierTraining, CLASSIFIER_RECIPES, recipe, {**start, **overrides, **named}
    )
