"""Data of a detector training: joined data sets, their split, their scale and their classes.

Shapes: none; labelled images as everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellcount.core.blood import BLOOD, RBC
from cellcount.core.records import CellClass, LabelledImage
from cellcount.datasets.annotated import (
    DEFAULT_SHARES,
    AnnotatedSet,
    has_slides,
    random_split,
    slide_split,
)
from cellcount.datasets.pixels import read_pixels, red_cell_diameter_px, scale_factors
from cellcount.errors import AnnotationError, ImageError
from cellcount.training.augment import ColourSettings
from cellcount.training.detector.fields import AugmentSettings
from cellcount.training.detector.settings import DetectorTraining

#: Stains of any colour: red cells may be grey, green or nearly as dark as nuclei.
_WIDE_COLOUR = ColourSettings(
    stain=0.12, strange=0.2, strength=0.3, grey=0.15, sharpen=0.15, fringe=0.2
)
_VARIED_COLOUR = replace(_WIDE_COLOUR, stain=0.10, strange=0.04, grey=0.06)
#: Red cells for which ``blur_px`` of the colour settings is meant.
_BLUR_RBC_PX = 80.0
#: Shares of images with a heap of red cells, of images with pale red cells, and of crops without
#: white cells, with ``wide``.
_HEAPS, _PALE_RED, _NO_WHITE = 0.3, 0.3, 0.3
_MILD_COLOUR = ColourSettings(
    cast=0.1,
    stain=0.03,
    hue=0.02,
    saturation=0.15,
    contrast=0.15,
    glare=0.1,
    gamma=0.12,
    light=0.1,
    blur=0.1,
    jpeg=0.1,
    noise=0.1,
)


@dataclass(frozen=True, eq=False, slots=True)
class TrainingData:
    """Images that a detector learns from, and that choose its checkpoint.

    Attributes:
        train, val: labelled images.
        classes: class ids in label order.
        sources: one entry per data set, for the card.
        settle_on: how many of ``train``, from the first, the settling epochs use.
        divided: all images, each in its split.
        made: how the split was made, where the data had none; else "".
    """

    train: tuple[LabelledImage, ...]
    val: tuple[LabelledImage, ...]
    classes: tuple[str, ...]
    sources: tuple[dict[str, Any], ...]
    settle_on: int
    divided: tuple[LabelledImage, ...] = ()
    made: str = ""


def cell_classes(ids: Sequence[str]) -> tuple[CellClass, ...]:
    """Classes with full names; ids without one are their own name."""
    return tuple(
        CellClass(i, BLOOD[i].name, BLOOD[i].plural)
        if i in BLOOD
        else CellClass(i, i, f"{i} cells")
        for i in ids
    )


def prepare(
    annotated: Sequence[AnnotatedSet],
    settings: DetectorTraining,
    names: Sequence[str],
    report: Callable[[str], None],
) -> TrainingData:
    """Joins data sets and divides them into train and val.

    ``given`` uses the sets' own train and val splits; images without a split go to train. Where
    there is nothing to validate on, a split is made by seed: 64/16/20, by slide where folders are
    slides, or, beside test images, 80/20 of the others. Test images are never touched. ``90/10``
    draws the shares by seed; ``all`` learns from val too. Images that cannot be decoded are
    reported and left out.

    Args:
        annotated: the data sets.
        settings: name the split and the seed.
        names: what the card calls each data set.
        report: takes one line per image left out.

    Raises:
        AnnotationError: nothing to train on, or nothing to validate on.
    """
    learn_all = settings.split == "all"
    annotated, made = _divided(annotated, settings)
    train, val, sources = [], [], []
    settled: list[int] = []
    for name, source in zip(names, annotated, strict=True):
        parts = {
            split: _decodable([i for i in source.images if i.split in wanted], report)
            for split, wanted in _wanted_splits(learn_all=learn_all).items()
        }
        train += parts["train"]
        val += parts["val"]
        settled.append(len(parts["train"]))
        counts = {split: len(images) for split, images in parts.items()}
        sources.append({"name": name, "format": source.format, **counts})
    if not train or not (val or learn_all):
        raise AnnotationError(
            f"{len(train)} training and {len(val)} validation images; both are needed. Give data "
            "with splits, or let cellcount divide it: --split 64/16/20"
        )
    classes = tuple(dict.fromkeys(c for a in annotated for c in a.classes))
    settle_on = sum(settled[: settings.settle_sets or None])
    learned = {"": "train", "val": "train"} if learn_all else {"": "train"}
    divided = tuple(
        dataclasses.replace(i, split=learned.get(i.split, i.split))
        for source in annotated
        for i in source.images
    )
    return TrainingData(tuple(train), tuple(val), classes, tuple(sources), settle_on, divided, made)


def _divided(
    annotated: Sequence[AnnotatedSet], settings: DetectorTraining
) -> tuple[Sequence[AnnotatedSet], str]:
    """The sets in splits, and how these were made where the data had nothing to validate on."""
    seed = settings.seed
    if settings.split == "all":
        return annotated, ""
    if settings.split != "given":
        return [random_split(a, settings.split_shares(), seed) for a in annotated], ""
    present = {split for source in annotated for split in source.splits()}
    if "val" in present:
        return annotated, ""
    if "test" in present:
        shares = {"train": 0.8, "val": 0.2}
        made = f"80/20 of the images that are not of test, at random (seed {seed})"
        return [random_split(a, shares, seed) for a in annotated], made
    divided = [
        (slide_split if has_slides(a) else random_split)(a, DEFAULT_SHARES, seed) for a in annotated
    ]
    how = "whole folders together, as slides" if any(map(has_slides, annotated)) else "by image"
    return divided, f"64/16/20 at random (seed {seed}), {how}"


def _wanted_splits(*, learn_all: bool) -> dict[str, tuple[str, ...]]:
    """Return those of the data's own splits that make up train and val."""
    if learn_all:
        return {"train": ("train", "", "val"), "val": ()}
    return {"train": ("train", ""), "val": ("val",)}


def _decodable(
    images: Sequence[LabelledImage], report: Callable[[str], None]
) -> list[LabelledImage]:
    """Leave out images that cannot be decoded, since one of them would stop the training."""
    kept = []
    for image in images:
        try:
            read_pixels(image)
        except ImageError as error:
            report(f"warning: {image.path} left out: {error}")
        else:
            kept.append(image)
    return kept


def field_factors(images: Sequence[LabelledImage], settings: DetectorTraining) -> list[float]:
    """Factor per image to the model's scale.

    Raises:
        AnnotationError: no image shows red cells and no diameter is given.
    """
    if settings.resize == "long-edge":
        return [settings.size_px / max(i.width_px, i.height_px) for i in images]
    return scale_factors(
        images,
        scale_class=RBC,
        target_px=settings.rbc_diameter_px,
        given_px=settings.rbc_px,
    )


def model_diameter_px(data: TrainingData, settings: DetectorTraining) -> float:
    """Red-cell diameter at the model's scale, which the card states for resizing fields.

    With ``long-edge`` no diameter is aimed at, so the median of the training images is measured.
    """
    if settings.resize == "rbc":
        return settings.rbc_diameter_px
    measured: list[float] = []
    for image, factor in zip(data.train, field_factors(data.train, settings), strict=True):
        diameter = settings.rbc_px or red_cell_diameter_px(image, RBC)
        if diameter is not None:
            measured.append(diameter * factor)
    if not measured:
        return settings.rbc_diameter_px
    return round(float(np.clip(np.median(measured), 8, 512)), 1)


def augment_settings(settings: DetectorTraining) -> AugmentSettings:
    """Augmentation of a training: everything, a little of it, or flips and turns alone."""
    if settings.augment == "flips":
        return AugmentSettings(
            size_px=settings.size_px,
            scale_range=(1.0, 1.0),
            scale_core=(1.0, 1.0),
            mosaic=0.0,
            shear_share=0.0,
            aspect=0.0,
            colour=None,
        )
    if settings.augment == "mild":
        return AugmentSettings(
            size_px=settings.size_px,
            scale_range=(0.8, 1.25),
            scale_core=(0.9, 1.1),
            mosaic=0.2,
            shear_share=0.0,
            colour=_MILD_COLOUR,
        )
    full = AugmentSettings(
        size_px=settings.size_px,
        small_copies=settings.small_copies,
        plain_cells=settings.plain_cells,
    )
    if settings.augment == "full":
        return full
    blur_px = _WIDE_COLOUR.blur_px * settings.rbc_diameter_px / _BLUR_RBC_PX
    colour = _VARIED_COLOUR if settings.augment == "varied" else _WIDE_COLOUR
    colour = replace(colour, blur_px=blur_px)
    return replace(full, colour=colour, heaps=_HEAPS, pale_red=_PALE_RED, no_white=_NO_WHITE)
