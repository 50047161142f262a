"""Differentials as an information system takes them: a coded row per figure of a specimen.

FHIR and HL7 v2 tell the same rows. A row has LOINC's code where the profile knows one that is sure,
and always cellcount's own: the kind and id of its row in slides.csv. What cannot be known goes out
without a value and says why; it is never 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from cellcount.differential.codes import LoincCode
from cellcount.differential.counting import Counting
from cellcount.differential.figures import PERCENT, Assessment, Differential, Figure
from cellcount.differential.limits import Limits
from cellcount.differential.rollup import FieldCounts, Unit, roll_up
from cellcount.errors import OutputError
from cellcount.files.text import encodable
from cellcount.outputs.run_content import Approvals
from cellcount.outputs.slides import written_rows

PER_L = "10⁹/L"
RESEARCH_USE = "For research use only; not for diagnosis."
METHOD = "automatic count on images of a stained smear"
SPECIMEN_TYPES = {"peripheral-blood": "peripheral blood smear", "bone-marrow": "bone marrow smear"}
ResultStatus = Literal["preliminary", "final", "amended"]
"""Status of the numbers: not signed, signed, or signed again after an earlier version."""
#: How cellcount writes a unit → code of UCUM.
_UCUM = {
    PERCENT: "%",
    PER_L: "10*9/L",
    ":1": "1",
    "per 100": "/100{WBCs}",
    "cells": "{cells}",
    "fields": "{fields}",
}
#: Figures whose value is their count.
_COUNTS = ("", "per field")
_DECIMALS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One figure as it is sent.

    Attributes:
        id: cellcount's own code, such as ``class.monocytes``.
        name: in words.
        loinc: LOINC's code of just this quantity, None where there is none that is sure.
        value: the number, None where it cannot be known.
        unit, ucum: its unit in words and as a code of UCUM.
        limits: of the value.
        n, denominator, of: cells counted, and what they are stated of.
        assessment: why there is no value, where there is none.
        note: what a reader must know.
    """

    id: str
    name: str
    loinc: LoincCode | None
    value: float | None
    unit: str
    ucum: str
    limits: Limits | None
    n: int | None
    denominator: int | None
    of: str
    assessment: Assessment
    note: str


@dataclass(frozen=True, slots=True)
class SignOff:
    """Approval of a result by people.

    Attributes:
        status: of the result.
        people: who signed its slides, the last one last; none of a preliminary result.
        at: when the last one did, ISO 8601 in UTC, "" of a preliminary result.
        notes: what was approved or taken back, a sentence per slide that ever was.
    """

    status: ResultStatus = "preliminary"
    people: tuple[str, ...] = ()
    at: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaboratoryResult:
    """Result that is sent of one specimen, or of a slide of no named specimen.

    Attributes:
        specimen: its id.
        accession: of the order, "" where it is not known.
        panel: cellcount's own code of the whole.
        title: the profile in words.
        specimen_type: in words.
        rows: in the order of slides.csv.
        notes: on the result as a whole, a sentence each, the use first.
        limits: how limits were made, in words.
        sign_off: of its slides.
        is_slide: it is of a slide whose specimen has no name.
    """

    specimen: str
    accession: str
    panel: str
    title: str
    specimen_type: str
    rows: tuple[ResultRow, ...]
    notes: tuple[str, ...]
    limits: str
    sign_off: SignOff = SignOff()
    is_slide: bool = False


def laboratory_results(
    fields: Iterable[FieldCounts],
    counting: Counting,
    approvals: Approvals = MappingProxyType({}),
) -> Iterator[LaboratoryResult]:
    """The results of each specimen, then of each slide whose specimen has no name.

    Args:
        fields: in the order of their paths.
        counting: how they are counted.
        approvals: of their slides.

    Raises:
        OutputError: the images of a specimen have different accession numbers.
    """
    units = roll_up(fields)
    named = [unit for unit in units if unit.level == "specimen"]
    slides = defaultdict[str, list[Unit]](list)
    for slide in (unit for unit in units if unit.level == "slide"):
        slides[slide.specimen].append(slide)
    for unit in (*named, *(u for u in units if u.level == "slide" and not u.specimen)):
        found, profile = counting.of(unit), counting.profile
        own = [unit] if unit.level == "slide" else slides[unit.specimen]
        signed = _sign_off(unit, own, counting, approvals)
        yield LaboratoryResult(
            encodable(unit.specimen or unit.slide) or "unnamed",
            _accession(unit),
            f"differential.{profile.name}",
            f"{profile.title} ({counting.label})",
            SPECIMEN_TYPES[profile.kind],
            tuple(_rows(found)),
            (RESEARCH_USE, *signed.notes, *(advice.text for advice in found.advice)),
            f"{100 * counting.rules.confidence:g} % limits ({counting.rules.method})",
            signed,
            unit.level == "slide",
        )


def _sign_off(
    unit: Unit, slides: Sequence[Unit], counting: Counting, approvals: Approvals
) -> SignOff:
    """Sum up the approvals of the slides that the numbers of a slide or specimen rest on.

    The result is signed where all of them are, as they are now.
    """
    standings, notes, signed = set[str](), list[str](), list[tuple[str, str]]()
    for slide in slides:
        approval = approvals.get((slide.specimen, slide.slide))
        if approval is not None:
            rows = written_rows(slide, counting.of(slide))
            standings.add(approval.standing(rows))
            last = approval.versions[-1]
            signed.append((last.at, encodable(last.person)))
            name = encodable(slide.slide) or "without a name"
            notes.append(f"Slide {name}: {encodable(approval.words(rows))}.")
        elif slide.done:
            standings.add("open")
    if unit.outstanding or not signed or not standings <= {"approved", "amended"}:
        return SignOff(notes=tuple(notes))
    signed.sort()
    people = tuple(dict.fromkeys(person for _, person in signed))
    status: ResultStatus = "amended" if "amended" in standings else "final"
    return SignOff(status, people, signed[-1][0], tuple(notes))


def _accession(unit: Unit) -> str:
    given = sorted({field.ref.accession for field in unit.fields} - {""})
    if len(given) > 1:
        raise OutputError(
            f"{unit.level} {unit.specimen or unit.slide} has the accession numbers "
            f"{', '.join(given)}, expected one; mend the column accession of the manifest"
        )
    return encodable(given[0]) if given else ""


def _rows(found: Differential) -> Iterator[ResultRow]:
    """A row per figure, and one more where it is known per volume as well."""
    codes = found.profile.codes
    for figure in found.figures:
        whole = figure.of == found.profile.cells and not found.rules.forced
        coded = whole and figure.kind in ("class", "group")
        yield _row(figure, codes.percent.get(figure.id) if coded else None)
        absolute = figure.absolute_10e9_per_l
        if absolute is not None:
            yield ResultRow(
                id=f"{figure.kind}.{figure.id}.absolute",
                name=f"{figure.name}, absolute",
                loinc=codes.absolute.get(figure.id) if coded else None,
                value=round(absolute.value, _DECIMALS),
                unit=PER_L,
                ucum=_UCUM[PER_L],
                limits=absolute.limits,
                n=figure.n,
                denominator=figure.denominator,
                of=figure.of,
                assessment=figure.assessment,
                note=figure.note,
            )


def _row(figure: Figure, loinc: LoincCode | None) -> ResultRow:
    counts = figure.unit in _COUNTS
    unit = "fields" if figure.of == "fields" and figure.kind == "measure" else "cells"
    value = figure.n if counts else figure.value
    return ResultRow(
        id=f"{figure.kind}.{figure.id}",
        name=figure.name,
        loinc=loinc,
        value=None if value is None else round(value, _DECIMALS),
        unit=unit if counts else figure.unit,
        ucum=_UCUM[unit if counts else figure.unit],
        limits=None if counts else figure.limits,
        n=figure.n,
        denominator=figure.denominator,
        of=figure.of,
        assessment=figure.assessment,
        note=figure.note,
    )


def absent_because(row: ResultRow) -> str:
    """Return the reason why a row has no value, in words."""
    if row.assessment == "assessed":
        return "no cells to state it of"
    return row.assessment


def stated(row: ResultRow, limits: str) -> Sequence[str]:
    """Sentences on a row: its limits and counts, and what to know of it."""
    told = []
    if row.limits is not None:
        high = "no upper limit" if row.limits.high is None else f"{row.limits.high:.4g}"
        told.append(f"{limits}: {row.limits.low:.4g} to {high} {row.unit}")
    if row.n is not None and row.denominator is not None:
        told.append(f"{row.n} of {row.denominator} {row.of}")
    return (*told, row.note) if row.note else told
