"""All cells of all data sets, cut into windows.

Shapes: as in ``windows``.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cellcount.engines.base import EngineOptions, load_engine
from cellcount.files.digest import sha256_of
from cellcount.models.weights import resolve
from tools.types.cells import (
    Box,
    Cell,
    Field,
    bccd_fields,
    chula_cells,
    chula_field_cells,
    draaslan_fields,
    mll_cells,
    pbc_cells,
    txl_cells,
    txl_fields,
)
from tools.types.negatives import STAINS, drawn_negatives, false_finds
from tools.types.windows import Windows, cut

#: The detector whose false finds are learned.
_DETECTOR = "blood"
#: Every so many fields the detector looks at; it gives about one false find in forty fields.
_LOOKED_AT = 3


def labelled_cells(data: Path, chula_rbc_px: float) -> list[Cell]:
    """Every typed cell, those of wbc-fields (split ``test``) included.

    Args:
        data: folder that holds the data sets.
        chula_rbc_px: red-cell diameter in wbc-fields.
    """
    table = resolve("blood").parent / "white_types.csv"
    return [
        *pbc_cells(data / "pbc"),
        *mll_cells(data / "mll-marrow"),
        *txl_cells(data / "txl-pbc", table),
        *chula_cells(data / "wbc-cells", data / "wbc-fields", chula_rbc_px),
        *chula_field_cells(data / "wbc-fields", chula_rbc_px),
    ]


def train_fields(data: Path) -> list[Field]:
    """Fields whose cells may be learned: the train splits of TXL-PBC and BCCD, and draaslan."""
    txl = [field for field in txl_fields(data / "txl-pbc") if field.split == "train"]
    own = bccd_fields(data / "bccd", data / "txl-pbc")
    return [*txl, *own, *draaslan_fields(data / "draaslan")]


def negative_cells(data: Path, seed: int, cache: Path) -> list[Cell]:
    """Places without a white cell, the detector's false finds among them; kept in the cache."""
    fields = train_fields(data)
    weights = resolve(_DETECTOR)
    kept = cache / f"false-finds-{sha256_of(weights)[:12]}.json"
    if kept.exists():
        found = [_cell(entry) for entry in json.loads(kept.read_text("utf-8"))]
    else:
        engine = load_engine("auto", weights, EngineOptions("cpu"))
        found = false_finds(fields[::_LOOKED_AT], engine, list(STAINS))
        kept.write_text(json.dumps([dataclasses.astuple(c) for c in found], default=str), "utf-8")
    return [*drawn_negatives(fields, seed), *found]


def untyped_cells(data: Path) -> list[Cell]:
    """White cells of the train fields that nobody has typed, for a student to be taught on."""
    table = resolve(_DETECTOR).parent / "white_types.csv"
    typed = {cell.path for cell in txl_cells(data / "txl-pbc", table)}
    return [
        Cell(field.path, field.laboratory, "", "train", field.rbc_px, box)
        for field in train_fields(data)
        if field.path not in typed and field.rbc_px is not None
        for box in field.of("wbc")
    ]


def gathered(data: Path, cache: Path, seed: int, input_px: int, chula_rbc_px: float) -> Windows:
    """The windows of all these cells."""
    cache.mkdir(parents=True, exist_ok=True)
    cells = [
        *labelled_cells(data, chula_rbc_px),
        *negative_cells(data, seed, cache),
        *untyped_cells(data),
    ]
    return cut(cells, input_px, cache)


def _cell(entry: list[Any]) -> Cell:
    path, laboratory, label, split, rbc_px, box, slide, stain = entry
    place: Box | None = None if box is None else (box[0], box[1], box[2], box[3])
    return Cell(Path(path), laboratory, label, split, rbc_px, place, slide, stain)
