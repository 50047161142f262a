"""The tables: pure functions of the results, streamed, the same bytes every time.

counts.csv has a row per image, cells.csv a row per cell, types.csv a row per picture of one cell.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cellcount.core.cells import count_by_class, count_by_type, without_removed
from cellcount.core.records import REJECTED, UNCLASSIFIED, CellClass, ImageResult, ReviewerType
from cellcount.differential.field_quality import measures_of
from cellcount.errors import UsageError
from cellcount.files.atomic import atomic_write
from cellcount.outputs.columns import (
    CELLS_COLUMNS,
    PICTURE_TYPES_COLUMNS,
    TYPED_CELLS_COLUMNS,
    Column,
    TypedTable,
    Value,
    counts_columns,
)
from cellcount.outputs.excel import EXCEL_SUFFIX, check_excel, is_excel, write_workbook
from cellcount.outputs.parquet import PARQUET_SUFFIXES, check_parquet, is_parquet, write_parquet
from cellcount.outputs.run_content import Labels, RunContent
from cellcount.outputs.typed import label_values, type_values
from cellcount.settings import CsvForm

#: Endings of tables; what is written follows them.
TABLE_SUFFIXES = (".csv", ".txt", EXCEL_SUFFIX, *PARQUET_SUFFIXES)
_PLAIN = CsvForm()


def write_counts(path: Path, content: RunContent) -> None:
    """Write one row per image; a failed or excluded image has empty counts, never zeros.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    write_table(path, counts_table(content), content.csv)


def counts_table(content: RunContent) -> TypedTable:
    """The table with one row per image."""
    labels = content.labels
    constant: dict[str, Value] = {"profile": labels.profile}
    rows = (constant | _counts_values(result, labels) for result in content.results())
    columns = counts_columns(labels.classes, labels.types, rejecting=bool(labels.no_white_types))
    return TypedTable("counts", columns, map(single, rows))


def write_cells(path: Path, content: RunContent) -> None:
    """Write one row per cell, in the order of images and of cells within them.

    Results have the classifier's own types: reviewed ones have columns of their own.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    write_table(path, cells_table(content), content.csv)


def cells_table(content: RunContent) -> TypedTable:
    """The table with one row per cell."""
    labels = content.labels
    columns = TYPED_CELLS_COLUMNS if labels.types else CELLS_COLUMNS
    batches = (_cell_values(result, labels) for result in content.results())
    return TypedTable("cells", columns, batches)


def write_picture_types(
    path: Path,
    results: Iterable[ImageResult],
    types: Sequence[CellClass],
    csv: CsvForm = _PLAIN,
) -> None:
    """Write one row per picture of a single cell, which is the only cell of its result.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    rows = (single(_picture_values(result, types)) for result in results)
    write_table(path, TypedTable("types", PICTURE_TYPES_COLUMNS, rows), csv)


def check_suffix(option: str, path: Path, expected: Sequence[str]) -> None:
    """Refuse a name that promises another form than the one that is written.

    Args:
        option: that named the path.
        path: of the output.
        expected: endings of such outputs; a path without an ending is always right.

    Raises:
        UsageError: it ends otherwise.
    """
    suffix = path.suffix.lower()
    if suffix and expected and suffix not in expected:
        raise UsageError(
            f"{option} is {path}, which promises {suffix} and would hold something else; expected "
            f"a name that ends in {' or '.join(expected)}"
        )


def write_table(path: Path, table: TypedTable, csv: CsvForm = _PLAIN) -> None:
    """Write a table as CSV, or as Parquet or an Excel workbook where the path ends so.

    Args:
        path: the file.
        table: what is written.
        csv: how it is written as CSV.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    if is_parquet(path):
        write_parquet(path, table.columns, table.batches)
        return
    if is_excel(path):
        write_workbook(path, [table])
        return
    with atomic_write(path) as file:
        if csv.bom:
            file.write(codecs.BOM_UTF8)
        file.write(f"{csv.separator.join(column.name for column in table.columns)}\n".encode())
        for batch in table.batches:
            for row in _written(table.columns, batch, csv):
                file.write(f"{csv.separator.join(row)}\n".encode())


def check_forms_of(paths: Iterable[Path]) -> None:
    """Raise, before hours of work, if a table cannot be written in the form that its name asks for.

    Raises:
        UsageError: the library of the form is not installed.
    """
    named = tuple(paths)
    if any(map(is_parquet, named)):
        check_parquet()
    if any(map(is_excel, named)):
        check_excel()


def single(row: Mapping[str, Value]) -> dict[str, Sequence[Value]]:
    """Wrap a row as a batch of its own."""
    return {name: (value,) for name, value in row.items()}


def _counts_values(result: ImageResult, labels: Labels) -> dict[str, Value]:
    ref, classes, types = result.ref, labels.classes, labels.types
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
    values |= measures_of(result)
    if result.status == "done":
        values["cells"] = result.cells.counted
        values[f"n_{REJECTED}"] = len(result.cells) - result.cells.counted
        counts = count_by_class(result.cells, len(classes))
        values |= {f"n_{c.id}": int(n) for c, n in zip(classes, counts, strict=True)}
        typed = count_by_type(result.cells.types, len(types)).tolist()
        ids = [*(t.id for t in types), UNCLASSIFIED]
        # Nobody looked for what only a reviewer named: none of it is not zero.
        open_ended = {t.id for t in types if isinstance(t, ReviewerType)}
        values |= {
            f"type_{i}": None if n == 0 and i in open_ended else n
            for i, n in zip(ids, typed, strict=True)
        }
    return values


def _picture_values(result: ImageResult, types: Sequence[CellClass]) -> dict[str, Value]:
    values: dict[str, Value] = {
        "image": result.ref.image,
        "status": result.status,
        "reason": result.reason,
    }
    if result.cells.types is not None:
        values |= {name: v for name, (v,) in type_values(result.cells.types, types).items()}
    return values


def _cell_values(result: ImageResult, labels: Labels) -> dict[str, Sequence[Value]]:
    """Values of the cells by column, since a run may hold millions of cells."""
    if not labels.types:  # no column tells what a person took out
        result = without_removed(result)
    cells = result.cells
    x_min, y_min, x_max, y_max = cells.detections.boxes_xyxy.T.tolist()
    values: dict[str, Sequence[Value]] = {
        "image": [result.ref.image] * len(cells),
        "cell": range(1, len(cells) + 1) if cells.numbers is None else cells.numbers.tolist(),
        "x_min_px": x_min,
        "y_min_px": y_min,
        "x_max_px": x_max,
        "y_max_px": y_max,
        "label": [labels.classes[label].id for label in cells.detections.labels],
        "score": _scores(result),
        "edge": cells.edge.tolist(),
        "profile": [labels.profile] * len(cells),
    }
    if not labels.types:
        return values
    return values | label_values(result, labels.types, labels.no_white_types)


def _scores(result: ImageResult) -> list[Value]:
    """The detector's scores; None of cells that only a person saw."""
    scores: list[Value] = result.cells.detections.scores.tolist()
    if result.box_edits:
        unknown = np.isnan(result.cells.detections.scores).tolist()
        return [None if nan else score for nan, score in zip(unknown, scores, strict=True)]
    return scores


def _written(
    columns: Sequence[Column], batch: Mapping[str, Sequence[Value]], csv: CsvForm
) -> Iterator[tuple[str, ...]]:
    nothing = [None] * len(next(iter(batch.values()), ()))
    texts = ([column.write(v, csv) for v in batch.get(column.name, nothing)] for column in columns)
    return zip(*texts, strict=True)
