"""The columns of every table, declared once: they drive writer, reader, check and documentation.

Tables are UTF-8 CSV with ``\\n`` line ends, a decimal point whatever the separator, and nothing
where a value is missing. Two things are done to text, both undone by `read_table`:

- an apostrophe is put before a leading ``= + - @ '`` tab or line end, so that no spreadsheet
  runs a file name as a formula;
- bytes of a file name that are no valid UTF-8 are written as ``\\udc80`` … ``\\udcff``, and a
  backslash that could be mistaken for the start of such an escape as ``\\x5c``.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from cellcount.core.records import UNCLASSIFIED, CellClass, ReviewerType
from cellcount.errors import OutputError
from cellcount.files.table_text import escape_text as escape_text
from cellcount.files.table_text import unescape_text as unescape_text

if TYPE_CHECKING:
    import pandas

Dtype = Literal["text", "int", "float", "bool"]
Value: TypeAlias = str | int | float | bool | None
Separator = Literal[",", ";"]

_NEEDS_QUOTES = re.compile(r'[",;\r\n]')
_PANDAS_DTYPES = {"text": "object", "int": "Int64", "float": "float64", "bool": "boolean"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: as in the header.
        dtype: text, int, float or bool (written ``true`` and ``false``).
        unit: unit of the values, "" where there is none.
        meaning: one sentence for the documentation.
        form: format of floats, as in ``format(value, form)``.
        choices: the only texts allowed, where they are few.
    """

    name: str
    dtype: Dtype
    unit: str
    meaning: str
    form: str = ""
    choices: tuple[str, ...] = ()

    def write(self, value: Value) -> str:
        """One value as it stands in the file; nothing for None and for what is no number."""
        if value is None:
            return ""
        if self.dtype == "text":
            return _quoted(escape_text(str(value)))
        if self.dtype == "bool":
            return "true" if value else "false"
        number = float(value)
        if not math.isfinite(number):
            return ""
        return format(number, self.form) if self.dtype == "float" else str(int(value))

    def read(self, text: str) -> Value:
        """The value of one field; None for an empty number, "" for an empty text.

        Raises:
            ValueError: the field does not hold this column's type.
        """
        if self.dtype == "text":
            value = unescape_text(text)
            if self.choices and value not in self.choices:
                raise ValueError(f"{value!r} is none of {', '.join(self.choices)}")
            return value
        if text == "":
            return None
        if self.dtype == "bool":
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return text.lower() == "true"
        try:
            return int(text) if self.dtype == "int" else float(text)
        except ValueError:
            raise ValueError(f"{text!r} is no {self.dtype}") from None


_IMAGE = Column(
    "image", "text", "", "path of the image relative to its INPUT; pages end in `#page=2`"
)

_PROFILE = Column(
    "profile",
    "text",
    "",
    "profile by which cells are counted, with its version; `(forced)` where the models do not fit",
)
_STATUS = Column(
    "status",
    "text",
    "",
    "`done`, `failed` (could not be analysed) or `excluded` (left out on purpose)",
    choices=("done", "failed", "excluded"),
)
_REASON = Column(
    "reason", "text", "", "why it failed or was excluded, or what to mind about a done image"
)

QUALITY_COLUMNS = (
    Column(
        "focus",
        "float",
        "",
        "sharpness of edges, about 1 or more when sharp, near 0 when hopelessly blurred; it does "
        "not depend on density, stain or light; empty where hardly anything is stained",
        ".3f",
    ),
    Column("exposure", "float", "", "brightness of the clear background, 0 to 255", ".1f"),
    Column(
        "clipped_percent",
        "float",
        "%",
        "pixels of which a channel is as dark or as bright as can be",
        ".2f",
    ),
    Column(
        "stain_balance",
        "float",
        "",
        "the red channel's share of the stain's optical density: higher for a bluer stain; empty "
        "where hardly anything is stained",
        ".3f",
    ),
    Column("stained_percent", "float", "%", "pixels clearly darker than the glass around", ".2f"),
    Column(
        "cells_per_mpx",
        "float",
        "cells/Mpx",
        "cells per million pixels at the model's scale; empty unless done",
        ".1f",
    ),
    Column("edge_percent", "float", "%", "counted cells that the image's edge cuts", ".1f"),
)
"""What counts.csv says of the quality of a field."""

_COUNTS_COLUMNS = (
    _IMAGE,
    Column("slide", "text", "", "slide, from the manifest, else the folder"),
    Column("specimen", "text", "", "specimen named in the manifest"),
    _PROFILE,
    _STATUS,
    _REASON,
    Column("width_px", "int", "px", "width of the image"),
    Column("height_px", "int", "px", "height of the image"),
    Column(
        "um_per_px",
        "float",
        "µm/px",
        "scale given or found in the file; empty when unknown, never estimated",
        ".6g",
    ),
    Column(
        "scale_factor",
        "float",
        "",
        "the image was resized by this factor before detection (4 significant digits)",
        ".4g",
    ),
    *QUALITY_COLUMNS,
    Column("cells", "int", "cells", "all cells counted; empty unless done"),
)

_CELLS_COLUMNS = (
    _IMAGE,
    Column("cell", "int", "", "rank of the cell in its image from 1, by y_min, then x_min"),
    Column("x_min_px", "float", "px", "left side of the cell's box", ".2f"),
    Column("y_min_px", "float", "px", "upper side of the cell's box", ".2f"),
    Column("x_max_px", "float", "px", "right side of the cell's box", ".2f"),
    Column("y_max_px", "float", "px", "lower side of the cell's box", ".2f"),
    Column("label", "text", "", "class that the detector gave"),
    Column("score", "float", "", "the detector's confidence, 0 to 1", ".4f"),
    Column("edge", "bool", "", "the cell is cut by the image's edge"),
)

CELLS_COLUMNS = (*_CELLS_COLUMNS, _PROFILE)
"""cells.csv, one row per cell. Coordinates count from the upper left corner of the image."""

TYPE_COLUMNS = (
    Column(
        "type",
        "text",
        "",
        f"type that the classifier gave, `{UNCLASSIFIED}` where it was not sure enough; empty for "
        "cells it does not type; this column and those after it, but `profile`, are there where a "
        "classifier runs",
    ),
    Column("type_prob", "float", "", "its probability of that type, 0 to 1", ".4f"),
    Column(
        "type_2",
        "text",
        "",
        f"the likeliest type besides that one; of `{UNCLASSIFIED}` cells the likeliest of all",
    ),
    Column("type_2_prob", "float", "", "its probability of `type_2`", ".4f"),
    Column("needs_review", "bool", "", "a person should look at this cell's type"),
)
"""What a classifier adds to cells.csv."""

REVIEW_COLUMNS = (
    Column(
        "reviewed_type",
        "text",
        "",
        "type that a reviewer gave (`cellcount review apply`), which every count goes by; the "
        "classifier's stays in `type`",
    ),
    Column("reviewer", "text", "", "who gave it last"),
    Column("reviewed_at", "text", "", "when, in UTC"),
)
"""What a reviewer adds to cells.csv, empty until then."""

TYPED_CELLS_COLUMNS = (*_CELLS_COLUMNS, *TYPE_COLUMNS, *REVIEW_COLUMNS, _PROFILE)
"""cells.csv where a classifier ran."""

PICTURE_TYPES_COLUMNS = (_IMAGE, _STATUS, _REASON, *TYPE_COLUMNS)
"""types.csv, one row per picture of a single cell."""


def counts_columns(
    classes: Sequence[CellClass], types: Sequence[CellClass] = ()
) -> tuple[Column, ...]:
    """counts.csv, one row per image: the fixed columns, a count per class, and one per type.

    Args:
        classes: of the detector.
        types: of the classifier, then those that only a reviewer gave; none where none runs.
    """
    return (
        *_COUNTS_COLUMNS,
        *(_count_column(c.id, c.plural) for c in classes),
        *(
            _reviewed_count_column(t)
            if isinstance(t, ReviewerType)
            else _type_count_column(t.id, t.plural)
            for t in types
        ),
        *((_type_count_column(UNCLASSIFIED, ""),) if types else ()),
    )


def _count_column(class_id: str, plural: str) -> Column:
    meaning = f"{plural} counted"
    if class_id == "wbc":
        meaning = f"nucleated objects counted; they are {plural} only once they are typed"
    return Column(f"n_{class_id}", "int", "cells", f"{meaning}; empty unless done")


def _type_count_column(type_id: str, plural: str) -> Column:
    meaning = f"cells typed as {plural}, where a classifier runs"
    if type_id == UNCLASSIFIED:
        meaning = "cells of which the classifier was not sure enough, where one runs"
    return Column(f"type_{type_id}", "int", "cells", f"{meaning}; empty unless done")


def _reviewed_count_column(cell_type: CellClass) -> Column:
    meaning = f"{cell_type.plural}, which only a reviewer named; empty where none did"
    return Column(f"type_{cell_type.id}", "int", "cells", meaning)


def read_table(path: Path, columns: Sequence[Column] | None = None) -> pandas.DataFrame:
    """A table of ours with the texts as they were and typed columns; for tables that fit.

    Args:
        path: the CSV, comma or semicolon.
        columns: its columns; when None they are known by their names, and unknown ones are text.

    Raises:
        OutputError: the columns differ, or a field does not hold its column's type.
    """
    import pandas

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
    """What is wrong with a table, a sentence each, at most ``most`` of them; constant memory."""
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


def _quoted(text: str) -> str:
    # Both separators are quoted always, so that a change of separator changes nothing else.
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


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
    from cellcount.outputs.slide_columns import SLIDES_COLUMNS  # which builds on this module

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
