"""Rows of ``analyze`` on some inputs, and the files that it passed over."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from cellcount.core.records import ImageRef, Picture
from cellcount.images.read import read_image
from tests.faults.recipes import Run

MAX_PIXELS = 10_000_000


@dataclass(frozen=True)
class Row:
    """A row of counts.csv: status, reason, and (red, white, platelets)."""

    status: str
    reason: str
    cells: tuple[int, int, int]


@dataclass(frozen=True)
class Counted:
    """Rows by image, and reasons of what was passed over by its path."""

    rows: dict[str, Row]
    passed_over: dict[str, str]


def count(run: Run, *inputs: str) -> Counted:
    """Counts the inputs with the packaged detector."""
    run("analyze", *inputs, "--classifier", "none", "--out", "o.csv", "--fresh")
    with open("o.csv", newline="", encoding="utf-8") as file:
        rows = {r["image"]: _row(r) for r in csv.DictReader(file)}
    record = json.loads(Path("o.run.json").read_text())
    return Counted(rows, {one["path"]: one["reason"] for one in record["passed_over"]})


def _row(cells: dict[str, str]) -> Row:
    red, white, platelets = (int(cells[n] or 0) for n in ("n_rbc", "n_wbc", "n_platelet"))
    return Row(cells["status"], cells["reason"], (red, white, platelets))


def read(path: str | Path, page: int = 0) -> Picture:
    """Reads a file as ``analyze`` does."""
    return read_image(ImageRef(Path(path), "a", "s", page=page), max_pixels=MAX_PIXELS)


def is_near(cells: tuple[int, int, int], expected: tuple[int, int, int]) -> bool:
    """Compare counts with those of the plain field, but for a cell or two at the limit."""
    return all(abs(a - b) <= max(1, b // 20) for a, b in zip(cells, expected, strict=True))
