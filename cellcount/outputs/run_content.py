"""Content of a run that outputs write: its results, and facts about the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cellcount.core.records import CellClass, ImageResult
from cellcount.differential.counting import Counting
from cellcount.settings import CsvForm
from cellcount.store.approvals import SlideApproval

Approvals = Mapping[tuple[str, str], SlideApproval]
"""Specimen and slide, as outputs call them → what a person signed off."""

ResultStream = Callable[[], Iterator[ImageResult]]
"""Streams the results of a run in the order of the outputs, as often as it is called."""


@dataclass(frozen=True, eq=False, slots=True)
class Labels:
    """Names that cells may have, and the rules by which they are counted.

    Attributes:
        classes: of the detector.
        types: of the classifier, then those that only reviewers gave; none where none ran.
        profile: by which cells are counted, as outputs call it.
        no_white_types: ids of the types whose cells leave the count of white cells.
    """

    classes: Sequence[CellClass]
    types: Sequence[CellClass] = ()
    profile: str = ""
    no_white_types: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """The ids of the classes, then of the types, each once."""
        return list(dict.fromkeys(c.id for c in (*self.classes, *self.types)))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RunFacts:
    """Facts of a run that its outputs state besides the results.

    Attributes:
        counting: how cells are counted.
        types: of the classifier, in the order of their indices; none where none ran.
        images: of the run, those without a result yet included.
        densest_field: most cells on a field of the detector's training, 0 where it is unknown.
        notes: what the detector's card says that it cannot do.
        versions: program or library to version.
        settings: by name, whatever decides the numbers.
        max_pixels: largest image that is read.
        approvals: of slides.
    """

    counting: Counting
    types: Sequence[CellClass]
    images: int
    densest_field: int = 0
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    max_pixels: int
    approvals: Approvals = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        """Names that cells may have."""
        counting = self.counting
        return Labels(counting.classes, self.types, counting.label, counting.no_white_types)


@dataclass(frozen=True, eq=False, slots=True)
class RunContent:
    """Content from which every form of output is written.

    Attributes:
        results: of the run, with codes in place of names where these were asked for.
        labels: names that cells may have.
        csv: form of the tables.
        facts: statements of the outputs besides the results.
        begun: when the run's first outputs were written, as ``20260131120000+0000``.
        changed: when they last changed: then, or when a person corrected or approved something.
    """

    results: ResultStream
    labels: Labels
    csv: CsvForm
    facts: RunFacts
    begun: str = ""
    changed: str = ""
