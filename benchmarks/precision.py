"""Does half precision count the same cells? The parity table of fp32 against bf16 or fp16.

    python benchmarks/precision.py                          # packaged model, CPU, bf16
    python benchmarks/precision.py --device cuda --precision fp16 --fields 200

Rendered fields pass through the detector twice at the same scale, once in each arithmetic. Cells
are those above the card's thresholds. A cell is matched if the other arithmetic found one of its
class at that overlap; both directions count, so a cell that only one of them found is not matched.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import Detections
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import resolve
from cellcount.rendering.field import random_spec, render_field

OVERLAPS = (0.99, 0.9, 0.5)
SEED = 77


@dataclass
class Parity:
    """One class in both arithmetics, summed over all fields.

    Attributes:
        exact, half: cells counted.
        off_fields: fields on which the two counts differ.
        matched: per overlap, cells of both arithmetics that have their twin.
        scores: largest difference between the scores of twins.
    """

    exact: int = 0
    half: int = 0
    off_fields: int = 0
    matched: dict[float, int] = field(default_factory=lambda: dict.fromkeys(OVERLAPS, 0))
    scores: float = 0.0

    def add(self, exact: Detections, half: Detections) -> None:
        """One field's cells of this class."""
        self.exact += len(exact)
        self.half += len(half)
        self.off_fields += len(exact) != len(half)
        if not len(exact) or not len(half):
            return
        overlap = pairwise_iou(exact.boxes_xyxy, half.boxes_xyxy)
        for least in OVERLAPS:
            self.matched[least] += int((overlap.max(1) >= least).sum())
            self.matched[least] += int((overlap.max(0) >= least).sum())
        twin = overlap.argmax(1)
        paired = overlap.max(1) >= OVERLAPS[-1]
        if paired.any():
            difference = np.abs(exact.scores - half.scores[twin])[paired]
            self.scores = max(self.scores, float(difference.max()))

    def share(self, least: float) -> float:
        """Share of all cells that have their twin."""
        return self.matched[least] / max(1, self.exact + self.half)


def rendered_fields(count: int) -> list[tuple[NDArray[np.uint8], float]]:
    """Varied 640x480 fields with the diameter of their red cells."""
    rng = np.random.default_rng(SEED)
    specs = [random_spec(rng, 640, 480) for _ in range(count)]
    return [(render_field(spec).pixels, spec.rbc_diameter_px) for spec in specs]


def compare(weights: Path, device: str, half: str, count: int) -> tuple[DetectorCard, list[Parity]]:
    """The parity of every class of the card."""
    exact_engine = load_engine("auto", weights, EngineOptions(device, "fp32"))
    half_engine = load_engine("auto", weights, EngineOptions(device, half))
    exact, other, card = FieldDetector(exact_engine), FieldDetector(half_engine), exact_engine.card
    parities = [Parity() for _ in card.classes]
    for pixels, diameter_px in rendered_fields(count):
        factor = card.rbc_diameter_px / diameter_px
        found = [d.detect(pixels, factor).detections for d in (exact, other)]
        for label, parity in enumerate(parities):
            least = card.threshold_of(card.classes[label].id)
            parity.add(*(f[(f.labels == label) & (f.scores >= least)] for f in found))
    return card, parities


def show(card: DetectorCard, parities: Sequence[Parity], title: str, half: str) -> None:
    """The table, as the docs quote it."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    columns = ["fp32", half, "difference", "fields that differ"]
    columns += [f"twins at IoU {least:g}" for least in OVERLAPS]
    for column in (*columns, "largest score difference"):
        table.add_column(column, justify="right")
    for cell_class, p in zip(card.classes, parities, strict=True):
        table.add_row(
            cell_class.id,
            f"{p.exact:,}",
            f"{p.half:,}",
            f"{(p.half - p.exact) / max(1, p.exact):+.2%}",
            str(p.off_fields),
            *(f"{p.share(least):.1%}" for least in OVERLAPS),
            f"{p.scores:.4f}",
        )
    Console(width=120).print(table)


def main() -> None:
    """Prints one parity table."""
    parser = argparse.ArgumentParser(description="Counts in half precision against fp32.")
    parser.add_argument("--detector", default="blood", help="packaged name, file or run folder")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp16"])
    parser.add_argument("--fields", type=int, default=100)
    given = parser.parse_args()
    card, parities = compare(resolve(given.detector), given.device, given.precision, given.fields)
    title = (
        f"{card.name} {card.version} on {given.device}, {given.fields} rendered fields, "
        f"torch {torch.__version__}"
    )
    show(card, parities, title, given.precision)


if __name__ == "__main__":
    main()
