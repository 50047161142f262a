"""slides.csv: the differentials of slides and specimens, a row for every figure and advice.

A pure function of the results. The last rows, of the run as a whole, say how it was counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellcount.core.records import CellClass
from cellcount.differential.coverage import Coverage
from cellcount.differential.figures import PERCENT, Differential, Figure, Rules, TypeRows
from cellcount.differential.limits import Limits
from cellcount.differential.profile import Profile
from cellcount.differential.rollup import FieldCounts, Unit, roll_up, unit_differential
from cellcount.outputs.columns import SLIDES_COLUMNS, Separator, Value
from cellcount.outputs.tables import single, write_table

_ROUNDING = "each number on its own, half to even, to the decimals of its column; n is exact"


@dataclass(frozen=True, eq=False, slots=True)
class Counting:
    """How cells are counted: all that turns the counts of fields into a differential.

    Attributes:
        profile: what is counted, and by which rules.
        assessable: the types of the fields' counts, in their order; none without a classifier.
        classes: of the detector, in the order of the fields' objects.
        rules: how limits are made.
        models: what to say of the models: for example ``classifier`` → name, version and hash.
    """

    profile: Profile
    assessable: Sequence[TypeRows]
    classes: Sequence[CellClass]
    rules: Rules
    models: Mapping[str, str]

    @property
    def label(self) -> str:
        """Name and version of the profile, and whether it was forced."""
        return self.profile.label(forced=self.rules.forced)

    def of(self, unit: Unit) -> Differential:
        """The differential of a slide, a specimen or the run."""
        return unit_differential(unit, self.profile, self.assessable, self.classes, self.rules)

    def about(self) -> dict[str, str]:
        """What a reader must know to read the numbers: name → sentence."""
        profile, coverage = self.profile, Coverage(self.profile, self.assessable)
        said = {
            "profile": f"{self.label}: {profile.title}",
            "standard": profile.standard,
            "denominator": coverage.words(profile.rows),
            "outside_the_denominator": coverage.words(profile.outside),
        }
        if self.assessable:
            said["not_assessed"] = coverage.words(coverage.missing) or "none of the denominator"
        said["limits"] = f"{100 * self.rules.confidence:g} %, {self.rules.method}"
        if self.rules.confusion is not None:
            said["adjusted_by"] = self.rules.confusion.source
        notes = {f"profile_note_{i}": note for i, note in enumerate(profile.notes, 1)}
        use = {"use": "For research use only; not for diagnosis."}
        return said | {"rounding": _ROUNDING} | dict(self.models) | notes | use


def write_slides(
    path: Path,
    fields: Iterable[FieldCounts],
    counting: Counting,
    separator: Separator = ",",
    *,
    bom: bool = False,
) -> None:
    """Write the differential of every slide and specimen, the run's counts and how they came about.

    Args:
        path: the table.
        fields: of the run, in the order of their paths.
        counting: how they are counted.
        separator: of the columns.
        bom: write a byte-order mark first, for spreadsheets that look for it.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    rows = map(single, slide_values(fields, counting))
    write_table(path, SLIDES_COLUMNS, rows, separator, bom=bom)


def slide_values(fields: Iterable[FieldCounts], counting: Counting) -> Iterator[dict[str, Value]]:
    """The rows of slides.csv as values by column."""
    for unit in roll_up(fields):
        who: dict[str, Value] = {
            "level": unit.level,
            "specimen": unit.specimen,
            "slide": unit.slide,
            "profile": counting.label,
        }
        found = counting.of(unit)
        for figure in found.figures:
            yield who | figure_values(figure, found.rules)
        for advice in found.advice:
            yield who | {"kind": "advice", "row": advice.id, "note": advice.text}
        if unit.level == "run":
            for name, text in counting.about().items():
                yield who | {"kind": "about", "row": name, "note": text}


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
