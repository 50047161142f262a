"""Gain of a detector if one kind of error were gone, and agreement of two people.

    python -m benchmarks.where_errors_lie TXL_PBC --detector blood
    python -m benchmarks.where_errors_lie TXL_PBC --detector blood --also BCCD

The first table puts one kind of error right at a time and evaluates again: what is gained is the
most that a better treatment of that error alone could bring. An idea after Bolya et al. 2020,
arXiv:2008.08115. The second compares the boxes of the hits with the true ones, and, with
``--also``, the boxes that the makers of another data set drew on the same images: below the scatter
of its labels no detector can be told from a perfect one. ``splits.csv`` of the first data set says
which images are the same (column ``bccd_id``).

Shapes: N detections, M true cells; boxes (N, 4) and (M, 4) xyxy in pixels.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.attention import fields_of
from benchmarks.frozen_trunk import console
from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import Detections, LabelledImage
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.classes import blood_classes
from cellcount.datasets.pixels import read_pixels
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detection import evaluate_detections
from cellcount.evaluation.detector_run import truth_of
from cellcount.evaluation.matching import Truth
from cellcount.models.weights import resolve

HIT_IOU, BACKGROUND_IOU = 0.5, 0.1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: COCO's thresholds: AP of a detector whose every detection is a hit is about the share above them.
COCO_IOUS = np.arange(0.5, 1.0, 0.05)
Change = Callable[[Truth, Detections, NDArray[np.float32]], Detections]


def _own(truth: Truth, found: Detections, overlap: NDArray[np.float32]) -> NDArray[np.float32]:
    """Overlaps (N, M) with true cells of the same class alone."""
    return np.where(found.labels[:, None] == truth.labels[None], overlap, 0).astype(np.float32)


def _boxes(truth: Truth, found: Detections, overlap: NDArray[np.float32]) -> Detections:
    own = _own(truth, found, overlap)
    hit = own.max(axis=1) >= HIT_IOU
    return replace(
        found,
        boxes_xyxy=np.where(hit[:, None], truth.boxes_xyxy[own.argmax(axis=1)], found.boxes_xyxy),
    )


def _classes(truth: Truth, found: Detections, overlap: NDArray[np.float32]) -> Detections:
    hit = overlap.max(axis=1) >= HIT_IOU
    return replace(found, labels=np.where(hit, truth.labels[overlap.argmax(axis=1)], found.labels))


def _background(truth: Truth, found: Detections, overlap: NDArray[np.float32]) -> Detections:
    return _chosen(found, overlap.max(axis=1) >= BACKGROUND_IOU)


def _duplicates(truth: Truth, found: Detections, overlap: NDArray[np.float32]) -> Detections:
    own = _own(truth, found, overlap)
    cell, hit = own.argmax(axis=1), own.max(axis=1) >= HIT_IOU
    first = {int(cell[i]): i for i in np.argsort(found.scores, kind="stable") if hit[i]}
    return _chosen(found, ~hit | np.isin(np.arange(len(hit)), list(first.values())))


def _scores(truth: Truth, found: Detections, overlap: NDArray[np.float32]) -> Detections:
    quality = _own(truth, found, overlap).max(axis=1)
    hit = quality >= HIT_IOU
    return replace(
        found, scores=(found.scores * np.where(hit, quality, HIT_IOU)).astype(np.float32)
    )


def _chosen(found: Detections, keep: NDArray[np.bool_]) -> Detections:
    return Detections(found.boxes_xyxy[keep], found.scores[keep], found.labels[keep])


PUT_RIGHT: dict[str, Change | None] = {
    "as found": None,
    "boxes of hits": _boxes,
    "classes": _classes,
    "no cell there": _background,
    "found twice": _duplicates,
    "scores of hits in the order of their IoU": _scores,
}


def put_right(
    truths: Sequence[Truth], found: Sequence[Detections], change: Change
) -> list[Detections]:
    """Detections of all images with one kind of error gone."""
    return [
        change(t, f, pairwise_iou(f.boxes_xyxy, t.boxes_xyxy)) if len(f) and len(t.labels) else f
        for t, f in zip(truths, found, strict=True)
    ]


def overlaps(
    boxes: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """IoU of each of the others with the box it hits, those that hit none left out."""
    best = [
        pairwise_iou(mine, other).max(axis=0)
        for mine, other in zip(boxes, others, strict=True)
        if len(mine) and len(other)
    ]
    values = np.concatenate([np.zeros(0, np.float32), *best])
    return values[values >= HIT_IOU]


def same_images(first: Path, other: Path) -> list[tuple[LabelledImage, LabelledImage]]:
    """Images of both data sets that show the same field."""
    theirs = {i.path.stem: i for i in blood_classes(read_annotations(other)).images}
    with (first / "splits.csv").open(encoding="utf-8", newline="") as file:
        twin = {row["file"]: Path(row["bccd_id"]).stem for row in csv.DictReader(file)}
    return [
        (image, theirs[twin[image.path.name]])
        for image in blood_classes(read_annotations(first)).images
        if twin.get(image.path.name) in theirs
    ]


def _agreement_row(table: Table, name: str, values: NDArray[np.float32]) -> None:
    if len(values):
        above = np.mean([(values >= iou).mean() for iou in COCO_IOUS])
        cells = (f"{q:.3f}" for q in np.quantile(values, QUANTILES))
        table.add_row(name, f"{len(values):,}", *cells, f"{above:.3f}")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--detector", default="blood")
    parser.add_argument("--split", default="val")
    parser.add_argument("--also", type=Path, help="another data set with labels of the same images")
    parser.add_argument("--limit", type=int, default=0, help="images, for a first try")
    given = parser.parse_args()
    detector = FieldDetector(
        load_engine("torchvision", resolve(given.detector), EngineOptions("cpu"))
    )
    card = detector.engine.card
    classes = [c.id for c in card.classes]
    thresholds = {c: card.threshold_of(c) for c in classes}
    fields = fields_of(argparse.Namespace(data=[given.data], limit=given.limit), card, given.split)
    truths, found = [], list[Detections]()
    with torch.inference_mode():
        for image, factor in zip(fields.images, fields.factors, strict=True):
            pixels = read_pixels(image)
            truths.append(truth_of(image, classes, pixels.shape))
            found.append(detector.detect(pixels, factor).detections)
    table = Table("put right", "AP", "AP50", "AP75", title=f"{len(truths)} images of {given.split}")
    for name, change in PUT_RIGHT.items():
        now = found if change is None else put_right(truths, found, change)
        values = evaluate_detections(
            truths, now, classes, thresholds=thresholds
        ).published.to_dict()
        table.add_row(name, *(f"{values[n]:.3f}" for n in ("ap", "ap50", "ap75")))
    console.print(table)
    heads = ("boxes", "pairs", *(f"{q:.0%}" for q in QUANTILES), "mean share above 0.50 to 0.95")
    table = Table(*heads, title="IoU of boxes that stand for the same cell")
    for number, name in enumerate(classes):
        mine = [t.boxes_xyxy[t.labels == number] for t in truths]
        counted = [
            f.boxes_xyxy[(f.labels == number) & (f.scores >= thresholds[name])] for f in found
        ]
        _agreement_row(table, f"{name}: true, found", overlaps(mine, counted))
    if given.also is not None:
        pairs = same_images(given.data, given.also)
        for name in classes:
            one, other = (
                [i.boxes_xyxy[np.array(i.labels) == name] for i in side]
                for side in zip(*pairs, strict=True)
            )
            _agreement_row(
                table, f"{name}: {given.data.name}, {given.also.name}", overlaps(one, other)
            )
    console.print(table)


if __name__ == "__main__":
    main()
