"""Cells as the page gets them: a row of plain values each, in columns that are named once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellcount.analysis.reviewer_types import Vocabulary
from cellcount.core.records import UNCLASSIFIED, CellClass, CellTypes
from cellcount.differential.counting import Counting
from cellcount.differential.profile import Profile
from cellcount.store.corrected import CorrectedImage

COLUMNS = (
    "image", "id", "number", "x0", "y0", "x1", "y1", "label", "type", "model", "prob", "second",
    "second_prob", "marks", "reviewer", "comment", "version",
)  # fmt: skip
"""Columns of a row; types are indices of those of the page, -1 for none."""

Row = list[Any]

DOUBTFUL, NOT_A_CELL, DELETED, MOVED, ADDED, REVIEWED = 1, 2, 4, 8, 16, 32
"""Bits of the column ``marks``: the cell needs a look; what a person did to it."""

_BITS = {"not_a_cell": NOT_A_CELL, "deleted": DELETED, "moved": MOVED, "added": ADDED}
_DEFAULT_KEYS = "1234567890qwertyuiopasdfghjklzxcvbnm"
_KEPT_KEYS = frozenset("bcfnz")  # of commands


@dataclass(frozen=True, slots=True)
class PageType:
    """A type that cells may be given on the page.

    Attributes:
        id, name, abbreviation: as everywhere.
        row: row of the profile that it fills, "" for none or several.
        part: ``denominator``, ``outside`` or "" for neither.
    """

    id: str
    name: str
    abbreviation: str
    row: str
    part: str


def page_types(words: Vocabulary, types: Sequence[CellClass], counting: Counting) -> list[PageType]:
    """The types that cells may be given: the classifier's, then further rows, then unclassified.

    Args:
        words: names that a reviewer may give.
        types: of the classifier.
        counting: tells the rows of each, and the profile.
    """
    profile, rows_of = counting.profile, {one.id: one.rows for one in counting.assessable}
    known = [
        PageType(t.id, t.name, t.abbreviation, *_row_of(rows_of.get(t.id, ()), profile))
        for t in types
    ]
    further = [r for r in words.rows if words.id_of(r) == r and r not in words.types]
    named = [PageType(row, profile.name_of(row), "", *_row_of((row,), profile)) for row in further]
    return [*known, *named, PageType(UNCLASSIFIED, UNCLASSIFIED, "?", "", "")]


def _row_of(rows: Sequence[str], profile: Profile) -> tuple[str, str]:
    """The row that a type fills, "" for several, and its part: denominator, outside or ""."""
    row = rows[0] if len(rows) == 1 else ""
    if rows and all(one in profile.rows for one in rows):
        return row, "denominator"
    return row, "outside" if rows and all(one in profile.outside for one in rows) else ""


def default_keys(types: Sequence[PageType]) -> dict[str, str]:
    """Key of each type as long as a person has chosen none: 1 to 9, 0, then letters."""
    free = [key for key in _DEFAULT_KEYS if key not in _KEPT_KEYS]
    named = [t.id for t in types if t.id != UNCLASSIFIED]
    return {**dict(zip(free, named, strict=False)), "?": UNCLASSIFIED}


def cell_rows(
    image: int,
    cells: CorrectedImage,
    types: Mapping[str, int],
    no_white: Collection[int],
    places: Iterable[int] | None = None,
) -> list[Row]:
    """Rows of the cells of an image.

    Args:
        image: its number on the page.
        cells: as people left them.
        types: id of each type → its index on the page.
        no_white: indices of the types whose cells leave the count of white cells: they need a look.
        places: of some cells alone, None for all.
    """
    result = cells.result
    detections = result.cells.detections
    said = result.cells.types or CellTypes.untyped(len(detections))
    which = np.arange(len(detections)) if places is None else np.array([*places], np.int64)
    columns = (
        detections.boxes_xyxy, detections.labels, said.best, said.prob, said.second,
        said.second_prob, said.accepted,
    )  # fmt: skip
    values = zip(which.tolist(), *(column[which].tolist() for column in columns), strict=True)
    open_type = types[UNCLASSIFIED]
    rows = []
    for place, box, label, best, prob, second, second_prob, accepted in values:
        state = cells.states.get(cells.ids[place])
        review, edit = result.reviewed.get(place), result.box_edits.get(place)
        marks = 0 if edit is None else _BITS[edit.change]
        counted = best if accepted or best < 0 else open_type
        if best >= 0 and (not accepted or best in no_white):
            marks |= DOUBTFUL
        reviewer = "" if edit is None else edit.reviewer
        if review is not None:
            marks |= REVIEWED
            counted, reviewer = types.get(review.type_id, open_type), review.reviewer
        rows.append([
            image,
            cells.ids[place],
            place + 1,
            *(round(v, 2) for v in box),
            label,
            counted,
            best,
            _rounded(prob),
            second,
            _rounded(second_prob),
            marks,
            reviewer,
            "" if state is None else state.comment,
            0 if state is None else state.version,
        ])  # fmt: skip
    return rows


def _rounded(value: float) -> float:
    return 0.0 if math.isnan(value) else round(value, 4)
