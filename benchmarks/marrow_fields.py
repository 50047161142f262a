"""Nucleated cells of marrow that detectors find, miss and invent.

    python -m benchmarks.marrow_fields DATA COMPOSED [--detector NAME …] [--look FOLDER]

First on composed fields (``tools.marrow.make``, split ``test``: cells of pictures that no training
uses), then on the pictures that ``mll-marrow`` keeps for validation: is the cell in the middle
found by a box that fits its contour with an IoU of 0.5 or more? Contours take red cells from
``--reference`` and nothing else from a detector; pictures without a clear one are counted apart.
``--look FOLDER`` gets ``extras.png``, what else was called nucleated on the first 100 pictures,
those without a clear contour left out, and ``missed.png``, to be judged by eye: MLL labels one cell
a picture.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in pixels.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from cellcount.core.blood import RBC, WBC
from cellcount.core.records import LabelledImage
from cellcount.datasets.annotations import read_annotations
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detection import evaluate_detections
from cellcount.evaluation.detector_run import detect_set
from cellcount.evaluation.matching import match
from cellcount.models.weights import resolve
from tools.marrow.contours import Contour, Floats, middle_contour
from tools.marrow.cuts import Seen, overlaps
from tools.marrow.pictures import TEST, Picture, seen_by

_IOU = 0.5
#: Contours less clear than this are no truth to measure by.
_SURE = 0.6
#: Distance from the middle, in red cells, up to which a box is of the middle cell.
_NEAR_MIDDLE = 0.4
_LOOKED_AT, _COLUMNS, _TILE_PX = 100, 10, 150
_ARTEFACTS = "ART"


class OnFields(NamedTuple):
    """Figures of composed fields: AP50 per class, and nucleated cells true, found and false."""

    fields: int
    ap50: dict[str, float]
    true: int
    found: int
    false: int

    def words(self) -> list[str]:
        """The figures as cells of a table."""
        ap50 = [f"{self.ap50[name]:.3f}" for name in (WBC, RBC)]
        found = f"{self.found / max(self.true, 1):.3f}"
        return [str(self.fields), *ap50, str(self.true), found, f"{self.false / self.fields:.2f}"]


@dataclass
class OnPictures:
    """Pictures of single cells, and what was found there.

    Attributes:
        unclear: pictures without a clear contour in the middle.
        found, missed: pictures whose middle cell was found, and was not.
        pictures, centred: how many in all, and those where the middle of a detection is near that
            of the picture, whatever its size.
        extras: pictures with detections beside the middle cell, of those of the first hundred
            that have a clear contour.
    """

    unclear: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    missed: list[Image.Image] = field(default_factory=list)
    extras: list[tuple[str, Image.Image, int]] = field(default_factory=list)
    pictures: int = 0
    centred: int = 0

    def words(self) -> list[str]:
        """The figures as cells of a table."""
        clear = len(self.found) + len(self.missed)
        many = sum(number for *_, number in self.extras)
        share = f"{len(self.found) / max(clear, 1):.3f}"
        centred = f"{self.centred / max(self.pictures, 1):.3f}"
        return [str(clear), share, str(self.pictures), centred, str(many)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.marrow_fields``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("composed", type=Path)
    parser.add_argument("--detector", nargs="+", default=["blood"])
    parser.add_argument("--reference", default="blood")
    parser.add_argument("--every", type=int, default=1, help="look at every n-th picture and field")
    parser.add_argument("--look", type=Path)
    options = parser.parse_args(arguments)
    fields = [i for i in read_annotations(options.composed).images if i.split == TEST]
    fields = fields[:: options.every]
    seen = _seen(options.data, options.reference, options.every)
    first = Table(
        "detector", "fields", "AP50 nucleated", "AP50 red", "nucleated", "found", "false a field"
    )
    second = Table(
        "detector", "clear", "found", "pictures", "found near the middle", "extras on the first 100"
    )
    for name in options.detector:
        detector = _detector(name)
        on_fields = count_fields(fields, detector)
        first.add_row(name, *on_fields.words())
        print(name, *on_fields.words(), sep="\t", flush=True)
        on_pictures = count_pictures(seen, detector)
        second.add_row(name, *on_pictures.words())
        print(name, *on_pictures.words(), sep="\t", flush=True)
        if options.look is not None:
            _show(options.look / Path(name).stem, on_pictures)
    console = Console()
    console.print(first)
    console.print(second)


def count_fields(images: Sequence[LabelledImage], detector: FieldDetector) -> OnFields:
    """Detect on composed fields and compare with their boxes."""
    card = detector.engine.card
    classes = [c.id for c in card.classes]
    thresholds = {name: card.threshold_of(name) for name in classes}
    truths, found = detect_set(images, detector)
    report = evaluate_detections(truths, found, classes, thresholds=thresholds)
    white = classes.index(WBC)
    true = hits = false = 0
    for truth, all_found in zip(truths, found, strict=True):
        own = truth.labels == white
        seen = all_found[all_found.labels == white]
        seen = seen[seen.scores >= np.float32(thresholds[WBC])]
        matching = match(truth.boxes_xyxy[own], truth.labels[own], seen, iou_threshold=_IOU)
        true, hits = true + int(own.sum()), hits + len(matching.matches)
        false += len(matching.false_positives)
    ap50 = {name: report.crowded.class_ap50[name] or 0.0 for name in (WBC, RBC)}
    return OnFields(len(images), ap50, true, hits, false)


def count_pictures(seen: Iterable[tuple[Picture, Seen]], detector: FieldDetector) -> OnPictures:
    """Detect on pictures of single cells and look for the one in the middle."""
    tally = OnPictures()
    floor = detector.engine.card.threshold_of(WBC)
    for number, (picture, reference) in enumerate(seen):
        white = seen_by(detector, picture).of(WBC, floor)
        tally.pictures += 1
        tally.centred += bool(_near_middle(white, reference).any())
        contour = middle_contour(reference.density, reference.of(RBC, 0.5), reference.rbc_px)
        if contour is None or contour.sure < _SURE:
            tally.unclear.append(picture.name)
            continue
        fits = overlaps(contour.box, white)
        if (fits >= _IOU).any():
            tally.found.append(picture.name)
        else:
            tally.missed.append(_drawn(reference, contour, white))
        others = white[fits < _IOU]
        if number < _LOOKED_AT and len(others):
            tally.extras.append((picture.name, _drawn(reference, contour, others), len(others)))
    return tally


def _near_middle(boxes: Floats, seen: Seen) -> NDArray[np.bool_]:
    """Return which boxes have their middle near that of the picture."""
    height, width = seen.pixels.shape[:2]
    away = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array([width, height]) / 2
    return np.asarray(np.hypot(*away.T) < _NEAR_MIDDLE * seen.rbc_px)


def _seen(data: Path, reference: str, every: int) -> list[tuple[Picture, Seen]]:
    """The pictures of cells that MLL keeps for validation, with what a detector finds there."""
    detector, folder = _detector(reference), data / "mll-marrow"
    with (folder / "splits.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "val"]
    kept = sorted((r["file"], r["class"]) for r in rows if r["class"] != _ARTEFACTS)
    # Kinds take turns, so that the first hundred hold them all.
    kept.sort(key=lambda row: sum(r[1] == row[1] and r[0] < row[0] for r in kept))
    wanted = [Picture(f"mll-marrow/{f}", folder / f, kind, TEST) for f, kind in kept[::every]]
    return [(picture, seen_by(detector, picture)) for picture in wanted]


def _detector(name: str) -> FieldDetector:
    return FieldDetector(load_engine("torchvision", resolve(name), EngineOptions("cpu", "fp32")))


def _drawn(seen: Seen, contour: Contour, boxes: Floats) -> Image.Image:
    """The picture with the middle cell's contour and some boxes."""
    image = Image.fromarray(seen.pixels)
    draw = ImageDraw.Draw(image)
    points = [(float(x), float(y)) for x, y in contour.points]
    draw.line([*points, points[0]], fill=(255, 255, 0), width=2)
    for x0, y0, x1, y1 in boxes.tolist():
        draw.rectangle((x0, y0, x1, y1), outline=(0, 220, 0), width=3)
    return image.resize((_TILE_PX, _TILE_PX))


def _show(folder: Path, tally: OnPictures) -> None:
    """Write sheets of what was missed and of what else was found, and lists of names."""
    folder.mkdir(parents=True, exist_ok=True)
    _sheet([image for _, image, _ in tally.extras], folder / "extras.png")
    _sheet(tally.missed, folder / "missed.png")
    rows = [f"{name},{number}" for name, _, number in tally.extras]
    (folder / "extras.csv").write_text("\n".join(["picture,extras", *rows, ""]), "utf-8")
    (folder / "unclear.txt").write_text("\n".join([*tally.unclear, ""]), "utf-8")


def _sheet(tiles: Sequence[Image.Image], path: Path) -> None:
    if not tiles:
        return
    size = (_COLUMNS * _TILE_PX, -(-len(tiles) // _COLUMNS) * _TILE_PX)
    sheet = Image.new("RGB", size, "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % _COLUMNS * _TILE_PX, number // _COLUMNS * _TILE_PX))
    sheet.save(path)


if __name__ == "__main__":
    main()
