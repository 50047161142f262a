"""Time to type cells, from a field's own pixels to types, and the part of it that is ours.

    python benchmarks/typing_speed.py                      # the recipe's network, untrained
    python benchmarks/typing_speed.py --classifier RUN     # or a packaged name

Cells of rendered fields of 640x480 with red cells of 105 px, decoded already, are typed by what
``analyze`` uses: white balance of the field, a window about every box, the network in its fixed
batches, types and probabilities. Beside it stands the bare network: timm's own model on tensors
that are ready, in full batches of the same size. What a cell costs depends on how many a field has,
since the last batch of a field is filled up, so three numbers are tried. Everything is measured in
turn within each repeat; figures are the median over the repeats, smallest and largest in brackets.
Random weights take as long as learned ones.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cellcount.core.records import Cells, Detections, Picture
from cellcount.engines.base import EngineOptions
from cellcount.engines.cell_typer import CellTyper
from cellcount.engines.crop_classifier import CropClassifier, load_classifier
from cellcount.evaluation.cost import REFERENCE_SIZE_PX
from cellcount.images.source import Field
from cellcount.models.classifier import build_classifier
from cellcount.models.classifier_card import (
    ClassifierArchitecture,
    ClassifierCard,
    ClassifierPreprocessing,
    CropRule,
    types_of,
)
from cellcount.models.detector_card import DetectorCard
from cellcount.models.taxonomy import load_taxonomy
from cellcount.models.weights import read_card, resolve
from cellcount.rendering.field import FieldSpec, render_field
from cellcount.training.classifier.settings import classifier_recipe

RBC_PX = 105.0
FIELDS = 4
CELLS_PER_FIELD = (1, 5, 20)
TARGET_S = 8.0

Pixels = NDArray[np.uint8]


def untrained(recipe: str, options: EngineOptions) -> CropClassifier:
    """The network of a recipe with random weights."""
    settings = classifier_recipe(recipe, {})
    side = settings.input_px
    card = ClassifierCard(
        name=f"{settings.backbone}, untrained",
        version="0",
        types=types_of(load_taxonomy(settings.taxonomy)),
        taxonomy=settings.taxonomy,
        license="none",
        architecture=ClassifierArchitecture(settings.backbone, {"input_px": side}),
        crop=CropRule(settings.window_rbc, settings.rbc_px),
        preprocessing=ClassifierPreprocessing((side, side)),
    )
    return CropClassifier(build_classifier(card), card, options)


def product(
    classifier: CropClassifier, detector: DetectorCard, count: int, per_field: int
) -> Callable[[], None]:
    """Types ``count`` cells, so many on each field."""
    width, height = REFERENCE_SIZE_PX
    specs = [FieldSpec(width, height, 70 + i, RBC_PX, 0.4, n_wbc=3) for i in range(FIELDS)]
    fields = [render_field(spec).pixels for spec in specs]
    typer, rng = CellTyper(classifier, detector), np.random.default_rng(3)
    label = [c.id for c in detector.classes].index(classifier.card.detector_classes[0])
    work: list[tuple[Pixels, Cells]] = []
    for start in range(0, count, per_field):
        number = min(per_field, count - start)
        centres = rng.uniform((0, 0), (width, height), (number, 2))
        boxes = np.concatenate([centres - 70, centres + 70], axis=1).astype(np.float32)
        found = Detections(boxes, np.ones(number, np.float32), np.full(number, label))
        work.append((fields[len(work) % FIELDS], Cells(found, np.zeros(number, np.bool_))))

    def run() -> None:
        for pixels, cells in work:
            typer.type_cells(Field(Picture(pixels)), cells, detector.rbc_diameter_px / RBC_PX)

    return run


def bare(classifier: CropClassifier, count: int) -> Callable[[], None]:
    """The network alone, as timm builds it, on full batches that are ready."""
    model = build_classifier(classifier.card)
    network = getattr(model, "body", model).eval()
    batch = torch.zeros(classifier.batch_size, 3, *classifier.card.preprocessing.input_px)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(-(-count // len(batch))):
                network(batch)

    return run


def measured(contestants: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each repeat, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def table(seconds: dict[str, list[float]], count: int) -> Table:
    """Times and what they are of the bare network's, which comes last."""
    result = Table(title=f"{count} cells", title_justify="left")
    result.add_column("what")
    for column in ("seconds", "ms per cell", "bare network = 1"):
        result.add_column(column, justify="right", no_wrap=True)
    alone = statistics.median(list(seconds.values())[-1])
    for name, values in seconds.items():
        middle = statistics.median(values)
        result.add_row(
            name,
            f"{middle:.2f} ({min(values):.2f}–{max(values):.2f})",
            f"{1000 * middle / count:.1f}",
            f"{middle / alone:.2f}",
        )
    return result


def options_of_this_run() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of typing cells, fp32 on the CPU.")
    parser.add_argument("--classifier", help="packaged name, file or run folder")
    parser.add_argument("--recipe", default="blood-types", help="network without --classifier")
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=0, help="cells per call, 0 chooses")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plugins", type=Path, help="folder with the classifier's plugin")
    parser.add_argument("--json", type=Path, help="write all figures")
    return parser.parse_args()


def main() -> None:
    """Types the cells and prints the table."""
    given = options_of_this_run()
    torch.set_num_threads(given.threads)
    options = EngineOptions("cpu", "fp32", given.batch_size, given.plugins)
    classifier = (
        load_classifier(resolve(given.classifier), options)
        if given.classifier
        else untrained(given.recipe, options)
    )
    detector, count = read_card(resolve("blood")), given.cells
    contestants = {
        f"cellcount, {n} on a field": product(classifier, detector, count, n)
        for n in CELLS_PER_FIELD
    }
    contestants["bare network, full batches"] = bare(classifier, count)
    seconds = measured(contestants, given.repeats)
    console = Console(width=110)
    height, width = classifier.card.preprocessing.input_px
    console.print(
        f"{classifier.card.name} at {width}x{height} px, batches of {classifier.batch_size}, fp32; "
        f"{platform.machine()}, {given.threads} threads, torch {torch.__version__}; "
        f"{given.repeats} repeats: median (smallest–largest)"
    )
    console.print(table(seconds, count))
    slowest = max(statistics.median(values) for values in list(seconds.values())[:-1])
    console.print(
        f"target: 500 cells in {TARGET_S:g} s; the slowest of these: {slowest * 500 / count:.1f} s"
    )
    if given.json:
        given.json.write_text(json.dumps({"cells": count, "seconds": seconds}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
