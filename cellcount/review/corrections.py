"""Reading of a filled-in corrections.csv: every row must name a known cell and a known type.

A spreadsheet may have put its rows in another order, left out columns, or written semicolons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cellcount.analysis.stored_results import StoredResults
from cellcount.core.records import UNCLASSIFIED, ImageRef, ImageResult
from cellcount.errors import UsageError
from cellcount.files.names import NameLookup
from cellcount.files.sheets import read_grid
from cellcount.outputs.columns import Value
from cellcount.outputs.typed import label_values
from cellcount.review.export import check_of_cell, vocabulary_of
from cellcount.review.not_applied import not_applied
from cellcount.store.corrected import CorrectedImage

_NEEDED = ("image", "cell", "corrected_type")
_EXPECTED = "corrections.csv of cellcount review export, with the column corrected_type filled in"


@dataclass(frozen=True, slots=True)
class Correction:
    """One filled-in row.

    Attributes:
        image: identity of the image, never its code.
        cell: place of the cell there, from 0.
        model_type: what the model called it, "" where it had not typed it.
        type_id: what the reviewer calls it, ``not_a_cell`` included.
        comment: as written.
    """

    image: str
    cell: int
    model_type: str
    type_id: str
    comment: str


@dataclass(frozen=True, slots=True)
class Corrections:
    """A table that was read.

    Attributes:
        rows: those that are filled in, each cell once.
        empty: rows that are not.
    """

    rows: tuple[Correction, ...]
    empty: int


class _Reader:
    """Reads rows one by one; remembers earlier rows to find contradictions."""

    def __init__(self, stored: StoredResults) -> None:
        self._stored = stored
        self._words = vocabulary_of(stored)
        self._refs = stored.by_name()
        self._refs |= {n.strip(): r for n, r in self._refs.items() if n.strip() not in self._refs}
        self._names = NameLookup(self._refs)
        self._known: dict[str, tuple[ImageResult, dict[str, list[Value]]] | None] = {}
        self._images: dict[str, CorrectedImage | None] = {}
        self._said: dict[tuple[str, str], tuple[Correction, str]] = {}
        self.rows: dict[tuple[str, int], Correction] = {}

    def row(self, line: Mapping[str, str], where: str) -> None:
        """Read one filled-in row.

        Raises:
            ValueError: what is wrong with it.
        """
        name = self._names.find(line["image"])
        ref = None if name is None else self._refs.get(name)
        known = None if name is None or ref is None else self._result(name, ref)
        if ref is None or known is None:
            raise ValueError(f"these results have no image {line['image']!r}")
        result, values = known
        count = len(result.cells)
        cell = int(line["cell"]) - 1 if line["cell"].isdecimal() else -1
        if not 0 <= cell < count:
            numbered = f"cells 1 to {count}" if count else "no cells"
            raise ValueError(f"there is no cell {line['cell']!r}; {name} has {numbered}")
        if line["check"] and line["check"] != check_of_cell(result, cell, values):
            raise ValueError(
                "the cell is another one now: the row was exported from other results, or its "
                "columns image, cell or check were changed; export again"
            )
        model_type = str(values["type"][cell] or "")
        type_id = self._words.id_of(line["corrected_type"])
        if type_id == UNCLASSIFIED and not model_type:
            raise ValueError("the classifier did not type this cell, so it cannot be left open")
        one = Correction(ref.image, cell, model_type, type_id, line["comment"])
        before, there = self._said.setdefault(self._identity(ref, cell), (one, where))
        if before.type_id != one.type_id:
            copy = "" if before.image == one.image else " (in a copy of the image)"
            raise ValueError(
                f"{there} calls the same cell{copy} {before.type_id}; keep one of both"
            )
        self.rows.setdefault((ref.image, cell), one)

    def _identity(self, ref: ImageRef, cell: int) -> tuple[str, str]:
        """Identity of a cell that every copy of its image shares."""
        if ref.image not in self._images:
            self._images[ref.image] = self._stored.journal.corrected(ref)
        image = self._images[ref.image]
        return (ref.image, str(cell)) if image is None else image.identity(cell)

    def _result(
        self, name: str, ref: ImageRef
    ) -> tuple[ImageResult, dict[str, list[Value]]] | None:
        if name not in self._known:
            found = next(self._stored.unnamed([ref]), None)
            told = None if found is None else self._stored.outputs.names.result(found)
            labels = self._stored.run.facts.labels
            self._known[name] = (
                None
                if told is None
                else (told, label_values(told, labels.types, labels.no_white_types))
            )
        return self._known[name]


def read_corrections(path: Path, stored: StoredResults) -> Corrections:
    """The corrections of a table.

    Raises:
        UsageError: it is no such table, or some of its rows cannot be used: each is named.
    """
    grid = read_grid(path, _EXPECTED, least_rows=0, sheets=("corrections",))
    missing = [name for name in _NEEDED if not grid.has(name)]
    if missing:
        raise UsageError(f"{path} has no column {', '.join(missing)}; expected {_EXPECTED}")
    reader, errors, empty = _Reader(stored), list[str](), 0
    for line in grid.lines:
        if not line["corrected_type"]:
            empty += 1
            continue
        where = f"row {grid.row(line)}"
        try:
            reader.row(line, where)
        except ValueError as error:
            errors.append(f"{where}: {error}")
    if errors:
        raise not_applied(path, errors)
    return Corrections(tuple(reader.rows.values()), empty)
