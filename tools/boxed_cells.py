"""Fields with boxes out of pictures of single cells, for trainings of detectors.

    python -m tools.boxed_cells DATA OUT --detector RUN [--share 0.5]

Sets of typed cells show one white cell in the middle, as its label says, among cells that nobody
labelled. A detector boxes those; the cell in the middle gets the box of whatever the detector found
there, a white cell or not. Left out are pictures without a clear find in the middle, those with
"red cells" as dark as nuclei, and copies of the pictures that TXL-PBC validates and tests on. DATA
holds ``pbc``, ``mll-marrow`` and ``txl-pbc``; only train splits are read. OUT gets the pictures and
``boxes.csv``.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in pixels.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from cellcount.core.blood import RBC, WBC
from cellcount.core.records import Detections, ImageRef
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.near_duplicates import near_duplicates, perceptual_hash
from cellcount.datasets.pixels import read_pixels
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detector_run import field_factor
from cellcount.files.atomic import atomic_write
from cellcount.images.read import read_image
from cellcount.models.weights import resolve
from tools.single_cells import drawn

#: Pictures per class: many of what models overlook, the small, smooth and dark cells.
_WANTED = {
    ("pbc", "lymphocyte"): 300,
    ("pbc", "monocyte"): 200,
    ("pbc", "basophil"): 140,
    ("pbc", "eosinophil"): 120,
    ("pbc", "neutrophil"): 120,
    ("pbc", "ig"): 120,
    ("pbc", "erythroblast"): 200,
    ("mll-marrow", "LYT"): 160,
    ("mll-marrow", "MON"): 120,
    ("mll-marrow", "EOS"): 80,
    ("mll-marrow", "NGS"): 80,
    ("mll-marrow", "PMO"): 100,
    ("mll-marrow", "BLA"): 120,
}
#: A find in the middle counts from this score on, since the label says that a cell is there.
_MIDDLE_SCORE = 0.3
#: The middle of a picture lies in the middle part of the cell's box.
_MIDDLE_PART = 0.6
#: Sides of the middle cell over the red cells of the picture.
_SIDES = (0.7, 3.2)
_FEWEST_RED = 2
#: Quantile of red cells that stands for a sure one, and of pixels for the empty glass.
_PALE, _GLASS = 0.25, 0.95
_MOST_PIXELS = 10**7


@dataclass(frozen=True, slots=True)
class Boxed:
    """Boxes (N, 4) of a picture's cells and their N labels."""

    boxes: NDArray[np.float32]
    labels: list[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m tools.boxed_cells``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--detector", default="blood")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    engine = load_engine("torchvision", resolve(options.detector), EngineOptions("cpu", "fp32"))
    pictures = list(_pictures(options.data, options.share, options.seed))
    pictures = without_copies(pictures, options.data / "txl-pbc")
    folder = options.out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    detector, rows, kept = FieldDetector(engine), io.StringIO(newline=""), 0
    writer = csv.writer(rows)
    writer.writerow(["image", "xmin", "ymin", "xmax", "ymax", "label"])
    for name, path in track(pictures, "boxing"):
        boxed = box_cells(detector, path)
        if boxed is None:
            continue
        kept += 1
        shutil.copyfile(path, folder / name)
        for box, label in zip(boxed.boxes, boxed.labels, strict=True):
            writer.writerow([f"images/{name}", *(f"{v:.1f}" for v in box), label])
    with atomic_write(options.out / "boxes.csv") as file:
        file.write(rows.getvalue().encode())
    print(f"{kept} of {len(pictures)} pictures boxed")


def _pictures(data: Path, share: float, seed: int) -> Iterator[tuple[str, Path]]:
    """Names and paths of pictures of the train splits, drawn by seed."""
    for one in drawn(data, _WANTED, {"train": share}, seed):
        yield f"{one.source}-{one.file.replace('/', '-')}", one.path


def without_copies(pictures: list[tuple[str, Path]], txl: Path) -> list[tuple[str, Path]]:
    """Pictures that are not among those that TXL-PBC validates and tests on."""
    held = [i for i in read_annotations(txl).images if i.split in ("val", "test")]
    hashes = [perceptual_hash(read_pixels(i)) for i in held]
    hashes += [perceptual_hash(_pixels(path)) for _, path in pictures]
    copies = {
        int(second) - len(held)
        for first, second in near_duplicates(np.stack(hashes)).pairs
        if first < len(held) <= second
    }
    print(f"{len(copies)} copies of held-out fields left out")
    return [one for n, one in enumerate(pictures) if n not in copies]


def box_cells(detector: FieldDetector, path: Path) -> Boxed | None:
    """Box the cells of a picture; None where its middle or its scale is not clear."""
    pixels = _pixels(path)
    card = detector.engine.card
    classes = [c.id for c in card.classes]
    found = detector.detect(pixels, field_factor(detector, pixels, None)).detections
    floors = np.array([card.thresholds[c] for c in classes])
    sure = found.scores >= floors[found.labels]
    red = found.labels == classes.index(RBC)
    sides = np.sqrt(np.prod(found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2], axis=1))
    if (red & sure).sum() < _FEWEST_RED:
        return None
    middle = _middle(found, classes.index(WBC), pixels.shape, sides / np.median(sides[red & sure]))
    if middle is None:
        return None
    reds = found.boxes_xyxy[red & sure & (np.arange(len(red)) != middle)]
    if not len(reds) or _any_nucleus(pixels, reds, found.boxes_xyxy[middle]):
        return None
    overlapping = _overlap(found.boxes_xyxy[middle], found.boxes_xyxy) > 0.5
    keep = sure & ~overlapping
    keep[middle] = True
    labels = [classes[label] for label in found.labels]
    labels[middle] = WBC
    return Boxed(found.boxes_xyxy[keep], [labels[n] for n in np.flatnonzero(keep).tolist()])


def _pixels(path: Path) -> NDArray[np.uint8]:
    return read_image(ImageRef(path, path.name, ""), max_pixels=_MOST_PIXELS).pixels


def _middle(
    found: Detections, white: int, shape: tuple[int, ...], sides: NDArray[np.floating[Any]]
) -> int | None:
    """Return the detection of the middle cell: a white one before others, then the surest."""
    height, width = shape[:2]
    x0, y0, x1, y1 = found.boxes_xyxy.T
    off_x = np.abs((x0 + x1 - width) / (x1 - x0))
    off_y = np.abs((y0 + y1 - height) / (y1 - y0))
    fits = (np.maximum(off_x, off_y) < _MIDDLE_PART) & (found.scores >= _MIDDLE_SCORE)
    fits &= (sides > _SIDES[0]) & (sides < _SIDES[1])
    if not fits.any():
        return None
    order = found.scores + (found.labels == white)
    return int(np.argmax(np.where(fits, order, -1)))


def _any_nucleus(
    pixels: NDArray[np.uint8], reds: NDArray[np.float32], middle: NDArray[np.float32]
) -> bool:
    """Return whether a supposed red cell absorbs red light as the middle cell's nucleus does."""
    density = [_red_density(pixels, box) for box in reds]
    pale = float(np.quantile(density, _PALE))
    return max(density) > (pale + _red_density(pixels, middle)) / 2


def _red_density(pixels: NDArray[np.uint8], box: NDArray[np.float32]) -> float:
    """Mean optical density, in the red channel, of the middle half of a box."""
    x0, y0, x1, y1 = (float(v) for v in box)
    left, right = round(x0 + (x1 - x0) / 4), round(x1 - (x1 - x0) / 4)
    top, bottom = round(y0 + (y1 - y0) / 4), round(y1 - (y1 - y0) / 4)
    part = pixels[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1), 0]
    glass = max(float(np.quantile(pixels[..., 0], _GLASS)), 1.0)
    return float(-np.log10((part + 1.0) / (glass + 1.0)).mean())


def _overlap(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the smaller of two boxes that lies in the other."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return np.asarray(shared / np.minimum(areas, (box[2:] - box[:2]).prod()))


if __name__ == "__main__":
    main()
