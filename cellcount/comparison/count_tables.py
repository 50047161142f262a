"""Differentials read from tables, ours or a laboratory's: the units counted, and their counts.

Two forms are read, from CSV with any separator and decimal sign or from a spreadsheet file:

- long, like slides.csv: a row per slide or specimen and class, with at least the columns ``slide``
  or ``specimen``, ``row`` and ``percent``; ``n``, ``denominator``, ``level`` and ``name`` are used
  where they are there;
- wide, like a manual sheet: a row per slide or specimen, a column per class with counts or
  percentages, and where known ``n``, the number of cells that the percentages are of.

Columns ``run`` and ``day`` mark replicates in both. Several rows of one slide (two observers, say)
are pooled, cell by cell where their numbers are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from cellcount.comparison.sum_columns import find_sums
from cellcount.differential.figures import ASSESSED_CELLS
from cellcount.differential.row_names import RowNames, plain
from cellcount.differential.rows import OUTSIDE_ROWS
from cellcount.errors import UsageError
from cellcount.files.names import one_form
from cellcount.files.sheets import Grid, Sheet, integer, number, read_grid
from cellcount.settings import CsvForm, Separator

Values = Literal["auto", "counts", "percent"]
Level = Literal["slide", "specimen"]

UNIT_COLUMNS = ("slide", "specimen")
REPLICATE_COLUMNS = ("day", "run")
_SHARE_KINDS = ("class", "pool", "group", "lineage")
_LEAST_SHARES = 3
_ALSO_OUTSIDE = ("rbc",)  # as sheets abbreviate


@dataclass(frozen=True, slots=True)
class Share:
    """One class of one differential.

    Attributes:
        percent: 0 to 100.
        count: its cells, or None where only the percentage is known.
        total: cells that the percentage is of, or None.
    """

    percent: float
    count: int | None = None
    total: int | None = None

    @classmethod
    def of(cls, count: int, total: int) -> Share:
        """A counted share; the total is not 0."""
        return cls(100 * count / total, count, total)


class CountedUnit(NamedTuple):
    """Unit that was counted: a slide of a specimen, or a specimen as a whole (then slide is "").

    Different people's slides may well share a name, so a slide is known by both; a table that
    names no specimens leaves that part empty.
    """

    specimen: str
    slide: str = ""


@dataclass(frozen=True, slots=True)
class CountRow:
    """One differential.

    Attributes:
        slide, specimen, day, run: as the table names them, "" where it does not.
        shares: class → what was found; a class that was not assessed is absent.
    """

    slide: str
    specimen: str
    day: str
    run: str
    shares: Mapping[str, Share]


@dataclass(frozen=True, slots=True)
class CountTable:
    """A table of differentials.

    Attributes:
        path: where it was read.
        rows: the differentials, in their order.
        classes: class → its name in words, in the order of the table.
        notes: what was understood or left out, in words.
        form: of the file, for tables that are made of it; the plain one of a spreadsheet file.
        by_hand: a person named the classes, who may have slipped.
    """

    path: Path
    rows: tuple[CountRow, ...]
    classes: Mapping[str, str]
    notes: tuple[str, ...] = ()
    form: CsvForm = CsvForm()  # noqa: RUF009 -- frozen
    by_hand: bool = True

    def units(self, level: Level) -> dict[CountedUnit, dict[str, Share]]:
        """Slide or specimen → class → share, rows of the same one pooled; in the table's order."""
        return {unit: pooled(rows) for unit, rows in self.rows_of(level).items()}

    def several(self, level: Level) -> list[CountedUnit]:
        """Slides or specimens that are pooled from several rows."""
        return [unit for unit, rows in self.rows_of(level).items() if len(rows) > 1]

    def rows_of(self, level: Level) -> dict[CountedUnit, list[CountRow]]:
        """Slide or specimen → its rows, in the table's order; rows that name none are left out.

        Rows that state a specimen alone are the specimen's own; where there are such rows, rows
        of its slides say nothing more of it.
        """
        found: dict[CountedUnit, list[CountRow]] = {}
        for row in self.rows:
            if getattr(row, level):
                unit = CountedUnit(row.specimen, row.slide if level == "slide" else "")
                found.setdefault(unit, []).append(row)
        if level == "specimen":
            return {unit: [r for r in rows if not r.slide] or rows for unit, rows in found.items()}
        return found


def read_count_table(
    path: Path,
    *,
    values: Values = "auto",
    outside: Sequence[str] = (),
    names: RowNames | None = None,
) -> CountTable:
    """Read a long or wide table of differentials.

    Args:
        path: the table.
        values: what a wide table holds; ``auto`` sees it from the sums of its rows.
        outside: classes of a wide table that are no part of the denominator, besides those that
            no profile counts (nucleated red cells, smudge cells and so on).
        names: what rows are called; the usual names where it is None.

    Raises:
        UsageError: it cannot be read, or a field does not hold what its column says.
    """
    grid = read_grid(path, "a header and a row per slide or specimen", sheets=("slides",))
    if grid.has("image") and (grid.has("status") or grid.has("cell")):
        raise UsageError(
            f"{path} has a row per {'cell' if grid.has('cell') else 'image'}; give slides.csv, "
            "which analyze writes with --slides: it has the differential of every slide"
        )
    if not grid.has(*UNIT_COLUMNS):
        raise UsageError(
            f"{path} has the columns {', '.join(grid.header)}; expected a column slide or "
            "specimen that says what was counted"
        )
    if "row" in grid.header and "percent" in grid.header:
        return _long(grid)
    known = names or RowNames()
    beside = {name for row in OUTSIDE_ROWS for name in known.names_of(row)}
    return _wide(grid, values, beside | {plain(name) for name in (*outside, *_ALSO_OUTSIDE)})


def pooled(rows: Sequence[CountRow]) -> dict[str, Share]:
    """Differentials of the same slide as one: cells added up, else percentages averaged."""
    shares: dict[str, list[Share]] = {}
    for row in rows:
        for name, share in row.shares.items():
            shares.setdefault(name, []).append(share)
    return {name: _pooled(found) for name, found in shares.items()}


def _pooled(shares: Sequence[Share]) -> Share:
    if len(shares) == 1:
        return shares[0]
    counts = [s.count for s in shares if s.count is not None]
    totals = [s.total for s in shares if s.total]
    if len(counts) == len(totals) == len(shares):
        return Share.of(sum(counts), sum(totals))
    return Share(sum(s.percent for s in shares) / len(shares))


def _long(grid: Grid) -> CountTable:
    """A row per class; only shares of a denominator are taken, not counts or ratios."""
    shares: dict[tuple[str, ...], dict[str, Share]] = {}
    kinds: dict[str, str] = {}
    classes: dict[str, str] = {}
    for line in grid.lines:
        name, kind = line["row"], line["kind"]
        if kind not in ("", *_SHARE_KINDS) or line["level"] not in ("", *UNIT_COLUMNS):
            continue
        percent = number(grid, line, "percent", 0, 100)
        if percent is None or kinds.setdefault(name, kind) != kind:
            continue  # a lineage may be called like a group, with the same cells
        slide, *others = _place(line)
        place = ("" if line["level"] == "specimen" else slide, *others)
        found = shares.setdefault(place, {})
        if name in found:
            raise UsageError(
                f"{grid.where(line)}: a second {name} of the same slide; tables of replicates "
                "tell them apart in the columns run and day"
            )
        classes.setdefault(name, line["name"] or name.replace("_", " "))
        found[name] = _stated(percent, integer(grid, line, "n"), integer(grid, line, "denominator"))
    rows = [
        CountRow(slide, specimen, day, run, found)
        for (slide, specimen, day, run), found in shares.items()
    ]
    notes = []
    unfinished = [
        line["slide"] or line["specimen"]
        for line in grid.lines
        if (integer(grid, line, "fields_outstanding") or 0) and line["level"] != "run"
    ]
    if unfinished:
        which = ", ".join(dict.fromkeys(unfinished))
        notes.append(f"unfinished when it was written, so its numbers are not final: {which}")
    if any(line["of"] == ASSESSED_CELLS for line in grid.lines):
        notes.append("percentages are of assessed cells: some rows could not be assessed")
    form, by_hand = _csv_form(grid.sheet), not grid.has("kind")
    return CountTable(grid.path, tuple(rows), classes, tuple(notes), form, by_hand)


def _csv_form(sheet: Sheet) -> CsvForm:
    """Return the form in which a table like this one is written."""
    kept: dict[str, Separator] = {";": ";", "\t": "\t"}
    separator = kept.get(sheet.separator, ",")
    if sheet.has_decimal_commas and separator != ",":
        return CsvForm(separator, sheet.bom, "comma")
    return CsvForm(separator, sheet.bom, "point" if sheet.has_decimal_points else None)


def _place(line: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Slide, specimen, day and run of a row, in one Unicode form: systems spell é differently."""
    slide, specimen, day, run = (one_form(line[n]) for n in (*UNIT_COLUMNS, *REPLICATE_COLUMNS))
    return slide, specimen, day, run


def _stated(percent: float, count: int | None, total: int | None) -> Share:
    """Compute a share from cells where they are stated, since percentages are rounded."""
    if count is None or not total or count > total:
        return Share(percent)
    return Share.of(count, total)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The numbers of a wide table, a list entry per row.

    Attributes:
        grid: as read.
        values: class → its numbers.
        totals: column n, None where it is empty or missing.
        outside: classes that are no part of the denominator.
    """

    grid: Grid
    values: Mapping[str, Sequence[float | None]]
    totals: Sequence[int | None]
    outside: set[str] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """Whether all are whole numbers."""
        return all(v is None or v == int(v) for row in self.values.values() for v in row)

    @property
    def adds_up_to_1(self) -> bool:
        """Whether the rows of three or more classes are shares of 1, as percent cells are."""
        sums = [s for s in self.sums() if s]
        shares = bool(sums) and all(abs(s - 1) <= 0.02 for s in sums)
        return shares and len(self.values) >= _LEAST_SHARES and not self.whole

    def in_percent(self) -> _Sheet:
        """The sheet with all values times 100."""
        values = {
            name: [None if v is None else 100 * v for v in column]
            for name, column in self.values.items()
        }
        return replace(self, values=values)

    def sums(self) -> list[float]:
        """Return the sum of the classes of the denominator per row; 0 of an empty row."""
        inside = [v for name, v in self.values.items() if plain(name) not in self.outside]
        rows = range(len(self.totals))
        return [sum(values[i] or 0.0 for values in inside) for i in rows]


def _wide(grid: Grid, values: Values, outside: set[str]) -> CountTable:
    known = {*UNIT_COLUMNS, *REPLICATE_COLUMNS, "n"}
    left_out = [name for name in grid.header if name not in known and not grid.has_number(name)]
    names = [name for name in grid.header if name not in known and name not in left_out]
    if not names or not grid.lines:
        raise UsageError(
            f"{grid.path} has no class with a number; expected a column per class, or the columns "
            "row and percent"
        )
    numbers = {name: [number(grid, line, name, 0, 1e9) for line in grid.lines] for name in names}
    totals = [integer(grid, line, "n") for line in grid.lines]
    try:
        beside = {name for name in names if plain(name) in outside}
        sums = find_sums(numbers, totals, beside, [f"row {grid.row(line)}" for line in grid.lines])
    except ValueError as error:
        raise UsageError(f"{grid.path}: {error}") from error
    if sums.cells:
        totals = [integer(grid, line, sums.cells) for line in grid.lines]
    names = [name for name in names if name not in sums.notes]
    sheet = _Sheet(grid, {name: numbers[name] for name in names}, totals, outside)
    shares_of_1 = values == "auto" and sheet.adds_up_to_1
    if shares_of_1:
        sheet = sheet.in_percent()
    form, note = _form(sheet) if values == "auto" else (values, f"values are {values}, as told")
    share = _counted(sheet) if form == "counts" else _percentages(sheet)
    rows = []
    for i, line in enumerate(grid.lines):
        found = {name: share(i, name) for name in names}
        shares = {name: value for name, value in found.items() if value is not None}
        rows.append(CountRow(*_place(line), shares))
    notes = [note, *(f"column {name!r} holds no number and is left out" for name in left_out)]
    notes += sums.notes.values()
    if shares_of_1:
        notes.append("values are shares that add up to 1, read as percentages")
    apart = [name for name in names if plain(name) in outside]
    if apart:
        notes.append(f"not part of the denominator: {', '.join(apart)}")
    classes = {name: name.replace("_", " ") for name in names}
    return CountTable(grid.path, tuple(rows), classes, tuple(notes), _csv_form(grid.sheet))


def _form(sheet: _Sheet) -> tuple[Values, str]:
    """Decide between counts and percentages by the sums of the rows, and tell the evidence."""
    filled = [(s, t) for s, t in zip(sheet.sums(), sheet.totals, strict=True) if s]
    about_100 = all(99 <= s <= 101 for s, _ in filled)
    known = [(s, t) for s, t in filled if t is not None]
    if known and sheet.whole and all(s == t for s, t in known):
        return "counts", "values are counts: they add up to n"
    if known and (about_100 or not sheet.whole):
        return "percent", "values are percentages of n cells"
    if known:
        line, found, n = next(
            (sheet.grid.lines[i], s, t)
            for i, (s, t) in enumerate(zip(sheet.sums(), sheet.totals, strict=True))
            if s and t is not None and s != t
        )
        raise UsageError(
            f"{sheet.grid.where(line)}: the classes add up to {found:g}, neither to n = {n} nor to "
            "100, so they could be counts or percentages; correct it, or say which with --values"
        )
    if not sheet.whole:
        return "percent", (
            "values are percentages of an unknown number of cells: without a column n there is "
            "no Rümke rule for them"
        )
    if about_100:
        return "counts", (
            "values are taken as counts of about 100 cells; where they are percentages of more, "
            "add the column n"
        )
    return "counts", "values are counts; each row's sum is its number of cells"


def _counted(sheet: _Sheet) -> Callable[[int, str], Share | None]:
    """Shares from counts; the denominator is n, else the sum of the row."""
    if not sheet.whole:
        raise UsageError(f"{sheet.grid.path}: counts are whole numbers; see --values")
    sums = sheet.sums()

    def share(i: int, name: str) -> Share | None:
        count, total = sheet.values[name][i], sheet.totals[i]
        total = int(sums[i]) if total is None else total
        if count is None or not total or plain(name) in sheet.outside:
            return None
        if count > total:
            line = sheet.grid.lines[i]
            raise UsageError(
                f"{sheet.grid.where(line)}: {name} is {count:g} of n = {total}; the number of "
                "cells must not be smaller than a class"
            )
        return Share.of(int(count), total)

    return share


def _percentages(sheet: _Sheet) -> Callable[[int, str], Share | None]:
    """Shares as stated; their counts, to the nearest cell, where n is known."""

    def share(i: int, name: str) -> Share | None:
        percent, total = sheet.values[name][i], sheet.totals[i]
        if percent is None or plain(name) in sheet.outside:
            return None
        if percent > 100:
            line = sheet.grid.lines[i]
            raise UsageError(
                f"{sheet.grid.where(line)}: {name} is {percent:g}, expected a percentage; see "
                "--values"
            )
        if not total:
            return Share(percent)
        return Share(percent, int(percent * total / 100 + 0.5), total)

    return share
