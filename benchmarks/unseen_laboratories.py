"""White cells that detectors find, miss and invent in laboratories that they did not learn from.

    python -m benchmarks.unseen_laboratories DATA [--detector NAME …] [--part choose]

DATA holds ``wbc-fields``, ``pig-fields``, ``draaslan`` and ``txl-pbc``. Of draaslan, every second
image by number is for choosing, the others are for one last report (``--part report``). TXL's val
images go through the ``shift`` suite of `cellcount evaluate detector`. ``--look FOLDER`` writes a
picture of every white cell that no label bears out, to be judged by eye: some labels are missing.
Every field is scaled by its own red cells, as a slide of its own.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in pixels.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from cellcount.core.blood import RBC, WBC
from cellcount.core.records import Detections, LabelledImage
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.classes import blood_classes
from cellcount.datasets.pixels import read_pixels
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detector_run import detect_field, truth_of
from cellcount.evaluation.matching import match
from cellcount.evaluation.perturbations import ORIGINAL, RED_CELL_SHIFTS, SHIFTS, Variant
from cellcount.models.weights import resolve

#: Loose, since labels of these sets were drawn with wide margins.
_IOU = 0.3
_SHIFT_IMAGES = 60


@dataclass
class Tally:
    """Counts over the fields of one set.

    Attributes:
        fields: how many.
        white, found, extra: labelled white cells, those found, and detections that no label bears
            out.
        red, counted: labelled red cells, and those counted.
    """

    fields: int = 0
    white: int = 0
    found: int = 0
    extra: int = 0
    red: int = 0
    counted: int = 0

    def row(self) -> list[str]:
        """The tally as cells of a table."""
        bias = f"{self.counted / self.red - 1:+.1%}" if self.red else ""
        recall = f"{self.found / self.white:.3f}" if self.white else ""
        extra = f"{self.extra / self.fields:.2f}"
        return [f"{self.fields}", f"{self.white}", recall, extra, f"{self.red or ''}", bias]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.unseen_laboratories``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--detector", nargs="+", default=["blood"])
    parser.add_argument("--part", choices=["choose", "report"], default="choose")
    parser.add_argument("--white-score", type=float)
    parser.add_argument("--look", type=Path)
    parser.add_argument("--sets", nargs="+")
    options = parser.parse_args(arguments)
    table = Table("detector", "set", "fields", "white", "found", "extra a field", "red", "red bias")
    for name in options.detector:
        detector = FieldDetector(
            load_engine("torchvision", resolve(name), EngineOptions("cpu", "fp32"))
        )
        thresholds = dict(detector.engine.card.thresholds)
        if options.white_score is not None:
            thresholds[WBC] = options.white_score
        for title, images, variant in sets(options.data, options.part):
            if options.sets and not any(one in title for one in options.sets):
                continue
            look = options.look and options.look / f"{Path(name).stem}-{title.replace(' ', '-')}"
            tally = count(detector, thresholds, images, variant, look)
            table.add_row(name, title, *tally.row())
            print(name, title, *tally.row(), sep="\t", flush=True)
    Console().print(table)


def sets(data: Path, part: str) -> Iterable[tuple[str, list[LabelledImage], Variant]]:
    """Titles, images and changes of all that is measured."""
    if part == "choose":
        yield (
            "wbc-fields",
            list(blood_classes(read_annotations(data / "wbc-fields")).images),
            ORIGINAL,
        )
        yield "pig-fields", _pig_fields(data / "pig-fields"), ORIGINAL
    own = blood_classes(read_annotations(data / "draaslan")).images
    wanted = 0 if part == "choose" else 1
    half = [i for i in own if int(re.sub(r"\D", "", i.path.stem)) % 2 == wanted]
    yield f"draaslan, {part}", half, ORIGINAL
    if part == "choose":
        val = [
            i for i in blood_classes(read_annotations(data / "txl-pbc")).images if i.split == "val"
        ]
        few = val[:: max(1, len(val) // _SHIFT_IMAGES)][:_SHIFT_IMAGES]
        yield "txl val", few, ORIGINAL
        for name, change in {**SHIFTS, **RED_CELL_SHIFTS}.items():
            yield f"txl val, {name}", few, Variant(name, change=change)


def _pig_fields(folder: Path) -> list[LabelledImage]:
    """The set of pig blood, whose one class has no name in its files."""
    with tempfile.TemporaryDirectory() as name:
        named = Path(name)
        for part in ("images", "labels"):
            (named / part).symlink_to((folder / part).resolve())
        (named / "classes.txt").write_text(WBC)
        images = read_annotations(named).images
    return [replace(i, path=folder / "images" / i.path.name) for i in images]


def count(
    detector: FieldDetector,
    thresholds: dict[str, float],
    images: Sequence[LabelledImage],
    variant: Variant,
    look: Path | None,
) -> Tally:
    """Detects on every image and compares with its labels."""
    classes = [c.id for c in detector.engine.card.classes]
    white, red = classes.index(WBC), classes.index(RBC)
    floors = np.array([thresholds[c] for c in classes])
    tally = Tally()
    for image in images:
        pixels = variant.apply(read_pixels(image))
        found = detect_field(detector, pixels)
        found = found[found.scores >= floors[found.labels]]
        truth = truth_of(image, classes, pixels.shape, variant.factor)
        own = truth.labels == white
        seen = found[found.labels == white]
        matching = match(truth.boxes_xyxy[own], truth.labels[own], seen, iou_threshold=_IOU)
        tally.fields += 1
        tally.white += int(own.sum())
        tally.found += len(matching.matches)
        tally.extra += len(matching.false_positives)
        tally.red += int((truth.labels == red).sum())
        tally.counted += int((found.labels == red).sum()) if (truth.labels == red).any() else 0
        if look is not None:
            _show(look, image, pixels, seen, matching.false_positives)
    return tally


def _show(
    folder: Path, image: LabelledImage, pixels: np.ndarray, seen: Detections, extra: Iterable[int]
) -> None:
    """A picture of each extra white cell and what is around it."""
    for one in extra:
        folder.mkdir(parents=True, exist_ok=True)
        x0, y0, x1, y1 = seen.boxes_xyxy[one]
        x, y, half = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)
        box = (int(x - half), int(y - half), int(x + half), int(y + half))
        crop = Image.fromarray(pixels).crop(box).resize((160, 160))
        crop.save(folder / f"{image.path.stem}-{int(x)}-{int(y)}-{seen.scores[one]:.2f}.png")


if __name__ == "__main__":
    main()
