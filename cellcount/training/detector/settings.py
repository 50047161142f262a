"""Settings of detector trainings, and recipes: settings by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from cellcount.errors import UsageError
from cellcount.models.json_types import misfits
from cellcount.training.settings import build_settings

#: Strengths of augmentation of models for any laboratory, which see fields in white balance.
ANY_LABORATORY = ("full", "wide", "varied")


@dataclass(frozen=True, slots=True)
class DetectorTraining:
    """Settings that decide the outcome of a detector training.

    Attributes:
        name: of the exported model.
        init: packaged model, weight file or run to start from, "" for random weights; it brings
            its architecture, scale and preprocessing along.
        backbone, pyramid, pyramid_channels: architecture.
        finest_stride: finest level that regions are pooled from: 4 places small cells better, 8
            is faster. Proposals always come from strides 8, 16 and 32.
        refine_steps: looks of attention refinement at every region, 0 for none. Each region looks
            around itself: the paper's local proposal network at the peak of attention is not built,
            for it would search again, cell by cell, where the first stage has searched already.
        refine_context: places looked at: a ``window`` around the region, or the whole ``image``.
        refine_state: recurrent state, ``gru`` or ``lstm``.
        refine_attention: ``softmax``, ``literal`` (the paper's equations as printed), or ``mean``
            (a context that no query has weighed, for comparison).
        refine_hidden, refine_heads: width of the state, divided among so many attention heads.
        refine_grid, refine_enlarge: places along each side of the window, and that side over the
            region's.
        refine_beta: temperature of ``literal``.
        refine_score: what the second look's score learns to be: the ``iou`` that the moved box
            has with the cell, or the probability of its ``class`` alone, as in the paper.
        refine_objective: ``supervised``, or ``actor-critic``: rewards for every step, from weights
            whose second look was supervised (``init``).
        learn: ``all``, ``heads`` (backbone and pyramid stay as they are) or ``refinement`` alone.
        frozen: parts of the backbone that keep their weights, by name and separated by spaces, like
            ``body.conv_stem body.bn1``: early pretrained layers cost most time and gain least.
        resize: ``rbc`` brings red cells to ``rbc_diameter_px``; ``long-edge`` brings the longer
            side of every image to ``size_px``, as the seed paper does.
        rbc_diameter_px: red-cell diameter at the model's scale.
        rbc_px: red-cell diameter in the data's own pixels where no red cells are labelled.
        size_px: side of the training crops.
        epochs, batch_size, iterations: length; ``iterations`` > 0 overrides ``epochs``.
        optimizer, lr, weight_decay, momentum: adamw or sgd.
        schedule: cosine (to 1 % of lr), onecycle, or step (÷10 at 2/3 and 8/9).
        warmup: share of all iterations with rising learning rate.
        clip_norm: largest gradient norm, 0 for none.
        ema_decay: of the averaged weights that are evaluated and exported, 0 for none.
        augment: full (any laboratory), wide (the same with stains of any colour, hard outlines,
            colour fringes, many crops without white cells, and, once images are hard, heaps of red
            cells and red cells as pale as the glass), varied (the same with stains as laboratories
            have them), mild (images like the training images), or
            flips alone.
        red_cell_hue: bring the hue of red cells of every field to that of a reference, with
            ``augment`` full, wide or varied.
        harden: share of the epochs after which focus and light get worse, with ``augment`` full,
            wide or varied; 1 for never. White cells are changed from then on, too:
        small_copies: mean number of white cells that are copied, smaller, within their image;
        plain_cells: share of the images whose white cells become paler and lose their texture, as
            a poor lens shows them.
        settle: share of the last epochs that are nearer to real fields: no mosaics, little scale
            jitter, half of the crops in their own colours.
        settle_sets: how many of the data sets, from the first, those epochs use; 0 for all. Put
            sets whose boxes are drawn by another convention, like rendered ones, behind them.
        precision: fp32 or bf16 (autocast).
        seed: of everything random.
        validate_every: epochs between validations; the last tenth is validated every epoch.
        min_score: score from which cells are counted, for all classes; none chooses one per class
            on the validation images.
        split: ``given`` (the data's own; where it has none, 64/16/20 by seed), shares of train, val
            and test like ``64/16/20``, of train and val like ``90/10``, or ``all`` (train and val
            are both learned from, nothing is validated, the last weights are kept).
    """

    name: str = "detector"
    init: str = ""
    backbone: str = "timm/cs3darknet_s"
    pyramid: str = "fpn"
    pyramid_channels: int = 96
    finest_stride: Literal[4, 8] = 8
    refine_steps: int = 0
    refine_context: Literal["window", "image"] = "window"
    refine_state: Literal["gru", "lstm"] = "gru"
    refine_attention: Literal["softmax", "literal", "mean"] = "softmax"
    refine_hidden: int = 128
    refine_heads: int = 8
    refine_grid: int = 9
    refine_enlarge: float = 1.5
    refine_beta: float = 1.0
    refine_score: Literal["iou", "class"] = "iou"
    refine_objective: Literal["supervised", "actor-critic"] = "supervised"
    learn: Literal["all", "heads", "refinement"] = "all"
    frozen: str = ""
    resize: Literal["rbc", "long-edge"] = "rbc"
    rbc_diameter_px: float = 80.0
    rbc_px: float | None = None
    size_px: int = 384
    epochs: int = 50
    iterations: int = 0
    batch_size: int = 8
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: Literal["cosine", "onecycle", "step"] = "cosine"
    warmup: float = 0.04
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    augment: Literal["full", "wide", "varied", "mild", "flips"] = "full"
    red_cell_hue: bool = False
    harden: float = 1.0
    small_copies: float = 0.3
    plain_cells: float = 0.0
    settle: float = 0.12
    settle_sets: int = 0
    precision: Literal["fp32", "bf16"] = "bf16"
    seed: int = 0
    validate_every: int = 5
    min_score: float | None = None
    split: str = "given"

    def __post_init__(self) -> None:
        if wrong := misfits(DetectorTraining, dataclasses.asdict(self)):
            raise UsageError(f"training setting {'; '.join(wrong)}")
        positive = ("epochs", "batch_size", "lr", "size_px", "pyramid_channels", "validate_every")
        for key in positive:
            if getattr(self, key) <= 0:
                raise UsageError(f"{key} is {getattr(self, key)}, expected more than 0")
        if self.size_px % 32:
            raise UsageError(f"size_px is {self.size_px}, expected a multiple of 32")
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"ema_decay is {self.ema_decay}, expected 0 to below 1")
        if not 8 <= self.rbc_diameter_px <= 512:
            raise UsageError(f"rbc_diameter_px is {self.rbc_diameter_px}, expected 8 to 512")
        if self.refine_steps < 0:
            raise UsageError(f"refine_steps is {self.refine_steps}, expected 0 or more")
        if not self.refine_steps and (
            self.refine_objective == "actor-critic" or self.learn == "refinement"
        ):
            raise UsageError(
                "refine_steps is 0, so there is no second look to train; set refine_steps=2, or "
                "leave refine_objective and learn as they are"
            )
        if self.refine_objective == "actor-critic" and not self.init:
            raise UsageError(
                "refine_objective is actor-critic, which improves a second look that supervision "
                "has taught; name such a model with init, or leave refine_objective as it is"
            )
        if self.red_cell_hue and self.augment not in ANY_LABORATORY and not self.init:
            raise UsageError(
                f"red_cell_hue is true with augment {self.augment!r}, which leaves colours as they "
                f"are; use augment {' or '.join(ANY_LABORATORY)}, or leave red_cell_hue"
            )
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise UsageError(f"min_score is {self.min_score}, expected none or 0 to 1")
        if self.split not in ("given", "all"):
            self.split_shares()

    def split_shares(self) -> dict[str, float]:
        """Shares of train and val, and of test where it has one, adding up to 1."""
        try:
            parts = [float(part) for part in self.split.split("/")]
        except ValueError:
            parts = []
        if len(parts) not in (2, 3) or not min(parts) > 0:
            raise UsageError(
                f"split is {self.split!r}, expected given, all, or shares like 90/10 or 64/16/20"
            )
        names = ("train", "val", "test")
        return {name: part / sum(parts) for name, part in zip(names, parts, strict=False)}


#: What both parts of the training of the packaged detector share.
_AT_48_PX: dict[str, Any] = {
    "frozen": "body.conv_stem body.bn1 body.blocks.0 body.blocks.1",
    "rbc_diameter_px": 48.0,
    "size_px": 224,
    "augment": "wide",
    "precision": "fp32",
    "settle_sets": 1,
}

#: Named presets over the defaults above.
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    # The packaged blood model, see cellcount/weights/README.md: starts from ImageNet's weights and
    # learns stains and smears unlike those of its data.
    "blood": {
        "name": "blood",
        "backbone": "timm/tf_efficientnet_lite0",
        "finest_stride": 4,
        "pyramid_channels": 64,
        **_AT_48_PX,
        "epochs": 26,
        "lr": 6e-4,
        "validate_every": 6,
        "harden": 0.35,
        "settle": 0.2,
    },
    # The second part of its training, with more laboratories' cells: hard light, and many small or
    # plain white cells throughout.
    "blood-hard": {
        "name": "blood",
        **_AT_48_PX,
        "augment": "varied",
        "epochs": 6,
        "lr": 3e-4,
        "warmup": 0.1,
        "validate_every": 5,
        "harden": 0.0,
        "small_copies": 1.0,
        "plain_cells": 0.5,
        "settle": 0.3,
    },
    # The packaged marrow model goes on from the blood model with composed fields, and with labelled
    # blood fields behind them, so that it does not forget other laboratories' stains.
    "marrow": {
        "name": "marrow",
        "init": "blood",
        **_AT_48_PX,
        "epochs": 8,
        "lr": 3e-4,
        "warmup": 0.1,
        "validate_every": 4,
        "harden": 0.3,
        "plain_cells": 0.2,
        "settle": 0.25,
    },
    # For comparison with published figures: the packaged model goes on with BCCD's train and val
    # images, with settings chosen on val before. Its labels miss half of the red cells.
    "bccd": {
        "name": "bccd",
        "init": "blood",
        "rbc_diameter_px": 48.0,
        "size_px": 224,
        "augment": "mild",
        "epochs": 12,
        "precision": "fp32",
        "lr": 3e-4,
        "warmup": 0.1,
        "ema_decay": 0.99,
        "settle": 0.25,
        "split": "all",
    },
    # Wang et al. 2021, BMC Bioinformatics 22:94: ResNet-50 with an FPN over C2 to C5, SGD, 2 images
    # x 30,000 iterations, 90/10 split, flips, long edge 800, score above 0.7 after suppression
    # class by class. Rate, decay and steps are not in the paper; these are Detectron2's defaults
    # for that schedule. The table's other rows: pyramid=none is its Faster R-CNN; its improved
    # model is pyramid=bottom-up, refine_steps=3, refine_context=image, refine_state=lstm and
    # refine_heads=1.
    "seed-004": {
        "name": "seed-004",
        "backbone": "timm/resnet50",
        "finest_stride": 4,
        "pyramid_channels": 256,
        "resize": "long-edge",
        "size_px": 800,
        "iterations": 30_000,
        "batch_size": 2,
        "optimizer": "sgd",
        "lr": 0.0025,
        "weight_decay": 1e-4,
        "schedule": "step",
        "warmup": 0.03,
        "clip_norm": 0.0,
        "ema_decay": 0.0,
        "augment": "flips",
        "settle": 0.0,
        "precision": "fp32",
        "min_score": 0.7,
        "split": "90/10",
    },
}


#: Defaults of a training that starts from another model: slow enough that it keeps what it knows.
FROM_A_MODEL: dict[str, Any] = {"lr": 3e-4, "warmup": 0.1, "ema_decay": 0.99}


def from_recipe(recipe: str, overrides: dict[str, Any]) -> DetectorTraining:
    """Settings of a detector's recipe, with single values replaced.

    Raises:
        UsageError: unknown recipe or key, with the nearest known name.
    """
    start = FROM_A_MODEL if recipe == "default" and overrides.get("init") else {}
    return build_settings(DetectorTraining, RECIPES, recipe, {**start, **overrides})
