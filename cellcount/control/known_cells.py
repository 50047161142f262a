"""Known white cells of a control slide, and which of them were located.

The list is a CSV with a row per cell: ``image``, and either ``x`` and ``y`` of a point on the cell
or its corners ``x_min``, ``y_min``, ``x_max``, ``y_max``, in pixels of the image; ``type`` where it
is known. A reviewed cells.csv is such a list: its cells of other classes, and those that a reviewer
took out, are passed over.

Shapes: K known cells, N detections; boxes (N, 4) xyxy in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import TAKEN_OUT
from cellcount.errors import UsageError
from cellcount.files.sheets import Grid, number, read_grid

_POINT = ("x", "y")
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_ALIASES = {name: (name, f"{name}_px", name.replace("_", "")) for name in (*_POINT, *_CORNERS)}
_EXPECTED = "the column image, and x and y, or x_min, y_min, x_max and y_max"
_LEAST_IOU = 0.5
_LARGEST_PX = 1e7


@dataclass(frozen=True, slots=True)
class KnownCell:
    """One cell that is known to be there.

    Attributes:
        image: as the list names it.
        place: ``(x, y)`` of a point on it, or its box xyxy.
        type_name: its type as the list has it, or "".
    """

    image: str
    place: tuple[float, ...]
    type_name: str = ""


def read_known_cells(path: Path, classes: Sequence[str]) -> list[KnownCell]:
    """The cells of a list, in its order.

    Args:
        path: the CSV.
        classes: of the detector that are white cells; where the list has the column ``label``,
            rows of other classes are passed over.

    Raises:
        UsageError: it is no such list; says where.
    """
    grid = read_grid(
        path, f"a list of known cells: {_EXPECTED}, and a row per cell", sheets=("cells",)
    )
    columns = {n: next((a for a in names if grid.has(a)), "") for n, names in _ALIASES.items()}
    asked = _POINT if all(columns[name] for name in _POINT) else _CORNERS
    if not grid.has("image") or not all(columns[name] for name in asked):
        raise UsageError(
            f"{path} is no list of known cells; expected {_EXPECTED}; it has "
            f"{', '.join(grid.header)}"
        )
    cells = []
    for line in grid.lines:
        if grid.has("label") and line["label"] not in classes:
            continue
        if line["reviewed_type"] in TAKEN_OUT:
            continue
        if not line["image"]:
            raise UsageError(f"{grid.where(line)}, column image is empty")
        place = tuple(_pixel(grid, line, columns[name]) for name in asked)
        if asked is _CORNERS and not (place[0] < place[2] and place[1] < place[3]):
            raise UsageError(f"{grid.where(line)}: the box {place} has no area")
        cells.append(KnownCell(line["image"], place, line["reviewed_type"] or line["type"]))
    if not cells:
        raise UsageError(f"{path} lists no cells of {', '.join(classes)}")
    return cells


def _pixel(grid: Grid, line: Mapping[str, str], name: str) -> float:
    value = number(grid, line, name, -_LARGEST_PX, _LARGEST_PX)
    if value is None:
        raise UsageError(f"{grid.where(line)}, column {name} is empty")
    return value


def locate(known: Sequence[KnownCell], boxes_xyxy: NDArray[np.float32]) -> NDArray[np.intp]:
    """The detection that located each known cell of one image, -1 where none did; int (K,).

    A point is located by a box that holds it, a box by one that overlaps it by an IoU of 0.5; each
    detection locates one cell. As many cells as possible are located, the nearest first choice.

    Args:
        known: cells of the image, K.
        boxes_xyxy: white cells that were found on it, (N, 4).
    """
    found = np.full(len(known), -1, np.intp)
    if not len(known) or not len(boxes_xyxy):
        return found
    worst = 1e6
    costs = np.stack([_costs(one, boxes_xyxy) for one in known])  # (K, N)
    costs = np.where(np.isfinite(costs), costs, worst)
    for row, column in zip(*linear_sum_assignment(costs), strict=True):
        if costs[row, column] < worst:
            found[row] = column
    return found


def _costs(one: KnownCell, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the misfit of each box, 0 to 1; infinite where it does not locate the cell; (N,)."""
    if len(one.place) == 4:
        ious = pairwise_iou(np.array([one.place], np.float32), boxes_xyxy)[0].astype(np.float64)
        return np.where(ious >= _LEAST_IOU, 1 - ious, np.inf)
    corners = boxes_xyxy.astype(np.float64)
    point = np.array(one.place)
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 1e-6)
    centre = (corners[:, :2] + corners[:, 2:]) / 2
    away = np.abs(point - centre) / (sides / 2)  # (N, 2): 1 at the side of the box
    return np.where((away <= 1).all(axis=1), np.linalg.norm(away, axis=1) / 2, np.inf)
