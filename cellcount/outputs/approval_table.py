"""Table of approvals: every version of a slide's numbers that a person signed off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cellcount.outputs.columns import SLIDES_COLUMNS, Column, TypedTable, Value
from cellcount.outputs.tables import single, write_table
from cellcount.settings import CsvForm
from cellcount.store.approvals import SlideApproval

_WHO = ("level", "specimen", "slide", "profile")

APPROVAL_COLUMNS = (
    *(column for column in SLIDES_COLUMNS if column.name in ("specimen", "slide")),
    Column("version", "int", "", "1 as first approved; each amended result is one more"),
    Column("approved_by", "text", "", "who approved it"),
    Column("approved_at", "text", "", "when, in UTC"),
    Column("reason", "text", "", "why the version before was amended"),
    *(column for column in SLIDES_COLUMNS if column.name not in _WHO),
)
"""Beside counts.csv once a slide is approved: each version, the oldest first."""


def approvals_path(out: Path) -> Path:
    """Path of the approvals of ``counts.csv``: ``counts.approvals.csv`` beside it."""
    return out.with_name(f"{out.stem}.approvals.csv")


def write_approvals(
    path: Path, approvals: Mapping[tuple[str, str], SlideApproval], csv: CsvForm
) -> None:
    """Write the numbers of every version of every slide.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    rows = map(single, _rows(approvals))
    write_table(path, TypedTable("approvals", APPROVAL_COLUMNS, rows), csv)


def _rows(approvals: Mapping[tuple[str, str], SlideApproval]) -> Iterator[dict[str, Value]]:
    columns = {column.name: column for column in SLIDES_COLUMNS}
    for (specimen, slide), approval in approvals.items():
        for version in approval.versions:
            about: dict[str, Value] = {
                "specimen": specimen,
                "slide": slide,
                "version": version.version,
                "approved_by": version.person,
                "approved_at": version.at,
                "reason": version.reason,
            }
            for row in version.rows:
                yield about | {name: _value(columns[name], text) for name, text in row.items()}


def _value(column: Column, text: str) -> Value:
    return text if column.dtype == "text" else column.read(text)
