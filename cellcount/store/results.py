"""Stored form of a finished image: one JSON record and the cells as packed bytes.

Shapes: N cells of one image, stored as one structured array ``(N,)``.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zlib
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Cells, CellTypes, Detections, ImageRef, ImageResult, Quality

# The array names its own fields: those of the types are there where a classifier ran.
_BOX_FIELDS = ("x0", "y0", "x1", "y1")
_CELL_DTYPE = np.dtype(
    [*((name, "<f4") for name in (*_BOX_FIELDS, "score")), ("label", "<i2"), ("edge", "?")]
)
_TYPES = {"best": "<i2", "prob": "<f4", "second": "<i2", "second_prob": "<f4", "accepted": "?"}
_TYPED_CELL_DTYPE = np.dtype([*_CELL_DTYPE.descr, *_TYPES.items()])

_FACTS = ("status", "reason", "width_px", "height_px", "um_per_px", "scale_factor", "look")


def pack(cells: Cells) -> bytes:
    """The cells as bytes."""
    dtype = _CELL_DTYPE if cells.types is None else _TYPED_CELL_DTYPE
    table = np.zeros(len(cells), dtype)  # (N,)
    detections = cells.detections
    for index, name in enumerate(_BOX_FIELDS):
        table[name] = detections.boxes_xyxy[:, index]
    table["score"], table["label"] = detections.scores, detections.labels
    table["edge"] = cells.edge
    for name in _TYPES if cells.types is not None else ():
        table[name] = getattr(cells.types, name)
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    return zlib.compress(buffer.getvalue(), 1)  # smaller, and its checksum tells damage


def _unpack(data: bytes) -> Cells:
    table: NDArray[Any] = np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False)
    boxes_xyxy = np.stack([table[name] for name in _BOX_FIELDS], axis=1)  # (N, 4)
    detections = Detections(boxes_xyxy, table["score"].copy(), table["label"].astype(np.int64))
    return Cells(detections, table["edge"].copy(), _types_of(table))


def _types_of(table: NDArray[Any]) -> CellTypes | None:
    if "best" not in (table.dtype.names or ()):
        return None
    return CellTypes(**{n: table[n].astype(t.replace("i2", "i8")) for n, t in _TYPES.items()})


def record_of(result: ImageResult) -> str:
    """All of a result but its cells, as JSON."""
    ref = result.ref.facts()
    facts = {name: getattr(result, name) for name in _FACTS}
    facts["quality"] = None if result.quality is None else dataclasses.asdict(result.quality)
    return json.dumps({"ref": ref, **facts}, default=methodcaller("item"))  # NumPy's numbers


def result_of(row: tuple[str, bytes], ref: ImageRef | None) -> ImageResult:
    """The result of a record and its packed cells; it carries ``ref`` where one is given.

    Raises:
        ValueError, KeyError, TypeError, zlib.error: they are damaged.
    """
    record, cells = row
    facts = json.loads(record)
    stored = facts.pop("ref")
    stored["path"] = Path(stored["path"])
    measured = facts.pop("quality")
    return ImageResult(
        ref=ref or ImageRef(**stored),
        cells=_unpack(cells),
        quality=None if measured is None else Quality(**measured),
        **facts,
    )
