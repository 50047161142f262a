"""slides.csv: the differentials of slides and specimens, a row for every figure and advice.

A pure function of the results. The last rows, of the run as a whole, say how it was counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import MappingProxyType

from cellcount.differential.counting import Counting
from cellcount.differential.figures import PERCENT, Differential, Figure, Rules
from cellcount.differential.limits import Limits
from cellcount.differential.rollup import FieldCounts, Unit, roll_up
from cellcount.outputs.columns import SLIDES_COLUMNS, Column, TypedTable, Value
from cellcount.outputs.run_content import Approvals, RunContent
from cellcount.outputs.tables import single, write_table
from cellcount.settings import CsvForm


def write_slides(path: Path, content: RunContent) -> None:
    """Write the differential of every slide and specimen, the run's counts and how they came about.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    write_table(path, slides_table(content), content.csv)


def slides_table(content: RunContent) -> TypedTable:
    """The table with a row for every figure and advice of slides, specimens and the run."""
    counting, approvals = content.facts.counting, content.facts.approvals
    return _table(counting.fields(content.results()), counting, approvals)


def write_differentials(
    path: Path,
    fields: Iterable[FieldCounts],
    counting: Counting,
    csv: CsvForm,
    approvals: Approvals = MappingProxyType({}),
) -> None:
    """Write the differentials of some fields.

    Args:
        path: the table.
        fields: in the order of their paths.
        counting: how they are counted.
        csv: how the table is written.
        approvals: of their slides.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    write_table(path, _table(fields, counting, approvals), csv)


def _table(fields: Iterable[FieldCounts], counting: Counting, approvals: Approvals) -> TypedTable:
    rows = slide_values(fields, counting, approvals)
    return TypedTable("slides", SLIDES_COLUMNS, map(single, rows))


def slide_values(
    fields: Iterable[FieldCounts],
    counting: Counting,
    approvals: Approvals = MappingProxyType({}),
) -> Iterator[dict[str, Value]]:
    """The rows of slides.csv as values by column."""
    for unit in roll_up(fields):
        who: dict[str, Value] = {
            "level": unit.level,
            "specimen": unit.specimen,
            "slide": unit.slide,
            "profile": counting.label,
            **_fields_of(unit),
        }
        found = counting.of(unit)
        for values in _unit_values(found):
            yield who | values
        approval = approvals.get((unit.specimen, unit.slide)) if unit.level == "slide" else None
        if approval is not None:
            words = approval.words(written_rows(unit, found))
            yield who | {"kind": "about", "row": "approval", "note": words}
        if unit.level == "run":
            for name, text in counting.about().items():
                yield who | {"kind": "about", "row": name, "note": text}


def _fields_of(unit: Unit) -> dict[str, Value]:
    """Return the number of fields of a unit, and of those that its numbers rest on."""
    return {
        "fields_known": len(unit.fields),
        "fields_analysed": unit.done,
        "fields_outstanding": unit.outstanding,
    }


def _unit_values(found: Differential) -> Iterator[dict[str, Value]]:
    """Figures and advice of a unit."""
    for figure in found.figures:
        yield figure_values(figure, found.rules)
    for advice in found.advice:
        yield {"kind": "advice", "row": advice.id, "note": advice.text}


def written_rows(unit: Unit, found: Differential) -> list[dict[str, str]]:
    """The numbers of a slide as slides.csv writes them: column → text, nothing where it is empty.

    A person approves these.
    """
    columns = {column.name: column for column in SLIDES_COLUMNS}
    rows = []
    for values in _unit_values(found):
        whole = {**_fields_of(unit), **values}
        texts = {name: _plain(columns[name], value) for name, value in whole.items()}
        rows.append({name: text for name, text in texts.items() if text})
    return rows


def _plain(column: Column, value: Value) -> str:
    """A value as it is written, without the quotes of CSV."""
    return ("" if value is None else str(value)) if column.dtype == "text" else column.write(value)


def figure_values(figure: Figure, rules: Rules) -> dict[str, Value]:
    """A figure as values by column."""
    is_percent = figure.unit == PERCENT
    values: dict[str, Value] = {
        "kind": figure.kind,
        "row": figure.id,
        "name": figure.name,
        "assessment": figure.assessment,
        "n": figure.n,
        "denominator": figure.denominator,
        "of": figure.of,
        "percent": figure.value if is_percent else None,
        "value": None if is_percent else figure.value,
        "unit": figure.unit,
        "method": figure.method,
        "confidence": rules.confidence if figure.method else None,
        "note": figure.note,
    }
    values |= _pair("ci", figure.limits) | _pair("bootstrap", figure.bootstrap)
    for name, estimate in (("adjusted", figure.adjusted), ("absolute", figure.absolute_10e9_per_l)):
        if estimate is not None:
            values |= {_MIDDLES[name]: estimate.value, **_pair(name, estimate.limits)}
    return values


_MIDDLES = {"adjusted": "adjusted_percent", "absolute": "absolute_10e9_per_l"}


def _pair(name: str, limits: Limits | None) -> dict[str, Value]:
    if limits is None:
        return {}
    return {f"{name}_low": limits.low, f"{name}_high": limits.high}
