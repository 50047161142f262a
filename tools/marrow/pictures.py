"""Pictures of single cells that fields are composed of, divided so that no cell is in two parts.

Shapes: none; pictures as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cellcount.core.records import ImageRef
from cellcount.engines.field_detector import FieldDetector
from cellcount.images.read import read_image
from tools.marrow.cuts import Seen
from tools.single_cells import drawn

TRAIN, VAL, TEST = "train", "val", "test"
#: Diameter of red cells in each laboratory's pictures.
RBC_PX = {"mll-marrow": 82.0, "pbc": 72.0}
#: Pictures per class: of marrow what there is, of blood what is found in marrow, too.
_WANTED = {
    ("mll-marrow", "BLA"): 140,
    ("mll-marrow", "EOS"): 60,
    ("mll-marrow", "LYT"): 140,
    ("mll-marrow", "MON"): 120,
    ("mll-marrow", "NGS"): 110,
    ("mll-marrow", "NIF"): 60,
    ("mll-marrow", "PMO"): 160,
    ("pbc", "erythroblast"): 160,
    ("pbc", "ig"): 140,
    ("pbc", "lymphocyte"): 60,
    ("pbc", "monocyte"): 40,
    ("pbc", "neutrophil"): 40,
    ("pbc", "basophil"): 20,
    ("pbc", "eosinophil"): 20,
    ("pbc", "platelet"): 30,
}
#: Of the pictures that the data sets keep for validation, tests take fewer.
_TESTED = 0.2
#: Of the train split, every such picture is kept to validate on.
_EVERY = 8
_MOST_PIXELS = 10**7


class Picture(NamedTuple):
    """A picture of one cell.

    Attributes:
        name: data set and file.
        path: where it lies.
        kind: the middle cell's class in the data set.
        part: whose fields it may become part of.
    """

    name: str
    path: Path
    kind: str
    part: str


def pictures(data: Path, share: float, seed: int) -> Iterator[Picture]:
    """Pictures of all parts, drawn by seed: tests use what the data sets call val."""
    for one in drawn(data, _WANTED, {"train": share, "val": share * _TESTED}, seed):
        part = VAL if one.number % _EVERY == _EVERY - 1 else TRAIN
        part = TEST if one.split == "val" else part
        yield Picture(f"{one.source}/{one.file}", one.path, one.kind, part)


def seen_by(detector: FieldDetector, picture: Picture) -> Seen:
    """The picture with what the detector finds there."""
    ref = ImageRef(picture.path, picture.path.name, "")
    pixels = read_image(ref, max_pixels=_MOST_PIXELS).pixels
    rbc_px = RBC_PX[picture.name.partition("/")[0]]
    card = detector.engine.card
    found = detector.detect(pixels, card.rbc_diameter_px / rbc_px).detections
    ids = np.array([c.id for c in card.classes])
    return Seen(picture.name, pixels, rbc_px, found.boxes_xyxy, ids[found.labels], found.scores)


def of_part(seen: Sequence[tuple[Picture, Seen]], part: str, laboratory: str) -> list[Seen]:
    """Pictures of a part and of a laboratory, with what was seen there."""
    return [s for p, s in seen if p.part == part and s.laboratory == laboratory]
