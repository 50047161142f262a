"""Rules by which the cells of a run are counted: from counts of fields to differentials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cellcount.core.blood import is_white
from cellcount.core.cells import with_rejected
from cellcount.core.records import CellClass, ImageResult
from cellcount.differential.coverage import Coverage
from cellcount.differential.figures import Differential, Rules, TypeRows
from cellcount.differential.profile import Profile
from cellcount.differential.rollup import FieldCounts, Unit, field_counts, unit_differential

_ROUNDING = "each number on its own, half to even, to the decimals of its column; n is exact"


@dataclass(frozen=True, eq=False, slots=True)
class Counting:
    """Rules that turn the counts of fields into a differential.

    Attributes:
        profile: what is counted, and by which rules.
        assessable: the types of the fields' counts, in their order; none without a classifier.
        classes: of the detector, in the order of the fields' objects.
        rules: how limits are made.
        models: what to say of the models: for example ``classifier`` → name, version and hash.
        misfit: why a differential by the profile would mislead, "" where it does not.
    """

    profile: Profile
    assessable: Sequence[TypeRows]
    classes: Sequence[CellClass]
    rules: Rules
    models: Mapping[str, str]
    misfit: str = ""

    @property
    def label(self) -> str:
        """Name and version of the profile, and what puts its counts in doubt."""
        return self.profile.label(forced=self.rules.forced, experimental=self.rules.experimental)

    @property
    def no_white_types(self) -> tuple[str, ...]:
        """Ids of the types whose cells leave the count of white cells."""
        return tuple(t.id for t in self.assessable if not t.white_cell)

    def rejecting(self, result: ImageResult) -> ImageResult:
        """Mark the cells of a result that were detected as white cells and are none.

        Args:
            result: with the types that count; ``assessable`` names them in their order.
        """
        white = [label for label, c in enumerate(self.classes) if is_white(c.id)]
        none = [place for place, t in enumerate(self.assessable) if not t.white_cell]
        return with_rejected(result, white, none)

    def fields(self, results: Iterable[ImageResult]) -> Iterator[FieldCounts]:
        """Yield the counts of each field, one result in memory at a time."""
        ids = [t.id for t in self.assessable]
        return (field_counts(result, len(self.classes), ids) for result in results)

    @property
    def is_doubtful(self) -> bool:
        """Whether the profile was forced, or the detector is an experiment."""
        return self.rules.forced or bool(self.rules.experimental)

    def of(self, unit: Unit) -> Differential:
        """The differential of a slide, a specimen or the run."""
        return unit_differential(unit, self.profile, self.assessable, self.classes, self.rules)

    def about(self) -> dict[str, str]:
        """Explanations that the numbers need: name → sentence."""
        profile, coverage = self.profile, Coverage(self.profile, self.assessable)
        said = {
            "profile": f"{self.label}: {profile.title}",
            "standard": profile.standard,
            "denominator": coverage.words(profile.rows),
            "outside_the_denominator": coverage.words(profile.outside),
        }
        if no_white := [t.name for t in self.assessable if not t.white_cell]:
            said["not_white_cells"] = f"{', '.join(no_white)}: in no count of white cells"
        if self.assessable:
            said["not_assessed"] = coverage.words(coverage.missing) or "none of the denominator"
        said["limits"] = f"{100 * self.rules.confidence:g} %, {self.rules.method}"
        if self.rules.confusion is not None:
            said["adjusted_by"] = self.rules.confusion.source
        notes = {f"profile_note_{i}": note for i, note in enumerate(profile.notes, 1)}
        use = {"use": "For research use only; not for diagnosis."}
        return said | {"rounding": _ROUNDING} | dict(self.models) | notes | use
