"""Cells as the page gets them: a row of plain values each, in columns that are named once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellcount.analysis.reviewer_types import Vocabulary
from cellcount.core.records import UNCLASSIFIED, CellClass, CellTypes
from cellcount.differential.profile import Profile
from cellcount.store.corrected import CorrectedImage

COLUMNS = (
    "image", "id", "number", "x0", "y0", "x1", "y1", "label", "type", "model", "prob", "second",
    "second_prob", "marks", "reviewer", "comment", "version",
)  # fmt: skip
"""Columns of a row; types are indices of those of the page, -1 for none."""

Row = list[Any]

DOUBTFUL, NOT_A_CELL, DELETED, MOVED, ADDED, REVIEWED = 1, 2, 4, 8, 16, 32
"""Bits of the column ``marks``: the classifier was not sure; what a person did to the cell."""

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
        is_known: the classifier can name it.
    """

    id: str
    name: str
    abbreviation: str
    row: str
    part: str
    is_known: bool


def page_types(words: Vocabulary, types: Sequence[CellClass], profile: Profile) -> list[PageType]:
    """The types that cells may be given: the classifier's, then further rows, then unclassified."""
    row_of: dict[str, str] = {}
    further = []
    for row in words.rows:
        meaning = words.id_of(row)
        row_of.setdefault(meaning, row)
        if meaning == row and row not in words.types:
            further.append(row)

    def part(type_id: str) -> str:
        row = row_of.get(type_id, type_id)
        if row in profile.rows:
            return "denominator"
        return "outside" if row in profile.outside else ""

    known = [
        PageType(t.id, t.name, t.abbreviation, row_of.get(t.id, ""), part(t.id), is_known=True)
        for t in types
    ]
    named = [
        PageType(row, profile.name_of(row), "", row, part(row), is_known=False) for row in further
    ]
    open_one = PageType(UNCLASSIFIED, UNCLASSIFIED, "?", "", "", is_known=False)
    return [*known, *named, open_one]


def default_keys(types: Sequence[PageType]) -> dict[str, str]:
    """Key of each type as long as a person has chosen none: 1 to 9, 0, then letters."""
    free = [key for key in _DEFAULT_KEYS if key not in _KEPT_KEYS]
    named = [t.id for t in types if t.id != UNCLASSIFIED]
    return {**dict(zip(free, named, strict=False)), "?": UNCLASSIFIED}


def cell_rows(
    image: int,
    cells: CorrectedImage,
    types: Mapping[str, int],
    places: Iterable[int] | None = None,
) -> list[Row]:
    """Rows of the cells of an image.

    Args:
        image: its number on the page.
        cells: as people left them.
        types: id of each type → its index on the page.
        places: of some cells alone, None for all.
    """
    result = cells.result
    detections = result.cells.detections
    said = result.cells.types or CellTypes.untyped(len(detections))
    boxes, labels = detections.boxes_xyxy.tolist(), detections.labels.tolist()
    best, prob = said.best.tolist(), said.prob.tolist()
    second, second_prob = said.second.tolist(), said.second_prob.tolist()
    accepted, open_type = said.accepted.tolist(), types[UNCLASSIFIED]
    rows = []
    for place in range(len(boxes)) if places is None else places:
        state = cells.states.get(cells.ids[place])
        review, edit = result.reviewed.get(place), result.box_edits.get(place)
        marks = 0 if edit is None else _BITS[edit.change]
        counted = best[place] if accepted[place] or best[place] < 0 else open_type
        if best[place] >= 0 and not accepted[place]:
            marks |= DOUBTFUL
        reviewer = "" if edit is None else edit.reviewer
        if review is not None:
            marks |= REVIEWED
            counted, reviewer = types.get(review.type_id, open_type), review.reviewer
        rows.append([
            image,
            cells.ids[place],
            place + 1,
            *(round(v, 2) for v in boxes[place]),
            labels[place],
            counted,
            best[place],
            _rounded(prob[place]),
            second[place],
            _rounded(second_prob[place]),
            marks,
            reviewer,
            "" if state is None else state.comment,
            0 if state is None else state.version,
        ])  # fmt: skip
    return rows


def _rounded(value: float) -> float:
    return 0.0 if math.isnan(value) else round(value, 4)
