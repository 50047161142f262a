"""Known cells: what a list may look like, and who is located by what."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from cellcount.control.known_cells import KnownCell, locate, read_known_cells
from cellcount.errors import UsageError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "known.csv"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,x,y\na.png,3,4.5\n", KnownCell("a.png", (3, 4.5))),
        ("image;x_px;y_px;type\na.png;3;4,5;NEU\n", KnownCell("a.png", (3, 4.5), "NEU")),
        ("image,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n", KnownCell("a.png", (1, 2, 3, 4))),
        (
            "image,cell,x_min_px,y_min_px,x_max_px,y_max_px,label,type,reviewed_type\n"
            "a,1,1,2,3,4,rbc,,\na,2,1,2,3,4,wbc,neutrophil,lymphocyte\n"
            "a,3,1,2,3,4,wbc,neutrophil,not_a_cell\na,4,1,2,3,4,wbc,neutrophil,deleted\n",
            KnownCell("a", (1, 2, 3, 4), "lymphocyte"),
        ),
    ],
)
def test_lists(tmp_path: Path, text: str, expected: KnownCell) -> None:
    assert read_known_cells(write(tmp_path, text), ["wbc"]) == [expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a list of known cells: the column image, and x and y, or"),
        ("image,x,y\n", "has no rows; .*and a row per cell"),
        ("image,a\nx,1\n", "is no list of known cells; expected the column image"),
        ("image,x,y\na,1,\n", "line 2, column y is empty"),
        ("image,x,y\na,1,b\n", "'b' is no number"),
        ("image,x,y\n,1,2\n", "column image is empty"),
        ("image,xmin,ymin,xmax,ymax\na,5,2,3,4\n", "has no area"),
        ("image,x,y,label\na,1,2,rbc\n", "lists no cells of wbc"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_known_cells(write(tmp_path, text), ["wbc"])


def test_a_point_is_located_by_a_box_that_holds_it() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    known = [KnownCell("a", place) for place in ((39, 21), (5, 5), (15, 15), (5, 6))]
    assert locate(known, boxes).tolist() == [1, 0, -1, -1]  # one cell for each detection
    assert locate(known, np.zeros((0, 4), np.float32)).tolist() == [-1] * 4
    assert locate([], boxes).tolist() == []


def test_a_box_is_located_by_half_an_overlap() -> None:
    known = [KnownCell("a", (0, 0, 10, 10))]
    for width, found in ((20, 0), (21, -1)):  # IoU 0.5 and less
        boxes = np.array([[0, 0, width, 10]], np.float32)
        assert locate(known, boxes).tolist() == [found]


def test_as_many_as_possible_are_located() -> None:
    """Against trying every assignment."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        corners = rng.uniform(0, 30, (4, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 20, (4, 2))], 1)
        points = rng.uniform(0, 40, (4, 2))
        holds = (points[:, None] >= boxes[None, :, :2]) & (points[:, None] <= boxes[None, :, 2:])
        inside = np.asarray(holds.all(axis=2))
        best = max(sum(inside[k, j] for k, j in enumerate(p)) for p in permutations(range(4)))
        known = [KnownCell("a", tuple(p)) for p in points.tolist()]
        assert (locate(known, boxes.astype(np.float32)) >= 0).sum() == best
