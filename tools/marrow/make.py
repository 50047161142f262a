"""Composed fields of bone marrow with boxes, for trainings of the detector ``marrow``.

    python -m tools.marrow.make DATA OUT [--detector NAME] [--fields 400]

No marrow fields with boxes were found under a licence that everybody may use, so fields are
composed: nucleated cells are cut out of the pictures of single cells of ``mll-marrow`` and ``pbc``,
and pasted, at their own scale, among red cells on the glass of one of these pictures, or around the
cells of a whole picture. DATA holds both sets and ``txl-pbc``, of whose val and test images copies
are left out. OUT gets two data sets: ``composed`` with ``images``, ``boxes.csv`` (classes ``wbc``,
which means any nucleated cell, and ``rbc``; splits train, val and test) and ``sources.csv``, the
pictures that each field is made of; and ``blood``, every fourth train image of TXL-PBC without its
platelets. No picture serves two splits; test fields are made of the sets' own val pictures alone.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in pixels.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from cellcount.core.blood import BLOOD_SYNONYMS, PLATELET, RBC, WBC
from cellcount.core.records import LabelledImage
from cellcount.datasets.annotations import read_annotations
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.files.atomic import atomic_write
from cellcount.models.weights import resolve
from tools.boxed_cells import without_copies
from tools.marrow.compose import Composed, Stock, compose, draw_plan
from tools.marrow.cuts import Cut, Seen, middle_cell, own_cells, small_cells
from tools.marrow.pictures import RBC_PX, TEST, TRAIN, VAL, Picture, of_part, pictures, seen_by

#: Share of fields that are whole pictures, and of fields of the laboratory of marrow.
_WHOLE, _MARROW = 0.25, 0.65
_QUALITY = (82, 97)
_PLATELETS = "platelet"
_FEWEST_BOXES = 2
#: Of TXL-PBC's train images, every such one stands beside the composed fields.
_EVERY_BLOOD = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m tools.marrow.make``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--detector", default="blood", help="boxes red cells, confirms white ones")
    parser.add_argument("--fields", type=int, default=400, help="of train; val and test: an eighth")
    parser.add_argument("--share", type=float, default=0.6, help="of the pictures")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    engine = load_engine("torchvision", resolve(options.detector), EngineOptions("cpu", "fp32"))
    detector = FieldDetector(engine)
    drawn = list(pictures(options.data, options.share, 0))
    named = [(p.name, p.path) for p in drawn]
    kept = {name for name, _ in without_copies(named, options.data / "txl-pbc")}
    wanted = [p for p in drawn if p.name in kept]
    seen = [(p, seen_by(detector, p)) for p in track(wanted, "looking")]
    few = max(1, options.fields // 8)
    counts = {TRAIN: options.fields, VAL: few, TEST: few}
    write_fields(seen, counts, options.out / "composed", options.seed)
    write_blood(read_annotations(options.data / "txl-pbc").images, options.out / "blood")


def write_blood(images: Sequence[LabelledImage], out: Path) -> None:
    """Copy every fourth train image with its red and white cells, in the form of the others."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    with io.StringIO(newline="") as rows:
        writer = csv.writer(rows)
        writer.writerow(["image", "xmin", "ymin", "xmax", "ymax", "label", "split"])
        for image in [one for one in images if one.split == TRAIN][::_EVERY_BLOOD]:
            shutil.copyfile(image.path, out / "images" / image.path.name)
            for box, label in zip(image.boxes_xyxy, image.labels, strict=True):
                kept = BLOOD_SYNONYMS.get(label.lower(), "")
                if kept in (RBC, WBC):
                    corners = (f"{v:.1f}" for v in box)
                    writer.writerow([f"images/{image.path.name}", *corners, kept, TRAIN])
        with atomic_write(out / "boxes.csv") as file:
            file.write(rows.getvalue().encode())


def write_fields(
    seen: Sequence[tuple[Picture, Seen]], wanted: dict[str, int], out: Path, seed: int
) -> None:
    """Compose and write the fields of all parts.

    Args:
        seen: pictures, with what a detector saw there.
        wanted: number of fields of each part.
        out: folder that gets images and tables.
        seed: decides every draw; a field does not depend on how many come after it.
    """
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    boxes, sources = io.StringIO(newline=""), io.StringIO(newline="")
    box_rows, source_rows = csv.writer(boxes), csv.writer(sources)
    box_rows.writerow(["image", "xmin", "ymin", "xmax", "ymax", "label", "split"])
    source_rows.writerow(["image", "split", "picture"])
    for part, count in wanted.items():
        stocks = stocks_of(seen, part)
        for number in track(range(count), f"composing {part}"):
            random = np.random.default_rng([seed, (TRAIN, VAL, TEST).index(part), number])
            field = _field(seen, part, stocks, random)
            name = f"images/{part}-{number:04}.jpg"
            quality = int(random.integers(*_QUALITY))
            Image.fromarray(field.pixels).save(out / name, quality=quality, subsampling=0)
            for box, label in zip(field.boxes, field.labels, strict=True):
                box_rows.writerow([name, *(f"{v:.1f}" for v in box), label, part])
            source_rows.writerows([name, part, source] for source in field.sources)
    for name, rows in (("boxes.csv", boxes), ("sources.csv", sources)):
        with atomic_write(out / name) as file:
            file.write(rows.getvalue().encode())


def stocks_of(seen: Sequence[tuple[Picture, Seen]], part: str) -> dict[str, Stock]:
    """The cells of a part to compose fields of, by laboratory.

    Red cells and platelets are those of all laboratories: few marrow pictures show a whole one.
    """
    own = {laboratory: of_part(seen, part, laboratory) for laboratory in RBC_PX}
    everyone = [one for pictures_of in own.values() for one in pictures_of]
    red = [cut for one in everyone for cut in small_cells(one, RBC)]
    kinds = {s.name: p.kind for p, s in seen}
    stocks = {}
    for laboratory, those in own.items():
        cells: list[Cut] = [
            cut for one in those if kinds[one.name] != _PLATELETS and (cut := middle_cell(one))
        ]
        platelets = [cut for one in those for cut in small_cells(one, PLATELET)]
        stocks[laboratory] = Stock(cells, red, platelets)
        print(f"{part}, {laboratory}: {len(those)} pictures, {len(cells)} nucleated cells")
    print(f"{part}: {len(red)} red cells")
    return stocks


def _field(
    seen: Sequence[tuple[Picture, Seen]],
    part: str,
    stocks: dict[str, Stock],
    random: np.random.Generator,
) -> Composed:
    """Draw pictures and plans until a field has enough boxes to learn from."""
    while True:
        marrow, blood = RBC_PX
        laboratory = marrow if random.random() < _MARROW else blood
        if not stocks[laboratory].nucleated:
            laboratory = next(name for name, stock in stocks.items() if stock.nucleated)
        candidates = of_part(seen, part, laboratory)
        one = candidates[int(random.integers(len(candidates)))]
        whole = bool(random.random() < _WHOLE)
        if whole and not own_cells(one)[1]:
            continue
        field = compose(one, stocks[laboratory], draw_plan(random, whole=whole), random)
        if len(field.labels) >= _FEWEST_BOXES:
            return field


if __name__ == "__main__":
    main()
