"""Labelled cells of all laboratories, read from the data sets' own files.

A label is an id of the taxonomy ``cells-14`` or a coarse one, which stands for several types.

Shapes: boxes (x_min, y_min, x_max, y_max) in pixels of the picture.
"""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]

#: The types, in the order of the classifier's outputs.
TYPES = (
    "segmented_neutrophil", "band_neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte",
    "metamyelocyte", "myelocyte", "promyelocyte", "blast", "erythroblast", "platelet", "artefact",
    "not_a_white_cell",
)  # fmt: skip
#: Labels that do not say which of several types a cell is.
COARSE = {
    "neutrophil": ("segmented_neutrophil", "band_neutrophil"),
    "ig": ("metamyelocyte", "myelocyte", "promyelocyte"),
}
NOT_WHITE = "not_a_white_cell"
#: Types that are no white cell: they leave the count.
NO_WHITE_TYPES = ("platelet", "artefact", NOT_WHITE)
#: Types that are a false alarm where the cell is a mature one.
RARE_TYPES = (*COARSE["ig"], "blast")
FIVE = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")
LABORATORIES = ("pbc", "mll", "raabin", "bccd", "chula", "draaslan")

_PBC_CODES = {
    "SNE": "segmented_neutrophil", "BNE": "band_neutrophil", "NEUTROPHIL": "neutrophil",
    "EO": "eosinophil", "BA": "basophil", "LY": "lymphocyte", "MO": "monocyte",
    "MMY": "metamyelocyte", "MY": "myelocyte", "PMY": "promyelocyte", "IG": "ig",
    "ERB": "erythroblast", "PLATELET": "platelet",
}  # fmt: skip
_MLL_CODES = {
    "BLA": "blast", "EOS": "eosinophil", "LYT": "lymphocyte", "MON": "monocyte",
    "NGS": "segmented_neutrophil", "PMO": "promyelocyte", "ART": "artefact",
}  # fmt: skip
#: Red-cell diameter in the pictures of these laboratories that show one cell each.
_PBC_RBC_PX, _MLL_RBC_PX = 70.0, 85.0
_TXL_CLASSES = ("wbc", "rbc", "platelet")
_FEWEST_RED_CELLS = 3
_LEAST_SIDE_PX = 20.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A place in a picture and what it shows.

    Attributes:
        path: the picture.
        laboratory: one of ``LABORATORIES``.
        label: type id, coarse label or "" where nobody said.
        split: of its data set: train, val, test or "".
        rbc_px: red-cell diameter in the picture.
        box: of the cell; None where the whole picture shows it.
        slide: the slide it lies on, or "".
        stain: name of the change of colour made to the whole picture first, or "".
    """

    path: Path
    laboratory: str
    label: str
    split: str
    rbc_px: float
    box: Box | None = None
    slide: str = ""
    stain: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A field with boxes.

    Attributes:
        path: the picture.
        laboratory: where it comes from.
        split: of its data set.
        boxes: class ("wbc", "rbc", "platelet") and box of each cell.
        rbc_px: median diameter of the red cells that lie within the field, None for too few.
        complete: whether every cell has a box.
    """

    path: Path
    laboratory: str
    split: str
    boxes: tuple[tuple[str, Box], ...]
    rbc_px: float | None
    complete: bool

    def of(self, kind: str) -> list[Box]:
        """The boxes of one class."""
        return [box for name, box in self.boxes if name == kind]


def allowed(label: str) -> tuple[str, ...]:
    """The types that a label may mean."""
    return COARSE.get(label, (label,))


def coarse(type_id: str) -> str:
    """The blood group of a type: neutrophils and immature granulocytes are pooled."""
    return next((name for name, fine in COARSE.items() if type_id in fine), type_id)


def pbc_cells(folder: Path) -> list[Cell]:
    """PBC's single cells under their fine codes."""
    return [
        Cell(folder / row["file"], "pbc", _PBC_CODES[row["code"]], row["split"], _PBC_RBC_PX)
        for row in _rows(folder / "splits.csv")
    ]


def mll_cells(folder: Path) -> list[Cell]:
    """MLL's single cells of the types that ``cells-14`` has; NIF stays out."""
    return [
        Cell(folder / row["file"], "mll", _MLL_CODES[row["class"]], row["split"], _MLL_RBC_PX)
        for row in _rows(folder / "splits.csv")
        if row["class"] in _MLL_CODES
    ]


def txl_cells(folder: Path, table: Path) -> list[Cell]:
    """White cells of TXL-PBC's train split, typed in ``white_types.csv``."""
    sources = {row["file"]: _laboratory(row["source"]) for row in _rows(folder / "splits.csv")}
    return [
        Cell(
            folder / "images" / row["file"],
            sources[row["file"]],
            row["class"],
            "train",
            float(row["rbc_px"]),
            _box(row),
        )
        for row in _rows(table)
    ]


def chula_cells(folder: Path, fields: Path, rbc_px: float) -> list[Cell]:
    """The single cells of wbc-cells.

    Their pictures were brought to one size of cell, so the fields of a slide tell how large its
    red cells are in them: by as much as its white cells became smaller.

    Args:
        folder: wbc-cells.
        fields: wbc-fields.
        rbc_px: red-cell diameter in wbc-fields.
    """
    sides: dict[str, list[float]] = {}
    for cell in chula_field_cells(fields, rbc_px):
        if cell.box is not None and cell.label:
            sides.setdefault(cell.slide, []).append(_side(cell.box))
    found = []
    for row in _rows(folder / "labels.csv"):
        box, slide = _box(row), row["slide"]
        red = rbc_px * max(_side(box), _LEAST_SIDE_PX) / float(np.median(sides[slide]))
        label = row["class"] if _side(box) >= _LEAST_SIDE_PX else ""
        found.append(Cell(folder / row["file"], "chula", label, "", red, box, slide))
    return found


def chula_field_cells(folder: Path, rbc_px: float) -> list[Cell]:
    """The typed boxes of wbc-fields; for measuring only. Boxes of a few pixels get no label."""
    names = (folder / "classes.txt").read_text("utf-8").split()
    found = []
    for path in sorted((folder / "images").iterdir()):
        for kind, box in _yolo_boxes(folder / "labels" / f"{path.stem}.txt", path):
            label = names[kind] if _side(box) >= _LEAST_SIDE_PX else ""
            found.append(Cell(path, "chula", label, "test", rbc_px, box, slide_of(path)))
    return found


def slide_of(path: Path) -> str:
    """The slide of a wbc-fields picture, which its name begins with."""
    return path.name.split("_")[0]


def txl_fields(folder: Path) -> list[Field]:
    """TXL-PBC's fields."""
    found = []
    for row in _rows(folder / "splits.csv"):
        path = folder / "images" / row["file"]
        boxes = tuple(
            (_TXL_CLASSES[kind], box)
            for kind, box in _yolo_boxes(folder / "labels" / f"{path.stem}.txt", path)
        )
        size = (int(row["width_px"]), int(row["height_px"]))
        found.append(
            Field(
                path, _laboratory(row["source"]), row["split"], boxes, _red_px(boxes, size),
                complete=True,
            )
        )  # fmt: skip
    return found


def bccd_fields(folder: Path, txl_folder: Path) -> list[Field]:
    """BCCD's train fields that TXL-PBC does not have, so none of either test split."""
    shared = {row["bccd_id"] for row in _rows(txl_folder / "splits.csv")}
    names = (folder / "ImageSets" / "Main" / "train.txt").read_text("utf-8").split()
    found = []
    for name in sorted(set(names) - shared):
        path = folder / "JPEGImages" / f"{name}.jpg"
        boxes = tuple(_voc_boxes(folder / "Annotations" / f"{name}.xml"))
        with Image.open(path) as picture:
            size = picture.size
        found.append(Field(path, "bccd", "train", boxes, _red_px(boxes, size), complete=False))
    return found


def draaslan_fields(folder: Path) -> list[Field]:
    """The dense fields of draaslan."""
    boxes: dict[str, list[tuple[str, Box]]] = {}
    for row in _rows(folder / "annotations.csv"):
        corners = (float(row["xmin"]), float(row["ymin"]), float(row["xmax"]), float(row["ymax"]))
        boxes.setdefault(row["image"], []).append((row["label"].lower(), corners))
    found = []
    for name, unit in sorted(boxes.items()):
        path = folder / "images" / name
        with Image.open(path) as picture:
            w, h = picture.size
        scaled = tuple((k, (b[0] * w, b[1] * h, b[2] * w, b[3] * h)) for k, b in unit)
        found.append(
            Field(path, "draaslan", "train", scaled, _red_px(scaled, (w, h)), complete=True)
        )
    return found


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _laboratory(source: str) -> str:
    return {"Raabin-WBC": "raabin", "PBC": "pbc", "BCCD": "bccd"}[source]


def _box(row: dict[str, str]) -> Box:
    x0, y0, x1, y1 = (float(row[key]) for key in ("x_min", "y_min", "x_max", "y_max"))
    return (x0, y0, x1, y1)


def _side(box: Box) -> float:
    """Geometric mean of the sides."""
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def _yolo_boxes(labels: Path, picture: Path) -> Iterator[tuple[int, Box]]:
    if not labels.exists():
        return
    with Image.open(picture) as image:
        width, height = image.size
    for line in labels.read_text("utf-8").splitlines():
        kind, x, y, w, h = line.split()[:5]
        cx, cy, half_w, half_h = (
            float(x) * width, float(y) * height, float(w) * width / 2, float(h) * height / 2
        )  # fmt: skip
        yield int(kind), (cx - half_w, cy - half_h, cx + half_w, cy + half_h)


def _voc_boxes(path: Path) -> Iterator[tuple[str, Box]]:
    names = {"RBC": "rbc", "WBC": "wbc", "Platelets": "platelet"}
    for item in ElementTree.parse(path).getroot().iter("object"):
        place = item.find("bndbox")
        kind = names.get(item.findtext("name", ""))
        if place is None or kind is None:
            continue
        keys = ("xmin", "ymin", "xmax", "ymax")
        x0, y0, x1, y1 = (float(place.findtext(key, "0")) for key in keys)
        if x1 > x0 and y1 > y0:
            yield kind, (x0, y0, x1, y1)


def _red_px(boxes: tuple[tuple[str, Box], ...], size: tuple[int, int]) -> float | None:
    """Median diameter of the red cells that do not touch the border."""
    sides = [
        float(np.sqrt((b[2] - b[0]) * (b[3] - b[1])))
        for kind, b in boxes
        if kind == "rbc" and min(b[0], b[1]) > 1 and b[2] < size[0] - 1 and b[3] < size[1] - 1
    ]
    return float(np.median(sides)) if len(sides) >= _FEWEST_RED_CELLS else None
