"""counts.csv and cells.csv: pure functions of the results, streamed, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cellcount.cells import count_by_class
from cellcount.outputs.atomic import atomic_write
from cellcount.outputs.schema import CELLS_COLUMNS, Column, Separator, Value, counts_columns
from cellcount.records import CellClass, ImageResult


def write_counts(
    path: Path,
    results: Iterable[ImageResult],
    classes: Sequence[CellClass],
    separator: Separator = ",",
) -> None:
    """Write one row per image; a failed or excluded image has empty counts, never zeros.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    columns = counts_columns(classes)
    rows = (_counts_row(result, classes, columns) for result in results)
    _write(path, columns, rows, separator)


def write_cells(
    path: Path,
    results: Iterable[ImageResult],
    classes: Sequence[CellClass],
    separator: Separator = ",",
) -> None:
    """Write one row per cell, in the order of images and of cells within them.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    rows = (row for result in results for row in _cell_rows(result, classes))
    _write(path, CELLS_COLUMNS, rows, separator)


def _write(
    path: Path, columns: Sequence[Column], rows: Iterable[Sequence[str]], separator: Separator
) -> None:
    with atomic_write(path) as file:
        file.write(f"{separator.join(column.name for column in columns)}\n".encode())
        for row in rows:
            file.write(f"{separator.join(row)}\n".encode())


def _counts_row(
    result: ImageResult, classes: Sequence[CellClass], columns: Sequence[Column]
) -> list[str]:
    ref = result.ref
    values: dict[str, Value] = {
        "image": ref.image,
        "slide": ref.slide,
        "specimen": ref.specimen,
        "status": result.status,
        "reason": result.reason,
        "width_px": result.width_px or None,
        "height_px": result.height_px or None,
        "um_per_px": result.um_per_px,
        "scale_factor": result.scale_factor,
    }
    if result.status == "done":
        values["cells"] = len(result.cells)
        counts = count_by_class(result.cells, len(classes))
        values |= {f"n_{c.id}": int(n) for c, n in zip(classes, counts, strict=True)}
    return [column.write(values.get(column.name)) for column in columns]


def _cell_rows(result: ImageResult, classes: Sequence[CellClass]) -> Iterator[tuple[str, ...]]:
    """Columnwise, because a run may hold millions of cells."""
    cells = result.cells
    x_min, y_min, x_max, y_max = cells.detections.boxes_xyxy.T.tolist()
    values: dict[str, Sequence[Value]] = {
        "image": [result.ref.image] * len(cells),
        "cell": range(1, len(cells) + 1),
        "x_min_px": x_min,
        "y_min_px": y_min,
        "x_max_px": x_max,
        "y_max_px": y_max,
        "label": [classes[label].id for label in cells.detections.labels],
        "score": cells.detections.scores.tolist(),
        "edge": cells.edge.tolist(),
    }
    texts = ([column.write(v) for v in values[column.name]] for column in CELLS_COLUMNS)
    return zip(*texts, strict=True)
