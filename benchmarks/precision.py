"""Does another arithmetic or engine count the same cells as torchvision in fp32?

    python benchmarks/precision.py                          # packaged model, CPU, bf16
    python benchmarks/precision.py --device cuda --precision fp16 --fields 200
    python benchmarks/precision.py --engine openvino --precision fp32 \\
        --data ../shared/data/txl-pbc ../shared/data/draaslan ../shared/data/wbc-fields

Fields pass through the detector twice at the same scale. They are rendered, or those of annotated
data sets: their test images where they have a split, else all. Cells are those above the card's
thresholds. A cell is matched if the other arithmetic found one of its class at that overlap; both
directions count, so a cell that only one of them found is not matched. The count of each class
should agree within 0.3 % or one cell.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import Detections
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.pixels import read_pixels
from cellcount.engines.base import ENGINES, EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detector_run import field_factor
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import resolve
from cellcount.rendering.field import random_spec, render_field

OVERLAPS = (0.99, 0.9, 0.5)
SEED = 77
#: Largest difference of the counts of a class: this share of them, or one cell.
LIMIT = 0.003
Field = tuple[NDArray[np.uint8], float | None]


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

    @property
    def agrees(self) -> bool:
        """Whether the counts agree within the limit."""
        return abs(self.half - self.exact) <= max(1, LIMIT * self.exact)

    def share(self, least: float) -> float:
        """Share of all cells that have their twin."""
        return self.matched[least] / max(1, self.exact + self.half)


def rendered_fields(count: int) -> Iterable[Field]:
    """Varied 640x480 fields with the diameter of their red cells."""
    rng = np.random.default_rng(SEED)
    specs = [random_spec(rng, 640, 480) for _ in range(count)]
    return ((render_field(spec).pixels, spec.rbc_diameter_px) for spec in specs)


def real_fields(data: Path, most: int) -> Iterable[Field]:
    """Test images of a data set, or all of one without a split; their red cells are not known."""
    images = read_annotations(data).images
    chosen = [i for i in images if i.split == "test"] or list(images)
    return ((read_pixels(image), None) for image in chosen[: most or None])


def compare(fields: Iterable[Field], exact: FieldDetector, other: FieldDetector) -> list[Parity]:
    """The parity of every class of the card."""
    card = exact.engine.card
    parities = [Parity() for _ in card.classes]
    for pixels, diameter_px in fields:
        if diameter_px is None:
            factor = field_factor(exact, pixels, None)
        else:
            factor = card.rbc_diameter_px / diameter_px
        found = [d.detect(pixels, factor).detections for d in (exact, other)]
        for label, parity in enumerate(parities):
            least = card.threshold_of(card.classes[label].id)
            parity.add(*(f[(f.labels == label) & (f.scores >= least)] for f in found))
    return parities


def show(card: DetectorCard, parities: Sequence[Parity], title: str, half: str) -> None:
    """The table, as the docs quote it."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    columns = ["fp32", half, "difference", "within limit", "fields that differ"]
    columns += [f"twins at IoU {least:g}" for least in OVERLAPS]
    for column in (*columns, "largest score difference"):
        table.add_column(column, justify="right")
    for cell_class, p in zip(card.classes, parities, strict=True):
        table.add_row(
            cell_class.id,
            f"{p.exact:,}",
            f"{p.half:,}",
            f"{(p.half - p.exact) / max(1, p.exact):+.2%}",
            "yes" if p.agrees else "no",
            str(p.off_fields),
            *(f"{p.share(least):.1%}" for least in OVERLAPS),
            f"{p.scores:.4f}",
        )
    Console(width=120).print(table)


def main() -> None:
    """Prints a parity table of each set of fields."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--detector", default="blood", help="packaged name, file or run folder")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--engine", default="torchvision", choices=list(ENGINES))
    parser.add_argument("--fields", type=int, help="of each set at most; 100 rendered ones")
    parser.add_argument("--data", type=Path, nargs="+", help="annotated fields, not rendered ones")
    given = parser.parse_args()
    exact, other = (
        FieldDetector(
            load_engine(engine, resolve(given.detector), EngineOptions(given.device, how))
        )
        for engine, how in (("torchvision", "fp32"), (given.engine, given.precision))
    )
    sets = [("rendered", rendered_fields(given.fields or 100))]
    if given.data:
        sets = [(data.name, real_fields(data, given.fields or 0)) for data in given.data]
    card = exact.engine.card
    for name, fields in sets:
        title = (
            f"{card.name} {card.version} on {given.device}, {name} fields, "
            f"torch {torch.__version__}"
        )
        show(card, compare(fields, exact, other), title, f"{given.engine} {given.precision}")


if __name__ == "__main__":
    main()
