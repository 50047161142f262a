"""Columns of every table, declared once for the writer, the checks and the documentation.

Tables are UTF-8 CSV with ``\\n`` line ends, and nothing where a value is missing. Numbers have the
decimal sign that a `CsvForm` asks for; both are read. Two things are done to text, both undone by
`Column.read`:

- an apostrophe is put before a leading ``= + - @ '`` tab or line end, so that no spreadsheet
  runs a file name as a formula;
- bytes of a file name that are no valid UTF-8 are written as ``\\udc80`` … ``\\udcff``, and a
  backslash that could be mistaken for the start of such an escape as ``\\x5c``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from cellcount.core.blood import WBC
from cellcount.core.records import REJECTED, UNCLASSIFIED, CellClass, ReviewerType, Status
from cellcount.differential.figures import ASSESSMENTS, KINDS
from cellcount.differential.rollup import LEVELS
from cellcount.files.text import encodable, escape_text, unescape_text
from cellcount.settings import CsvForm

Dtype = Literal["text", "int", "float", "bool"]
Value: TypeAlias = str | int | float | bool | None

_NEEDS_QUOTES = re.compile(r'[",;\r\n]')
_PLAIN = CsvForm()


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

    def write(self, value: Value, csv: CsvForm = _PLAIN) -> str:
        """Format one value as text of the file; "" for None and for what is no number."""
        if value is None:
            return ""
        if self.dtype == "text":
            return _quoted(escape_text(str(value)))
        if self.dtype == "bool":
            return "true" if value else "false"
        number = float(value)
        if not math.isfinite(number):
            return ""
        return csv.number(format(number, self.form)) if self.dtype == "float" else str(int(value))

    def rounded(self, value: Value) -> Value:
        """Round a value as the file has it, and keep its type; None for what is no number."""
        if self.dtype == "text":
            return encodable(str(value or ""))
        if value is None or not math.isfinite(float(value)):
            return None
        if self.dtype == "float":
            return float(format(float(value), self.form))
        return bool(value) if self.dtype == "bool" else int(value)

    def read(self, text: str) -> Value:
        """Parse the text of one field; None for an empty number, "" for an empty text.

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
            return int(text) if self.dtype == "int" else float(text.replace(",", "."))
        except ValueError:
            raise ValueError(f"{text!r} is no {self.dtype}") from None


@dataclass(frozen=True, slots=True)
class TypedTable:
    """A table to be written.

    Attributes:
        name: of the table, and of its sheet in a workbook.
        columns: of it.
        batches: name of a column → values; all values of a batch are equally many, and a column
            that is not named is empty.
    """

    name: str
    columns: Sequence[Column]
    batches: Iterable[Mapping[str, Sequence[Value]]]


_IMAGE = Column(
    "image", "text", "", "path of the image relative to its INPUT; pages end in `#page=2`"
)

_PROFILE = Column(
    "profile",
    "text",
    "",
    "profile by which cells are counted, with its version; `(forced)` where the models do not fit, "
    "`(experimental: …)` where no count of the detector can be relied on yet",
)
_STATUS = Column(
    "status",
    "text",
    "",
    "`done`, `failed` (could not be analysed), `excluded` (left out on purpose) or `outstanding` "
    "(an unfinished run has not come to it yet)",
    choices=get_args(Status),
)
_REASON = Column("reason", "text", "", "why it is not done, or what to mind about a done image")

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
"""Columns of counts.csv for the quality of a field."""

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
        f"second most likely type (for `{UNCLASSIFIED}` cells: the most likely)",
    ),
    Column("type_2_prob", "float", "", "its probability of `type_2`", ".4f"),
    Column(
        "needs_review",
        "bool",
        "",
        "a person should look at this cell's type: it is unclassified, or it takes the cell out of "
        "the count of white cells",
    ),
)
"""Columns of cells.csv for the types that a classifier gives."""

REVIEW_COLUMNS = (
    Column(
        "reviewed_type",
        "text",
        "",
        "type that a reviewer gave (`cellcount review apply`), which every count goes by; the "
        "classifier's stays in `type`; `not_a_cell` or `deleted` for a cell that does not count",
    ),
    Column("reviewer", "text", "", "who gave it last"),
    Column("reviewed_at", "text", "", "when, in UTC"),
)
"""Columns of cells.csv for a reviewer's corrections, empty until there are some."""

TYPED_CELLS_COLUMNS = (*_CELLS_COLUMNS, *TYPE_COLUMNS, *REVIEW_COLUMNS, _PROFILE)
"""cells.csv where a classifier ran."""

PICTURE_TYPES_COLUMNS = (_IMAGE, _STATUS, _REASON, *TYPE_COLUMNS)
"""types.csv, one row per picture of a single cell."""


def counts_columns(
    classes: Sequence[CellClass], types: Sequence[CellClass] = (), *, rejecting: bool = False
) -> tuple[Column, ...]:
    """counts.csv, one row per image: the fixed columns, a count per class, and one per type.

    Args:
        classes: of the detector.
        types: of the classifier, then those that only a reviewer gave; none where none runs.
        rejecting: some of the types are those of no white cell.
    """
    return (
        *_COUNTS_COLUMNS,
        *(_count_column(c.id, c.plural) for c in classes),
        *((_REJECTED_COLUMN,) if rejecting else ()),
        *(
            _reviewed_count_column(t)
            if isinstance(t, ReviewerType)
            else _type_count_column(t.id, t.plural)
            for t in types
        ),
        *((_type_count_column(UNCLASSIFIED, ""),) if types else ()),
    )


_REJECTED_COLUMN = Column(
    f"n_{REJECTED}",
    "int",
    "cells",
    "detected white cells typed as none (platelets, artefacts, `not_a_white_cell`): in no other "
    "`n_` column and not in `cells`; there where the classifier has such types and "
    "`--keep-rejected` is not given; empty unless done",
)


def _count_column(class_id: str, plural: str) -> Column:
    meaning = f"{plural} counted"
    if class_id == WBC:
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


def _quoted(text: str) -> str:
    # Commas and semicolons are quoted always, so that a change of separator changes no text; tabs
    # are escaped.
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


SLIDES_COLUMNS = (
    Column(
        "level",
        "text",
        "",
        "`slide`, `specimen` (named in the manifest) or `run`, which pools people: counts only",
        choices=LEVELS,
    ),
    Column("specimen", "text", "", "specimen: one patient, one draw"),
    Column("slide", "text", "", "slide; empty for specimens and the run"),
    Column(
        "profile",
        "text",
        "",
        "profile with its version, `(forced)` where models do not fit it, "
        "`(experimental: …)` where no count of the detector can be relied on yet",
    ),
    Column("fields_known", "int", "fields", "images of the slide, specimen or run"),
    Column("fields_analysed", "int", "fields", "those that the numbers of this row rest on"),
    Column(
        "fields_outstanding",
        "int",
        "fields",
        "those without a result yet; where it is not 0, the run is unfinished and the numbers of "
        "this row are not final",
    ),
    Column(
        "kind",
        "text",
        "",
        "`class` (row of the profile), `pool` (rows that the classifier does not tell apart), "
        "`group`, `lineage`, `outside` (never in a percentage), `object` (of the detector), "
        "`measure`, `advice` or `about` (how it was counted)",
        choices=(*KINDS, "advice", "about"),
    ),
    Column("row", "text", "", "which row, group, measure and so on"),
    Column("name", "text", "", "the same in words"),
    Column(
        "assessment",
        "text",
        "",
        "`assessed`; `pooled`: counted only together with others; `not assessed`: the classifier "
        "cannot name it; `withheld`: it would mislead; `not counted`: no field could be analysed",
        choices=(*ASSESSMENTS, ""),
    ),
    Column("n", "int", "", "cells counted; empty, never 0, where they cannot be known"),
    Column("denominator", "int", "", "what `percent` or `value` is stated of"),
    Column(
        "of", "text", "", "what the denominator counts; `assessed cells` where rows are missing"
    ),
    Column("percent", "float", "%", "n of the denominator", ".4f"),
    Column("value", "float", "", "number that is no percentage, in the unit that follows", ".4f"),
    Column("unit", "text", "", "of `percent` or `value`, and of its limits"),
    Column("ci_low", "float", "", "lower limit of `percent` or `value`", ".4f"),
    Column("ci_high", "float", "", "upper limit; empty where there is none", ".4f"),
    Column("method", "text", "", "how the limits were made"),
    Column("confidence", "float", "", "of all limits of this row", ".4g"),
    Column("bootstrap_low", "float", "%", "lower limit when fields are drawn again", ".4f"),
    Column("bootstrap_high", "float", "%", "upper limit when fields are drawn again", ".4f"),
    Column("adjusted_percent", "float", "%", "corrected for the classifier's confusions", ".4f"),
    Column("adjusted_low", "float", "%", "its lower limit; knows the validation's size", ".4f"),
    Column("adjusted_high", "float", "%", "its upper limit", ".4f"),
    Column("absolute_10e9_per_l", "float", "10⁹/L", "share of the white cell count", ".4f"),
    Column("absolute_low", "float", "10⁹/L", "its lower limit", ".4f"),
    Column("absolute_high", "float", "10⁹/L", "its upper limit", ".4f"),
    Column("note", "text", "", "what to know about it; the text of advice"),
)
"""slides.csv, a row per slide or specimen and figure."""
