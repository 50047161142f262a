"""The tables of a review: corrections.csv, which a person fills in, and the history of all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cellcount.core.records import NOT_A_CELL
from cellcount.outputs.columns import CELLS_COLUMNS, TYPE_COLUMNS, Column, TypedTable, Value
from cellcount.outputs.tables import single, write_table
from cellcount.settings import CsvForm
from cellcount.store.edits import Edit, EditKind

_CELL = {c.name: c for c in (*CELLS_COLUMNS, *TYPE_COLUMNS)}

CORRECTIONS_COLUMNS = (
    _CELL["image"],
    _CELL["cell"],
    Column(
        "crop", "text", "", "picture of the cell beside the table; empty where the image is gone"
    ),
    _CELL["type"],
    _CELL["type_prob"],
    _CELL["type_2"],
    _CELL["type_2_prob"],
    Column("reviewed_type", "text", "", "type that a reviewer gave before, if any"),
    Column("reviewer", "text", "", "who gave it"),
    Column(
        "corrected_type",
        "text",
        "",
        "**fill in**: the type that the cell is, also where the model is right, or `not_a_cell`; "
        "leave empty what was not looked at",
    ),
    Column("comment", "text", "", "fill in if you wish; it is kept"),
    Column("check", "text", "", "ties the row to this very cell; leave as it is"),
)
"""corrections.csv, one row per cell that needs a look, the least sure first."""

HISTORY_COLUMNS = (
    _CELL["image"],
    _CELL["cell"],
    Column("model_type", "text", "", "what the model called it then"),
    Column(
        "reviewed_type",
        "text",
        "",
        "type that the reviewer gave, or what was done to the cell: `not_a_cell`, `deleted`, "
        "`moved`, `added`, `undone`",
    ),
    Column("reviewer", "text", "", "who gave it"),
    Column("reviewed_at", "text", "", "when, in UTC"),
    Column("comment", "text", "", "as the reviewer wrote it"),
    Column("table", "text", "", "name of the table it was read from, a code where names are"),
)
"""Beside counts.csv once cells are reviewed: every review ever given, the oldest first."""

_DONE: dict[EditKind, str] = {
    "retype": "",
    "not_a_cell": NOT_A_CELL,
    "delete": "deleted",
    "move": "moved",
    "add": "added",
    "comment": "",
    "undo": "undone",
}
"""Type in the tables where a person gave none."""


def history_path(out: Path) -> Path:
    """Return the path of the history of ``counts.csv``: ``counts.reviews.csv`` beside it."""
    return out.with_name(f"{out.stem}.reviews.csv")


def write_history(path: Path, edits: Iterable[Edit], csv: CsvForm) -> None:
    """Write a row per edit; they are only ever added to.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    rows = (single(_history_row(one)) for one in edits)
    write_table(path, TypedTable("reviews", HISTORY_COLUMNS, rows), csv)


def write_corrections(
    path: Path,
    rows: Iterable[Mapping[str, Value]],
    csv: CsvForm,
) -> None:
    """Write the table to fill in.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    write_table(path, TypedTable("corrections", CORRECTIONS_COLUMNS, map(single, rows)), csv)


def check_of(image: str, cell: int, box_xyxy: Sequence[float], said: Sequence[Value]) -> str:
    """Return the check value that ties a row of corrections.csv to its cell.

    Args:
        image: its identity, as the tables tell it.
        cell: its place there, from 0.
        box_xyxy: its box.
        said: what the model said of it.
    """
    box = ",".join(f"{v:.2f}" for v in box_xyxy)
    text = f"{image}\n{cell}\n{box}\n{said}".encode("utf-8", "surrogatepass")
    return f"c-{hashlib.sha256(text).hexdigest()[:10]}"


def _history_row(one: Edit) -> dict[str, Value]:
    return {
        "image": one.image,
        "cell": one.rank + 1,
        "model_type": one.model_type,
        "reviewed_type": one.type_id or _DONE[one.kind],
        "reviewer": one.reviewer,
        "reviewed_at": one.made_at,
        "comment": one.comment,
        "table": one.source,
    }
