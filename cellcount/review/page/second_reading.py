"""Blind second reading: another person types the same cells without seeing their labels.

The label of the first reader at that moment is kept with each reading, so that agreement is of what
both saw independently, whatever becomes of the cell. Disagreements wait for a consensus.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cellcount.core.records import NOT_A_CELL
from cellcount.review.page.workbench import Workbench
from cellcount.store.remarks import Remark


@dataclass(frozen=True, slots=True)
class SecondReading:
    """One cell that two people have read.

    Attributes:
        subject: the cell, as remarks name it.
        image, cell: name of its image and its lasting id.
        first, second: what they called it, ``not_a_cell`` included.
        first_reader, second_reader: who they are.
    """

    subject: str
    image: str
    cell: str
    first: str
    second: str
    first_reader: str
    second_reader: str


@dataclass(frozen=True, slots=True)
class KappaRow:
    """Agreement of two people on one type, or on all.

    Attributes:
        type_id: which, "" for all.
        both: cells that both called so.
        first, second: cells that either called so.
        kappa: Cohen's; None where there is nothing to tell by chance.
    """

    type_id: str
    both: int
    first: int
    second: int
    kappa: float | None


def cell_subject(image_key: str, cell: str) -> str:
    """Key that names a cell in remarks."""
    return json.dumps([image_key, cell])


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement beyond chance of two people on some cells (Cohen 1960).

    Args:
        pairs: what the first and the second called each.
    """
    if not pairs:
        return None
    count = len(pairs)
    agreed = sum(first == second for first, second in pairs) / count
    firsts, seconds = Counter(f for f, _ in pairs), Counter(s for _, s in pairs)
    chance = sum(firsts[name] * seconds[name] for name in firsts) / count**2
    return (agreed - chance) / (1 - chance) if chance < 1 else None


def kappa_rows(pairs: Sequence[tuple[str, str]]) -> list[KappaRow]:
    """Agreement on all types together, then on each against all others, the commonest first."""
    both = Counter(first for first, second in pairs if first == second)
    firsts, seconds = Counter(f for f, _ in pairs), Counter(s for _, s in pairs)
    agreed, count = sum(both.values()), len(pairs)
    rows = [KappaRow("", agreed, count, count, cohens_kappa(pairs))]
    names = sorted({*firsts, *seconds}, key=lambda n: (-firsts[n] - seconds[n], n))
    for name in names:
        split = [(str(first == name), str(second == name)) for first, second in pairs]
        rows.append(KappaRow(name, both[name], firsts[name], seconds[name], cohens_kappa(split)))
    return rows


def readings_of(remarks: Iterable[Remark]) -> dict[tuple[str, str], SecondReading]:
    """Cell and second reader → the last reading, which counts."""
    found: dict[tuple[str, str], SecondReading] = {}
    for one in remarks:
        if one.kind == "reading":
            _, cell = json.loads(one.subject)
            found[one.subject, one.person] = SecondReading(
                one.subject,
                str(one.facts["image"]),
                cell,
                str(one.facts["first"]),
                str(one.facts["type"]),
                str(one.facts["first_reader"]),
                one.person,
            )
    return found


def settled_in(remarks: Iterable[Remark]) -> dict[str, Remark]:
    """Cell → the last consensus on it."""
    return {one.subject: one for one in remarks if one.kind == "settle"}


def cells_to_read(bench: Workbench, number: int, person: str) -> Iterator[tuple[int, int, str]]:
    """Cells that another person typed: image, place and key, in an order of the reader's own.

    The order is random, and the same each time, so that it tells nothing of the types.
    """
    found = []
    for image in bench.slide(number).images:
        kept = bench.kept(image)
        if bench.told(image).status != "done":
            continue
        result = kept.result
        others = {p for p, review in result.reviewed.items() if review.reviewer != person}
        others |= {
            place
            for place, edit in result.box_edits.items()
            if edit.change == "not_a_cell" and edit.reviewer != person
        }
        for place in sorted(others):
            edit = result.box_edits.get(place)
            if edit is None or edit.change != "deleted":
                subject = cell_subject(*kept.identity(place))
                order = hashlib.sha256(f"{person}\n{subject}".encode()).digest()
                found.append((order, image, place, subject))
    return ((image, place, subject) for _, image, place, subject in sorted(found))


def first_label(bench: Workbench, image: int, place: int) -> tuple[str, str]:
    """The first reader's type of a cell, and the reader's name."""
    result = bench.kept(image).result
    edit = result.box_edits.get(place)
    if edit is not None and edit.change == "not_a_cell":
        return NOT_A_CELL, edit.reviewer
    review = result.reviewed[place]
    return review.type_id, review.reviewer


def agreement_of(bench: Workbench, number: int) -> list[dict[str, Any]]:
    """Agreement of each pair of readers on a slide, and their disagreements; JSON-ready."""
    remarks, place_of = bench.remarks(), {}
    for image in bench.slide(number).images:
        kept = bench.kept(image)
        for place in range(len(kept.ids)):
            place_of[cell_subject(*kept.identity(place))] = (image, place)
    settled, pairs = settled_in(remarks), dict[tuple[str, str], list[SecondReading]]()
    for reading in readings_of(remarks).values():
        if reading.subject in place_of:
            pairs.setdefault((reading.first_reader, reading.second_reader), []).append(reading)
    return [
        {
            "first": first,
            "second": second,
            "rows": [
                {
                    "type": row.type_id,
                    "both": row.both,
                    "first": row.first,
                    "second": row.second,
                    "kappa": None if row.kappa is None else round(row.kappa, 4),
                }
                for row in kappa_rows([(r.first, r.second) for r in readings])
            ],
            "disagreements": [
                {
                    "image": place_of[r.subject][0],
                    "cell": r.cell,
                    "first": r.first,
                    "second": r.second,
                    "settled": settled[r.subject].facts["type"] if r.subject in settled else "",
                }
                for r in readings
                if r.first != r.second
            ],
        }
        for (first, second), readings in sorted(pairs.items())
    ]
