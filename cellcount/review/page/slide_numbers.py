"""Numbers of a slide for the page: those of slides.csv, and the progress of its review."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from cellcount.core.records import ImageResult
from cellcount.differential.figures import Differential
from cellcount.differential.rollup import Unit
from cellcount.outputs.report.differential_tables import Cell, Table, differential_tables
from cellcount.outputs.slides import written_rows
from cellcount.review.page.workbench import Workbench
from cellcount.store.approvals import SlideApproval, approvals_of
from cellcount.store.field_flags import FLAGS, flags_of


def unit_of(bench: Workbench, number: int) -> Unit:
    """A slide as a unit of the differential, with the counts of its fields as corrected so far."""
    slide, name = bench.slide(number), bench.stored.outputs.names.path
    return Unit("slide", name(slide.specimen), name(slide.slide), tuple(bench.counts(number)))


def differential_of(bench: Workbench, unit: Unit) -> Differential:
    """The differential of a slide as corrected so far."""
    return bench.outputs().facts.counting.of(unit)


def approval_of(bench: Workbench, number: int) -> SlideApproval | None:
    """The approval of a slide, None where there was none."""
    slide = bench.slide(number)
    return approvals_of(bench.remarks()).get((slide.specimen, slide.slide))


def summary_of(bench: Workbench, number: int) -> dict[str, Any]:
    """Everything that the page shows of a slide besides its cells, JSON-ready."""
    slide, unit = bench.slide(number), unit_of(bench, number)
    found = differential_of(bench, unit)
    approval, rows = approval_of(bench, number), written_rows(unit, found)
    return {
        "slide": number,
        "title": slide.title,
        "tables": [_table(table) for table in differential_tables(found)],
        "total": found.total,
        "advice": [advice.text for advice in found.advice],
        "fields": list(_fields(bench, number)),
        "progress": _progress(bench, number),
        "approval": None if approval is None else _approval(approval, rows),
        "behind": bench.is_behind(),
        "sequence": bench.sequence,
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "caption": table.caption,
        "columns": table.columns,
        "rows": [
            {
                "kind": row.kind,
                "id": row.id,
                "name": row.name,
                "note": row.note,
                "missing": row.missing,
                "cells": [_cell(cell) for cell in row.cells],
            }
            for row in table.rows
        ],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    bar = None if cell.bar is None else asdict(cell.bar)
    return {"text": cell.text, "values": dict(cell.values), "bar": bar}


def _fields(bench: Workbench, number: int) -> Iterator[dict[str, Any]]:
    flags = flags_of(bench.remarks())
    for image in bench.slide(number).images:
        told = bench.told(image)
        raised = flags.get(bench.kept(image).key, ())
        yield {
            "image": image,
            "name": told.ref.image,
            "status": told.status,
            "reason": told.reason,
            "width": told.width_px,
            "height": told.height_px,
            "flags": {flag.flag: flag.person for flag in raised},
        }


def flag_names() -> dict[str, str]:
    """Flags of fields and their words."""
    return dict(FLAGS)


def _progress(bench: Workbench, number: int) -> dict[str, int]:
    """Return the numbers of cells that have a type, need a look, and were seen by a person."""
    sums = {"typed": 0, "doubtful": 0, "reviewed": 0, "taken_out": 0}
    for image in bench.slide(number).images:
        told = bench.told(image)
        if told.status != "done":
            continue
        for name, count in _of_image(told, bench.no_white).items():
            sums[name] += count
    return sums


def _of_image(told: ImageResult, no_white: Collection[int]) -> dict[str, int]:
    seen = {place for place, edit in told.box_edits.items() if edit.removes} | {*told.reviewed}
    removed = sum(edit.removes for edit in told.box_edits.values())
    said = told.cells.types
    if said is None:
        return {"reviewed": len(told.reviewed), "taken_out": removed}
    needs_look = ~said.accepted | np.isin(said.best, list(no_white))
    open_places = np.flatnonzero((said.best >= 0) & needs_look).tolist()
    return {
        "typed": int((said.best >= 0).sum()),
        "doubtful": sum(place not in seen for place in open_places),
        "reviewed": len(told.reviewed),
        "taken_out": removed,
    }


def _approval(approval: SlideApproval, rows: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "words": approval.words(rows),
        "locked": approval.is_locked,
        "versions": [
            {"version": v.version, "person": v.person, "at": v.at, "reason": v.reason}
            for v in approval.versions
        ],
    }
