"""The report of a run: one HTML file that loads nothing, for people who do not open tables.

A pure function of the results and of the image files that pictures are cut from. What is long is
cut off at a stated number and told to be in the tables, so that thousands of fields stay usable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cellcount import __version__
from cellcount.core.records import UNCLASSIFIED, CellClass, ImageResult
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Differential, Figure, Kind
from cellcount.differential.rollup import Unit, roll_up
from cellcount.files.html import write_page
from cellcount.files.text import number_of
from cellcount.outputs.report.cell_pictures import (
    Flagged,
    Pictures,
    ReportSelection,
    ShownCell,
    make_pictures,
)
from cellcount.outputs.report.differential_tables import (
    Table,
    counts_table,
    differential_strip,
    differential_tables,
    limits_of,
    shown,
)
from cellcount.outputs.report.head import report_head
from cellcount.outputs.report.quality_rows import quality_panel
from cellcount.outputs.run_content import ResultStream, RunContent, RunFacts
from cellcount.outputs.slides import figure_values, written_rows

_TEMPLATE = "report.html"
_MOST_UNITS, _MOST_LISTED_UNITS = 120, 1_000
_MOST_FIELDS, _MOST_REASONS = 2_000, 30
_OVERVIEW_COLUMNS = 7  # of a table that must not be wider than the page
_NO_COUNTS = "no field of it could be analysed"


def write_report(path: Path, content: RunContent) -> None:
    """Write the report.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    results, facts = content.results, content.facts
    counting, types = facts.counting, facts.types
    names = [*types, CellClass(UNCLASSIFIED, UNCLASSIFIED, UNCLASSIFIED)] if types else []
    survey = ReportSelection(len(names) or len(counting.classes), typed=bool(types))
    units = roll_up(counting.fields(_surveyed(results, survey)))
    pictures = make_pictures(results(), survey, content.labels, facts.max_pixels)
    run = units.pop()
    ordered = _by_specimen(units)
    of_run = counting.of(run)
    detailed = [counting.of(unit) for unit in ordered[:_MOST_UNITS]]
    values = {
        "version": __version__,
        "title": "Report of cell counts",
        "head": report_head(content, units),
        "warnings": _warnings(facts, survey, of_run),
        "summary": _summary(facts, survey, run, units),
        "totals": [_counts_of_run(of_run)],
        "overview": _overview(ordered, detailed, counting),
        "units": [
            _section(i, unit, found, facts)
            for i, (unit, found) in enumerate(zip(ordered, detailed, strict=False), 1)
        ],
        "units_left": max(0, len(ordered) - _MOST_UNITS),
        "gallery": _gallery(survey, pictures, names or counting.classes, types),
        "typed": bool(types),
        "reasons": _reasons(survey.flagged),
        "flagged": _flagged(survey, pictures),
        "flagged_in_all": len(survey.flagged),
        "quality": quality_panel(survey.measures, counting.profile.quality),
        "fields": _fields(run, survey, counting),
        "fields_left": max(0, len(run.fields) - _MOST_FIELDS),
        "limits": _limits_of_models(facts),
        "provenance": _provenance(facts),
    }
    write_page(path, _TEMPLATE, values)


def _surveyed(results: ResultStream, survey: ReportSelection) -> Iterator[ImageResult]:
    """Stream the results, and let the survey collect from them."""
    for result in results():
        survey.add(result)
        yield result


def _by_specimen(units: Sequence[Unit]) -> list[Unit]:
    """Order units: every specimen before its slides, then slides without one."""
    specimens = [u for u in units if u.level == "specimen"]
    ordered = []
    for one in specimens:
        slides = [u for u in units if u.level == "slide" and u.specimen == one.specimen]
        ordered += [one, *slides]
    return ordered + [u for u in units if u.level == "slide" and not u.specimen]


def _title(unit: Unit) -> str:
    if unit.level == "specimen":
        return f"Specimen {unit.specimen}"
    name = f"Slide {unit.slide}" if unit.slide else "Slide without a name"
    return f"{name}, specimen {unit.specimen}" if unit.specimen else name


def _marked(unit: Unit) -> str:
    """Name of a slide or specimen, marked where the run is unfinished for it."""
    return _title(unit) + (" (unfinished)" if unit.outstanding else "")


def _section(number: int, unit: Unit, found: Differential, facts: RunFacts) -> dict[str, Any]:
    approval = facts.approvals.get((unit.specimen, unit.slide)) if unit.level == "slide" else None
    tables = differential_tables(found) if unit.done else []
    return {
        "anchor": f"unit-{number}",
        "title": _marked(unit),
        "level": unit.level,
        "specimen": unit.specimen,
        "slide": unit.slide,
        "lead": _lead(found, unit),
        "advice": [advice.text for advice in found.advice],
        "approval": "" if approval is None else approval.words(written_rows(unit, found)),
        "objects": _objects(found),
        "strip": differential_strip(found) if unit.done else [],
        "tables": tables,
        "unknown": sum(len(table.unknown) for table in tables),
    }


def _objects(found: Differential) -> list[tuple[str, str]]:
    """Cells of each class of the detector, where they were counted."""
    return [(_words(f.name), f"{f.n:,}") for f in found.of_kind("object") if f.n is not None]


def _lead(found: Differential, unit: Unit) -> str:
    fields = number_of(len(unit.fields), "field")
    if not unit.done:
        why = "none of them has a result yet" if unit.outstanding else _NO_COUNTS
        return f"{fields}, {why}: there is nothing to report."
    text = f"{unit.done:,} of {fields} analysed"
    if found.total is None:
        return f"{text}; no classifier ran, so there is no differential."
    if not found.total:
        return f"{text}; no cell of the denominator was found, so there are no percentages."
    of = next((f.of for f in found.of_kind("class", "pool") if f.of), found.profile.cells)
    return f"{text}; {found.total:,} {of} in the denominator."


def _warnings(facts: RunFacts, survey: ReportSelection, run: Differential) -> list[str]:
    """Return the warnings that stand at the top."""
    said = [a.text for a in run.advice if a.id == "forced"]
    said += [_words(a.text) for a in run.advice if a.id == "experimental"]
    said += [_words(advice.text) for advice in run.advice if advice.id == "unfinished"]
    if facts.densest_field and survey.densest > facts.densest_field:
        said.append(
            f"The densest field has {survey.densest:,} cells, more than the "
            f"{facts.densest_field:,} of any field that the detector was trained on: cells may "
            "be missed there."
        )
    return said


def _summary(
    facts: RunFacts, survey: ReportSelection, run: Unit, units: Sequence[Unit]
) -> list[tuple[str, str]]:
    """Lines that sum up the run."""
    statuses = Counter(one.status for one in run.fields)
    cautions = sum(one.status == "done" for one in survey.flagged)
    waiting = facts.images - len(run.fields) + run.outstanding
    fields = [f"{statuses['done']:,} of {facts.images:,} analysed"]
    more = (
        (statuses["failed"], "failed"),
        (statuses["excluded"], "excluded"),
        (cautions, "with a caution"),
        (waiting, "without a result yet: give the same command again"),
    )
    fields += [f"{n:,} {words}" for n, words in more if n > 0]
    about = facts.counting.about()
    rows = [("Fields", ", ".join(fields)), ("Slides", f"{_of_level(units, 'slide'):,}")]
    if specimens := _of_level(units, "specimen"):
        rows.append(("Specimens", f"{specimens:,}"))
    rows.append(("Densest field", _densest(survey.densest, facts.densest_field)))
    names = ("profile", "denominator", "outside_the_denominator", "not_assessed", "limits")
    return rows + [(_words(name), about[name]) for name in names if about.get(name)]


def _densest(cells: int, trained: int) -> str:
    known = f"{trained:,}" if trained else "not stated"
    return f"{cells:,} cells; densest seen in training: {known}"


def _of_level(units: Sequence[Unit], level: str) -> int:
    return sum(unit.level == level for unit in units)


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _counts_of_run(found: Differential) -> Table:
    kinds: tuple[Kind, ...] = ("object", "class", "pool", "outside")
    return counts_table("Cells of the whole run: it pools people, so counts alone", found, kinds)


def _overview(
    units: Sequence[Unit], known: Sequence[Differential], counting: Counting
) -> dict[str, Any] | None:
    """A line per slide and specimen; none where there is only one."""
    if len(units) < 2:
        return None
    rows, heads = [], dict[tuple[str, str], str]()
    for number, unit in enumerate(units[:_MOST_LISTED_UNITS], 1):
        found = known[number - 1] if number <= len(known) else counting.of(unit)
        cells: dict[tuple[str, str], tuple[str, str]] = {}
        for figure in found.of_kind(*(("class", "pool") if counting.assessable else ("object",))):
            if figure.assessment == "assessed":
                cells[figure.kind, figure.id] = _overview_cell(figure, found, counting)
                heads.setdefault((figure.kind, figure.id), figure.name)
        anchor = f"unit-{number}" if number <= _MOST_UNITS else ""
        total = "" if found.total is None else f"{found.total:,}"
        rows.append((anchor, _marked(unit), f"{unit.done:,} of {len(unit.fields):,}", total, cells))
    left = len(units) - len(rows)
    order = list(heads)
    parts = [order[i : i + _OVERVIEW_COLUMNS] for i in range(0, len(order), _OVERVIEW_COLUMNS)]
    sign = ", %" if counting.assessable else ""
    return {
        "parts": [
            {
                "heads": [_words(heads[key]) + sign for key in part],
                "rows": [(*row[:4], [row[4].get(key, ("", "")) for key in part]) for row in rows],
            }
            for part in parts or [[]]
        ],
        "left": max(0, left),
        "of": f"limits are those of {100 * counting.rules.confidence:g} %",
    }


def _overview_cell(figure: Figure, found: Differential, counting: Counting) -> tuple[str, str]:
    """A share and its limits, or a count of the detector."""
    values = figure_values(figure, found.rules)
    if not counting.assessable:
        return shown(values, "n").text, ""
    return shown(values, "percent", ".1f").text, limits_of(values, "ci", ".1f").text


def _gallery(
    survey: ReportSelection,
    pictures: Pictures,
    names: Sequence[CellClass],
    types: Sequence[CellClass],
) -> list[dict[str, Any]]:
    """A part per type: its least sure cells, some of them without a picture."""
    parts = []
    for number, cells in survey.least_sure().items():
        in_all = survey.counts[number]
        parts.append(
            {
                "title": _words(names[number].plural),
                "count": f"{len(cells):,} of {in_all:,} shown",
                "cells": [
                    {
                        "address": pictures.cells.get((cell.image, cell.cell), ""),
                        "image": cell.image,
                        "number": cell.number,
                        "words": _sureness(cell, types),
                        "name": names[number].name,
                    }
                    for cell in cells
                ],
            }
        )
    return parts


def _sureness(cell: ShownCell, types: Sequence[CellClass]) -> str:
    if cell.reviewer:
        return f"reviewed by {cell.reviewer}"
    if cell.second < 0:
        return f"{cell.prob:.2f}"
    second = types[cell.second]
    return f"{cell.prob:.2f}; {second.abbreviation or second.name} {cell.second_prob:.2f}"


def _reasons(flagged: Sequence[Flagged]) -> list[tuple[str, str, int]]:
    """Status, reason and fields of each, the commonest first."""
    counts = Counter((_status_words(one), one.kind) for one in flagged)
    return [(status, reason, n) for (status, reason), n in counts.most_common(_MOST_REASONS)]


def _status_words(one: Flagged) -> str:
    return "caution" if one.status == "done" else one.status


def _flagged(survey: ReportSelection, pictures: Pictures) -> list[dict[str, str]]:
    return [
        {
            "image": one.image,
            "status": _status_words(one),
            "reason": one.reason,
            "address": pictures.fields.get(one.image, ""),
        }
        for one in survey.fields()
    ]


def _fields(run: Unit, survey: ReportSelection, counting: Counting) -> dict[str, Any]:
    """A line per field with its counts; nothing in place of 0 where it was not analysed."""
    reasons = {one.image: one.reason for one in survey.flagged}
    rows = []
    for one in run.fields[:_MOST_FIELDS]:
        counts = [f"{n:,}" if one.status == "done" else "" for n in one.objects.tolist()]
        reason = reasons.get(one.ref.image, "")
        rows.append((one.ref.image, one.ref.slide, one.status, counts, reason))
    return {"heads": [_words(c.plural) for c in counting.classes], "rows": rows}


def _limits_of_models(facts: RunFacts) -> list[str]:
    """Return the limits of the models, in the words of their cards and of the profile."""
    about = facts.counting.about()
    said = [f"Detector: {note}" for note in facts.notes]
    said += [f"Classifier: {t}" for n, t in about.items() if n.startswith("classifier_note")]
    said += [f"Profile: {t}" for n, t in about.items() if n.startswith("profile_note")]
    missing = about.get("not_assessed")
    if missing:
        said.insert(0, f"Not assessed, never 0: {missing}.")
    if not facts.types:
        said.insert(0, "No classifier ran: cells have the classes of the detector, no types.")
    return said


def _provenance(facts: RunFacts) -> list[tuple[str, str]]:
    """Versions, models, settings and inputs from which the numbers can be reproduced."""
    about = facts.counting.about()
    told = [(n, t) for n, t in about.items() if "_note_" not in n and n != "use"]
    rows = [(_words(name), text) for name, text in told]
    rows.append(("Versions", ", ".join(f"{n} {v}" for n, v in facts.versions.items())))
    settings = [f"{n} = {v}" for n, v in facts.settings.items() if v is not None]
    return [*rows, ("Settings", ", ".join(settings))]
