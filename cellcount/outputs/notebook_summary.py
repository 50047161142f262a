"""A run in short, for notebooks and consoles: what was counted, and the differential of each slide.

The numbers are those of slides.csv, as the report shows them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cellcount.differential.figures import Differential
from cellcount.differential.rollup import Unit, roll_up
from cellcount.files.html import render_page
from cellcount.files.text import number_of, shown
from cellcount.outputs.report.differential_tables import (
    Table,
    counts_table,
    differential_tables,
)
from cellcount.outputs.run_content import RunContent

_MOST_SLIDES = 6


@dataclass(frozen=True, slots=True)
class _Section:
    """A slide: its name, its fields, its differential or what the detector found, and advice."""

    title: str
    fields: str
    table: Table
    advice: tuple[str, ...]


def summary_line(content: RunContent) -> str:
    """Tell in a line how many images are done, and the cells on them."""
    run = _units(content)[-1]
    return f"{_images(run)}; {_cells(content.facts.counting.of(run))}"


def summary_html(content: RunContent, notes: Sequence[str] = ()) -> str:
    """Show a run as a part of a page, which loads nothing and takes no name for markup.

    Args:
        content: with the types of cells that count.
        notes: what a person must know besides, in a sentence each.
    """
    counting, units = content.facts.counting, _units(content)
    slides = [unit for unit in units if unit.level == "slide"]
    has_differential = bool(content.facts.types) and not counting.misfit
    sections = []
    for unit in slides[:_MOST_SLIDES]:
        found = counting.of(unit)
        objects = counts_table("Found by the detector", found, ("object",))
        table = differential_tables(found)[0] if has_differential else objects
        advice = tuple(one.text for one in found.advice) if has_differential else ()
        sections.append(_Section(shown(unit.slide), _images(unit), table, advice))
    values = {
        "images": _images(units[-1]),
        "cells": _cells(counting.of(units[-1])),
        "profile": counting.label,
        "notes": [shown(note) for note in (*notes, counting.misfit) if note],
        "sections": sections,
        "slides_left": len(slides) - len(sections),
    }
    return render_page("notebook.html", values)


def refusal_html(text: str) -> str:
    """Show why a run cannot be read."""
    return render_page("notebook_refusal.html", {"text": shown(text)})


def _units(content: RunContent) -> list[Unit]:
    """Slides and specimens, and the run at last."""
    return roll_up(content.facts.counting.fields(content.results()))


def _images(unit: Unit) -> str:
    """Tell how many images are done, and of the others how they stand."""
    states = Counter(field.status for field in unit.fields)
    parts = [f"{states.pop('done', 0):,} of {number_of(len(unit.fields), 'image')} done"]
    return ", ".join([*parts, *(f"{n:,} {state}" for state, n in sorted(states.items()))])


def _cells(found: Differential) -> str:
    """Tell what the detector found."""
    return ", ".join(f"{figure.n or 0:,} {figure.name}" for figure in found.of_kind("object"))
