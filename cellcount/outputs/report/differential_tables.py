"""A differential as the tables of the report: what slides.csv holds, shortened for reading.

Every cell keeps the values of slides.csv that it shows, written as they stand there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cellcount.differential.figures import PERCENT, Differential, Figure, Kind
from cellcount.outputs.columns import SLIDES_COLUMNS, Value
from cellcount.outputs.slides import figure_values

_COLUMNS = {column.name: column for column in SLIDES_COLUMNS}
_BAR_PX, _STRIP_PX = 200.0, 1000.0
_COLOURS = (
    "#1f77b4", "#d95f02", "#1b9e77", "#c2185b", "#7570b3", "#8c6d00", "#00838f", "#b30000",
    "#5d4037", "#558b2f", "#6a1b9a", "#37474f",
)  # fmt: skip
_BOOTSTRAP = "Bootstrap: fields drawn again"
_MORE = "More about these shares"
_SHARES: tuple[Kind, ...] = ("class", "pool", "group", "lineage")


@dataclass(frozen=True, slots=True)
class Bar:
    """A share with its limits on an axis, all in pixels of a drawing 200 wide."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what is read.
        values: column of slides.csv → the value as written there.
        bar: drawn in place of the text.
    """

    text: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        kind, id: as in slides.csv.
        name: in words.
        note: what to know about it.
        missing: why there is no number, "" where there is one.
        cells: one per column of the table.
        colour: of its bar, "" for that of every bar.
    """

    kind: str
    id: str
    name: str
    note: str
    missing: str
    cells: tuple[Cell, ...]
    colour: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of figures.

    Attributes:
        caption: what it shows.
        columns: heads of the columns after the name.
        rows: the figures.
        first: it is what a reader sees first, so that notes on its rows stand below it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    first: bool = False

    @property
    def known(self) -> tuple[Row, ...]:
        """Rows with a number."""
        return tuple(row for row in self.rows if not row.missing)

    @property
    def unknown(self) -> tuple[Row, ...]:
        """Rows that are pooled, not assessed, withheld or not counted."""
        return tuple(row for row in self.rows if row.missing)


@dataclass(frozen=True, slots=True)
class Segment:
    """A share in the picture of a differential, in pixels of a strip 1000 wide.

    Attributes:
        name: in words.
        percent: as it is read.
        x, width: where it lies.
        colour: of it.
    """

    name: str
    percent: str
    x: float
    width: float
    colour: str


def differential_strip(found: Differential) -> list[Segment]:
    """The differential as one strip of shares; empty where there are no percentages."""
    segments, x = [], 0.0
    for figure, colour in _colours(found).items():
        percent = figure.percent or 0.0
        if not percent:
            continue
        width = percent * _STRIP_PX / 100
        text = shown(_values(figure, found), "percent", ".1f").text
        segments.append(Segment(figure.name, text, round(x, 1), round(width, 1), colour))
        x += width
    return segments


def _colours(found: Differential) -> dict[Figure, str]:
    """The colour of each share, in the strip and in its own bar."""
    shares = [f for f in found.of_kind("class", "pool") if f.assessment == "assessed"]
    return {f: _COLOURS[place % len(_COLOURS)] for place, f in enumerate(shares)}


def differential_tables(found: Differential) -> list[Table]:
    """The tables of one slide or specimen; those without a row are left out."""
    whole = f"Differential, in percent of {_of(found)}" if found.total else "Differential"
    parts: tuple[tuple[str, tuple[Kind, ...]], ...] = (
        (whole, ("class", "pool")),
        ("Groups", ("group",)),
        ("Lineages", ("lineage",)),
    )
    tables = [_shares(caption, found, kinds) for caption, kinds in parts]
    tables.append(_more_of_shares(found))
    tables.append(_plain("Measures", found, "measure"))
    tables.append(_plain("Found by the detector", found, "object"))
    tables.append(counts_table("Outside the denominator", found, ("outside",)))
    return [table for table in tables if table.rows]


def counts_table(caption: str, found: Differential, kinds: tuple[Kind, ...]) -> Table:
    """Cells counted and nothing else."""
    rows = tuple(_row(f, [shown(_values(f, found), "n")]) for f in found.of_kind(*kinds))
    return Table(caption, ("Cells",), rows)


def shown(values: Mapping[str, Value], name: str, form: str = "") -> Cell:
    """One value of slides.csv as a cell; empty where there is none.

    Args:
        values: by column.
        name: which column.
        form: format of the text; whole numbers have their own.
    """
    raw = _COLUMNS[name].write(values.get(name))
    if not raw:
        return Cell()
    text = f"{int(raw):,}" if _COLUMNS[name].dtype == "int" else format(float(raw), form)
    return Cell(text, {name: raw})


def with_limits(values: Mapping[str, Value], name: str, limits: str, form: str) -> Cell:
    """A value with its limits behind it in one cell."""
    value, behind = shown(values, name, form), limits_of(values, limits, form)
    text = f"{value.text} ({behind.text})" if behind.text else value.text
    return Cell(text, {**value.values, **behind.values})


def _of(found: Differential) -> str:
    ofs = [f.of for f in found.of_kind("class", "pool") if f.of]
    return ofs[0] if ofs else found.profile.cells


def _values(figure: Figure, found: Differential) -> dict[str, Value]:
    return figure_values(figure, found.rules)


def _row(figure: Figure, cells: Sequence[Cell], colour: str = "") -> Row:
    missing = "" if figure.assessment == "assessed" else figure.assessment
    return Row(figure.kind, figure.id, figure.name, figure.note, missing, tuple(cells), colour)


def _shares(caption: str, found: Differential, kinds: tuple[Kind, ...]) -> Table:
    """Shares with limits and a bar each."""
    figures = found.of_kind(*kinds)
    highest = max((f.limits.high or 0 for f in figures if f.limits), default=0.0)
    top = min(100, max(20, 10 * math.ceil(highest / 10)))
    rows, colours = [], _colours(found)
    for figure in figures:
        values = _values(figure, found)
        cells = [
            Cell(bar=_bar(figure, top)),
            shown(values, "percent", ".1f"),
            limits_of(values, "ci", ".1f"),
            shown(values, "n"),
        ]
        rows.append(_row(figure, cells, colours.get(figure, "")))
    limits = f"{100 * found.rules.confidence:g} % limits"
    heads = (f"0 to {top} %", "%", limits, "Cells")
    return Table(caption, heads, tuple(rows), first="class" in kinds)


def _more_of_shares(found: Differential) -> Table:
    """Tell the rest of each share: cells per volume, adjusted share, limits by bootstrap."""
    figures = [f for f in found.of_kind(*_SHARES) if f.assessment == "assessed"]
    columns: dict[str, Callable[[Figure], Cell]] = {
        "10⁹/L": lambda f: with_limits(_values(f, found), "absolute_10e9_per_l", "absolute", ".2f"),
        "Adjusted": lambda f: with_limits(_values(f, found), "adjusted_percent", "adjusted", ".1f"),
        # Of no cells every draw has none, which says nothing of the share.
        _BOOTSTRAP: lambda f: limits_of(_values(f, found), "bootstrap", ".1f") if f.n else Cell(),
    }
    cells = {name: [cell(figure) for figure in figures] for name, cell in columns.items()}
    known = {name: column for name, column in cells.items() if any(c.text for c in column)}
    rows = [
        _row(figure, [column[place] for column in known.values()])
        for place, figure in enumerate(figures)
    ]
    return Table(_MORE, tuple(known), tuple(rows) if known else ())


def _plain(caption: str, found: Differential, kind: Kind) -> Table:
    """Numbers in their own units."""
    rows = []
    for figure in found.of_kind(kind):
        values = _values(figure, found)
        is_percent = figure.unit == PERCENT
        number = shown(values, "percent", ".1f") if is_percent else shown(values, "value", ".2f")
        unit = f" {figure.unit}" if figure.unit and number.text else ""
        of = shown(values, "denominator")
        noun = figure.of.removesuffix("s") if of.text == "1" else figure.of
        cells = [
            Cell(number.text + unit, number.values),
            limits_of(values, "ci", ".1f" if is_percent else ".2f"),
            shown(values, "n"),
            Cell(f"{of.text} {noun}".strip() if of.text else "", of.values),
        ]
        rows.append(_row(figure, cells))
    limits = f"{100 * found.rules.confidence:g} % limits"
    return Table(caption, ("Number", limits, "Counted", "Of"), tuple(rows))


def limits_of(values: Mapping[str, Value], name: str, form: str) -> Cell:
    """The limits of a value as one cell; empty where there are none."""
    low, high = shown(values, f"{name}_low", form), shown(values, f"{name}_high", form)
    if not low.text:
        return Cell()
    text = f"{low.text}–{high.text}" if high.text else f"from {low.text}"
    return Cell(text, {**low.values, **high.values})


def _bar(figure: Figure, top: int) -> Bar | None:
    if figure.percent is None or figure.limits is None or figure.limits.high is None:
        return None
    scale = _BAR_PX / top
    limits = figure.limits
    return Bar(*(round(x * scale, 1) for x in (figure.percent, limits.low, figure.limits.high)))
