"""Columns of a manual sheet that are sums of others: they are no class of cells.

A total is known by its name and by its arithmetic, a subtotal (segmented and band neutrophils as
neutrophils, say) by its arithmetic, with the name or the number of cells to say what it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

Numbers = Sequence[float | None]

_SUM_WORDS = {
    "total", "totals", "sum", "sums", "subtotal", "summe", "gesamt", "gesamtzahl", "insgesamt",
    "zwischensumme", "somme", "totale", "totaux", "suma", "σ", "totaal", "summa", "totalt",
    "yhteensä", "összesen", "razem", "ogółem", "celkem", "spolu", "ukupno", "toplam", "jumlah",
    "σύνολο", "итого", "всего", "сумма", "разом", "合计", "合計", "总计", "總計", "总数", "總數",
    "합계", "총계", "รวม", "tổng", "المجموع",
}  # fmt: skip
#: With these and the words above alone a name is that of a total.
_COUNT_WORDS = {
    "n", "all", "cell", "cells", "count", "counts", "counted", "number", "no", "of", "wbc",
    "anzahl", "zellen", "zellzahl", "leukocytes", "leukozyten", "nucleated", "differential",
    "percent",
}  # fmt: skip
_COUNTED_NAMES = {"all", "cells", "counted", "cells counted", "count", "anzahl", "zellen"}
_LEAST_ROWS, _LEAST_ROWS_OF_SUBTOTAL, _LEAST_VALUES = 3, 5, 3
_ROUNDING = 1.0


class SumColumns(NamedTuple):
    """Columns of a table that are sums of others.

    Attributes:
        notes: column that is left out → why, in words.
        cells: column that states the number of cells, as ``n`` does; "" for none.
    """

    notes: dict[str, str]
    cells: str = ""


def find_sums(
    values: Mapping[str, Numbers],
    totals: Numbers,
    outside: Collection[str] = (),
    rows: Sequence[str] = (),
) -> SumColumns:
    """The columns of a wide table that are sums of others.

    Args:
        values: column → its numbers, a list entry per row, in the order of the table.
        totals: stated numbers of cells, None where none is.
        outside: columns that are no part of the denominator.
        rows: what to call each row in a message.

    Raises:
        ValueError: a column may be a sum or not; says what to do.
    """
    inside = {name: numbers for name, numbers in values.items() if name not in outside}
    notes: dict[str, str] = {}
    cells = ""
    for name in [n for n in inside if _names_total(n)]:
        others = _without(inside, name, *notes)
        if not others:
            continue
        beside = {n: numbers for n, numbers in values.items() if n in outside}
        if _is_sum(inside[name], others) or (beside and _is_sum(inside[name], others | beside)):
            notes[name] = f"column {name!r} is the sum of the others and is left out"
        elif _adds_up_to_100(others) and not any(totals) and not cells:
            notes[name] = f"column {name!r} is taken as the number of cells, like n"
            cells = name
        else:
            raise ValueError(_unclear_total(name, inside[name], others, rows))
    for name in [n for n in inside if n not in notes]:
        others = _without(inside, name, *notes)
        if _is_unnamed_total(inside[name], others):
            notes[name] = f"column {name!r} is in every row the sum of the others and is left out"
        elif parts := _parts(name, _without(inside, *notes)):
            note = f"column {name!r} is in every row the sum of {' and '.join(parts)}"
            if _is_subtotal(name, _without(inside, *notes), totals, note):
                notes[name] = f"{note} and is left out"
    return SumColumns(notes, cells)


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name.casefold().replace("∑", "σ"))


def _names_total(name: str) -> bool:
    """Return whether the name says that the column is the sum of all."""
    words = set(_words(name))
    if " ".join(_words(name)) in _COUNTED_NAMES:
        return True
    return bool(words & _SUM_WORDS) and words <= _SUM_WORDS | _COUNT_WORDS


def _without(values: Mapping[str, Numbers], *names: str) -> dict[str, Numbers]:
    return {name: numbers for name, numbers in values.items() if name not in names}


def _sums(columns: Mapping[str, Numbers]) -> list[float]:
    return [sum(v or 0.0 for v in row) for row in zip(*columns.values(), strict=True)]


def _is_whole(columns: Mapping[str, Numbers]) -> bool:
    return all(v is None or v == int(v) for numbers in columns.values() for v in numbers)


def _is_sum(numbers: Numbers, columns: Mapping[str, Numbers]) -> bool:
    """Return whether the numbers are the sums of the columns, but for rounding of percentages."""
    pairs = [(n, s) for n, s in zip(numbers, _sums(columns), strict=True) if n is not None and s]
    exact = _is_whole(columns) and not all(n == 100 for n, _ in pairs)
    tolerance = 1e-6 if exact else _ROUNDING
    return bool(pairs) and all(abs(n - s) <= tolerance for n, s in pairs)


def _adds_up_to_100(columns: Mapping[str, Numbers]) -> bool:
    sums = [s for s in _sums(columns) if s]
    return bool(sums) and all(abs(s - 100) <= _ROUNDING for s in sums)


def _unclear_total(
    name: str, numbers: Numbers, others: Mapping[str, Numbers], rows: Sequence[str]
) -> str:
    at, stated, summed = next(
        (i, n, s)
        for i, (n, s) in enumerate(zip(numbers, _sums(others), strict=True))
        if n is not None and n != s
    )
    where = f"{rows[at]}: " if rows else ""
    return (
        f"{where}column {name!r} is called a sum and is none: it states {stated:g} where the other "
        f"columns add up to {summed:g}; call it n if it is the number of cells, correct it, or "
        "leave it out"
    )


def _is_unnamed_total(numbers: Numbers, others: Mapping[str, Numbers]) -> bool:
    """Return whether a column must be a total: no class is half of the cells in every row."""
    filled = [n for n in numbers if n]
    if len(others) < 2 or len(filled) < _LEAST_ROWS or not _is_sum(numbers, others):
        return False
    return len(set(filled)) > 1 or filled[0] == 100


def _parts(name: str, columns: Mapping[str, Numbers]) -> list[str]:
    """Two or more columns just before or after this one whose sum it is; [] for none."""
    names, numbers = list(columns), columns[name]
    at = names.index(name)
    filled = [n for n in numbers if n]
    called_sum = bool(set(_words(name)) & _SUM_WORDS)
    if not called_sum and (
        len(filled) < _LEAST_ROWS_OF_SUBTOTAL or len(set(filled)) < _LEAST_VALUES
    ):
        return []
    runs = [names[at - length : at] for length in range(2, at + 1)]
    runs += [names[at + 1 : at + 1 + length] for length in range(2, len(names) - at)]
    for run in runs:
        sums = _sums({part: columns[part] for part in run})
        if filled and all(abs((n or 0) - s) < 0.05 for n, s in zip(numbers, sums, strict=True)):
            return run
    return []


def _is_subtotal(name: str, columns: Mapping[str, Numbers], totals: Numbers, note: str) -> bool:
    """Return whether a column that is the sum of its neighbours is no class of its own.

    Raises:
        ValueError: nothing says so.
    """
    if set(_words(name)) & _SUM_WORDS:
        return True
    whole, rest = _sums(columns), _sums(_without(columns, name))
    wanted = [100.0 if t is None else t for t in totals]
    with_it, without = (
        all(
            min(abs(s - w), abs(s - 100)) <= _ROUNDING
            for s, w in zip(sums, wanted, strict=True)
            if s
        )
        for sums in (whole, rest)
    )
    if with_it != without:
        return without
    raise ValueError(
        f"{note}: it may be their subtotal or a class; if it is a subtotal, leave it out or name "
        "it with --outside; if it is a class, state the number of cells in the column n"
    )
