"""Read and check tables that cellcount has written."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas

from cellcount.errors import OutputError
from cellcount.outputs.columns import (
    _COUNTS_COLUMNS,
    SLIDES_COLUMNS,
    TYPED_CELLS_COLUMNS,
    Column,
    Value,
    _count_column,
    _type_count_column,
)

_PANDAS_DTYPES = {"text": "object", "int": "Int64", "float": "float64", "bool": "boolean"}


def read_table(path: Path, columns: Sequence[Column] | None = None) -> pandas.DataFrame:
    """A table of ours with the texts as they were and typed columns; for tables that fit.

    Args:
        path: the CSV, comma or semicolon.
        columns: its columns; when None they are known by their names, and unknown ones are text.

    Raises:
        OutputError: the columns differ, or a field does not hold its column's type.
    """
    with _opened(path) as (header, rows):
        if columns is not None and header != [c.name for c in columns]:
            raise OutputError(_wrong_header(path, header, columns))
        columns = columns or [_column_named(name) for name in header]
        fields: list[list[Value]] = [[] for _ in columns]
        for line, row in rows:
            if len(row) != len(columns):
                raise OutputError(f"{path}: {_wrong_length(line, row, columns)}")
            for values, column, text in zip(fields, columns, row, strict=True):
                try:
                    values.append(column.read(text))
                except ValueError as error:
                    raise OutputError(f"{path}: {_wrong_field(line, column, error)}") from error
    series = {
        column.name: pandas.Series(values, dtype=_PANDAS_DTYPES[column.dtype])
        for column, values in zip(columns, fields, strict=True)
    }
    return pandas.DataFrame(series, columns=list(series))


def check_table(path: Path, columns: Sequence[Column], most: int = 20) -> list[str]:
    """Faults of a table, a sentence each, at most ``most`` of them; constant memory."""
    problems: list[str] = []
    with _opened(path) as (header, rows):
        if header != [c.name for c in columns]:
            return [_wrong_header(path, header, columns)]
        for line, row in rows:
            if len(row) != len(columns):
                problems.append(_wrong_length(line, row, columns))
            else:
                for column, text in zip(columns, row, strict=True):
                    try:
                        column.read(text)
                    except ValueError as error:
                        problems.append(_wrong_field(line, column, error))
            if len(problems) >= most:
                return problems[:most]
    return problems


def markdown(columns: Sequence[Column]) -> str:
    """The columns as a Markdown table, for the documentation."""
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for column in columns:
        meaning = column.meaning.replace("|", "\\|")
        lines.append(f"| `{column.name}` | {column.dtype} | {column.unit} | {meaning} |")
    return "\n".join(lines) + "\n"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """Header and rows with the line they end on; the separator is seen in the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = ";" if ";" in file.readline() else ","
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = next(reader, [])
            yield header, ((reader.line_num, row) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OutputError(f"cannot read {path} as a table: {error}") from error


def _column_named(name: str) -> Column:
    fixed = (*_COUNTS_COLUMNS, *TYPED_CELLS_COLUMNS, *SLIDES_COLUMNS)
    known = {c.name: c for c in reversed(fixed)}
    if name in known:
        return known[name]
    if name.startswith("n_"):
        return _count_column(name[2:], name[2:])
    if name.startswith("type_"):
        return _type_count_column(name[5:], name[5:])
    return Column(name, "text", "", "")


def _wrong_header(path: Path, header: list[str], columns: Sequence[Column]) -> str:
    expected = [c.name for c in columns]
    missing = ", ".join(name for name in expected if name not in header) or "none"
    unknown = ", ".join(name for name in header if name not in expected) or "none"
    order = " in this order" if set(header) == set(expected) else ""
    return (
        f"{path} has columns {','.join(header)}; expected {','.join(expected)}{order} "
        f"(missing: {missing}; unknown: {unknown})"
    )


def _wrong_length(line: int, row: list[str], columns: Sequence[Column]) -> str:
    return f"line {line}: {len(row)} fields, expected {len(columns)}"


def _wrong_field(line: int, column: Column, error: ValueError) -> str:
    return f"line {line}, column {column.name}: {error}"
