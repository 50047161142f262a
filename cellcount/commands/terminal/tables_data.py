"""A look at a data set as tables for a person, and as JSON and CSV rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cellcount.files.text import and_more, number_of, shown

if TYPE_CHECKING:
    from pathlib import Path

    from cellcount.datasets.inspection import DecodedPicture, Inspection

_SHOWN = 10
_BAR = 20
_SIZES = 4


def show_inspection(console: Console, found: Inspection, root: Path) -> None:
    """Print classes, sizes, broken files and copies; paths are relative to ``root``."""
    kind = "fields with boxes" if found.fields else "one cell per picture"
    pictures = number_of(len(found.pictures), "picture")
    cells = number_of(found.cells, "cell")
    console.print(f"{pictures}, {cells}; read as {found.format}: {kind}", markup=False)
    console.print(f"sizes: {_sizes(found)}", markup=False)
    console.print()
    console.print(_classes(found))
    _show_problems(console, found)
    _show_copies(console, found, root)
    if found.shared_patients:
        patients = number_of(len(found.shared_patients), "patient")
        first = ", ".join(map(shown, found.shared_patients[:5]))
        console.print(f"{patients} in more than one split, first: {first}", markup=False)


COPY_COLUMNS = (
    "first", "second", "first_split", "second_split", "first_label", "second_label", "bits",
)  # fmt: skip


def copy_rows(found: Inspection) -> list[dict[str, str | int]]:
    """One row per pair of copies."""
    rows: list[dict[str, str | int]] = []
    for copy in found.copies:
        a, b = copy.first, copy.second
        texts = (str(a.path), str(b.path), a.split, b.split, a.label, b.label)
        rows.append({**dict(zip(COPY_COLUMNS, texts, strict=False)), "bits": copy.bits})
    return rows


def inspection_dict(found: Inspection) -> dict[str, Any]:
    """Return all findings as JSON-ready values."""
    return {
        "format": found.format,
        "pictures": len(found.pictures),
        "cells": found.cells,
        "classes": {name: dict(by_split) for name, by_split in found.counts.items()},
        "sizes_px": [
            {"width": width, "height": height, "pictures": count}
            for (width, height), count in found.sizes_px().most_common()
        ],
        "box_sides_px": {name: _spread(sides) for name, sides in found.sides_px.items()},
        "left_out": found.left_out,
        "problems": [{"file": str(p.path), "what": p.what} for p in found.problems],
        "copies": copy_rows(found),
        "shared_patients": list(found.shared_patients),
    }


def _sizes(found: Inspection) -> str:
    counted = found.sizes_px().most_common()
    several = len(counted) > 1
    named = [f"{w}×{h} px" + (f" ({n:,})" if several else "") for (w, h), n in counted[:_SIZES]]
    more = len(counted) - len(named)
    return ", ".join(named) + (f" and {number_of(more, 'other')}" if more else "")


def _classes(found: Inspection) -> Table:
    splits = [s for s in found.splits if s]
    unsplit = "" in found.splits and splits
    table = Table(title="Cells per class", title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD)  # fmt: skip
    table.add_column("class")
    columns = ["cells", "share", *splits, *(["no split"] if unsplit else [])]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    if found.sides_px:
        table.add_column("longer side, px", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    most = max((sum(n.values()) for n in found.counts.values()), default=0)
    for name, by_split in found.counts.items():
        total = sum(by_split.values())
        named = [*splits, *([""] if unsplit else [])]
        row = [f"{total:,}", f"{total / max(found.cells, 1):.1%}"]
        row += [f"{by_split.get(split, 0):,}" for split in named]
        if found.sides_px:
            row.append(_spread_text(found.sides_px.get(name, ())))
        table.add_row(escape(shown(name)), *row, "█" * round(_BAR * total / max(most, 1)))
    return table


def _spread(sides: tuple[float, ...]) -> dict[str, float]:
    import numpy as np

    low, middle, high = np.quantile(sides, (0.05, 0.5, 0.95)).round(1).tolist()
    return {"p5": low, "median": middle, "p95": high}


def _spread_text(sides: tuple[float, ...]) -> str:
    """The median with the middle nine tenths."""
    if not sides:
        return "–"
    spread = _spread(sides)
    return f"{spread['median']:.0f} ({spread['p5']:.0f}–{spread['p95']:.0f})"


def _show_problems(console: Console, found: Inspection) -> None:
    if not found.problems:
        console.print("broken files and boxes: none")
        return
    if found.left_out:
        console.print(f"pictures left out: {found.left_out:,}", style="bold")
    console.print(f"broken files and boxes: {len(found.problems):,}", style="bold")
    for problem in found.problems[:_SHOWN]:
        console.print(f"  {shown(problem)}", markup=False, soft_wrap=True)
    if more := and_more(len(found.problems), _SHOWN):
        console.print(f" {more}")


def _show_copies(console: Console, found: Inspection, root: Path) -> None:
    if not found.copies:
        console.print("near-identical pictures: none")
        return
    pairs = number_of(len(found.copies), "pair")
    differing = sum(copy.contradicts for copy in found.copies)
    labels = f", {differing:,} with different labels" if differing else ""
    console.print(f"near-identical pictures: {pairs}{labels}", style="bold")
    for (low, high), count in sorted(Counter(copy.splits for copy in found.copies).items()):
        low, high = low or "no split", high or "no split"
        where = f"within {low}" if low == high else f"across {low} and {high}"
        console.print(f"  {where}: {count:,}", markup=False)
    ordered = sorted(found.copies, key=lambda copy: not copy.crosses)
    for copy in ordered[:_SHOWN]:
        console.print(
            f"  {_seen(copy.first, root)} = {_seen(copy.second, root)}",
            markup=False,
            soft_wrap=True,
        )
    if more := and_more(len(ordered), _SHOWN):
        console.print(f" {more}; --copies FILE lists them all")


def _seen(picture: DecodedPicture, root: Path) -> str:
    """Path, split and label of a picture."""
    about = ", ".join(shown(text) for text in (picture.split, picture.label) if text)
    inside = picture.path.is_relative_to(root) and picture.path != root
    path = shown(picture.path.relative_to(root) if inside else picture.path)
    return f"{path} ({about})" if about else path
