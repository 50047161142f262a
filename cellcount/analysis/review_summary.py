"""Summary of the corrections of a run, and of the types that only reviewers gave.

What they said of cells that no result of the run has any more is told, too: it does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cellcount.core.records import UNCLASSIFIED, ImageResult, ReviewerType
from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import Profile
from cellcount.files.text import listed, number_of
from cellcount.outputs.run_content import RunFacts
from cellcount.store.cell_states import CellState

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ReviewSummary:
    """The reviews and corrections of a run: those that count, and how many do not.

    Attributes:
        cells: cells with a reviewed type.
        reviewers: who gave them, and how many each.
        latest: time of the last one.
        types: the types they gave.
        box_edits: person → cells that this one added, moved or took out.
        not_counting: what an image was called → corrections of its cells that do not count any
            more, for no image of the run has that content, or no cell of it lies there.
    """

    cells: int
    reviewers: dict[str, int]
    latest: str
    types: frozenset[str]
    box_edits: Mapping[str, int] = field(default_factory=dict)
    not_counting: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, results: Iterable[ImageResult], corrections: Mapping[str, CellState]
    ) -> ReviewSummary | None:
        """Sum up the reviews of a run; None where nothing was ever reviewed.

        Args:
            results: of the run.
            corrections: all that the journal knows, by the id of the cell.
        """
        if not corrections:
            return None
        done = [r for r in results if r.status == "done" and r.corrections]
        said = [review for r in done for review in r.reviewed.values()]
        edits = [edit for r in done for edit in r.box_edits.values()]
        counting = frozenset[str]().union(*(r.corrections for r in done))
        lost = Counter(s.image for cell, s in corrections.items() if cell not in counting)
        times = [*(r.reviewed_at for r in said), *(e.made_at for e in edits)]
        return cls(
            cells=len(said),
            reviewers=dict(sorted(Counter(review.reviewer for review in said).items())),
            latest=max(times, default=""),
            types=frozenset(review.type_id for review in said),
            box_edits=dict(sorted(Counter(edit.reviewer for edit in edits).items())),
            not_counting=dict(sorted(lost.items())),
        )

    @property
    def words(self) -> str:
        """Say which reviews count, in a sentence; "" where none does."""
        parts = []
        if self.cells:
            parts.append(f"{self.cells:,} cells have the type of a reviewer: {_by(self.reviewers)}")
        if self.box_edits:
            cells = number_of(sum(self.box_edits.values()), "cell")
            parts.append(f"{cells} added, moved or taken out: {_by(self.box_edits)}")
        return "; ".join([*parts, f"last {self.latest}"]) if parts else ""

    def loss(self, name: Callable[[str], str]) -> str:
        """Say which reviews no longer count, in a sentence; "" where all do.

        Args:
            name: what outputs call an image.
        """
        total = sum(self.not_counting.values())
        if not total:
            return ""
        lost = [f"{name(image)}: {n:,}" for image, n in self.not_counting.items()]
        counts = "counts" if total == 1 else "count"
        return (
            f"{number_of(total, 'correction')} of a reviewer no longer {counts}, since no image of "
            "this run has the content that was corrected, or no cell of it lies there now "
            f"({listed(lost, _SHOWN)}); the journal keeps them"
        )

    def facts(self) -> dict[str, Any]:
        """JSON-ready, for run.json."""
        facts: dict[str, Any] = {
            "cells": self.cells,
            "reviewers": self.reviewers,
            "latest": self.latest,
        }
        if self.box_edits:
            facts["box_edits"] = dict(self.box_edits)
        if self.not_counting:
            facts["not_counting"] = sum(self.not_counting.values())
        return facts


def _by(people: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} by {who}" for who, n in people.items())


def with_reviewer_types(facts: RunFacts, reviewed: ReviewSummary | None) -> RunFacts:
    """Add to the facts of outputs the types that only a reviewer gave, and a note on reviews."""
    if reviewed is None or not reviewed.words:
        return facts
    extended = with_types(facts, reviewed.types)
    counting = extended.counting
    models = dict(counting.models) | {"review": reviewed.words}
    return replace(extended, counting=replace(counting, models=models))


def with_types(facts: RunFacts, types: frozenset[str]) -> RunFacts:
    """Add to the facts of outputs those of some types that the classifier does not know."""
    counting = facts.counting
    known = {t.id for t in facts.types} | {UNCLASSIFIED}
    added = reviewer_types(counting.profile, types - known)
    rows = (*counting.profile.rows, *counting.profile.outside)
    assessable = [
        TypeRows(t.id, t.plural, (t.id,) if t.id in rows else (), searched=False) for t in added
    ]
    extended = replace(counting, assessable=(*counting.assessable, *assessable))
    return replace(facts, counting=extended, types=(*facts.types, *added))


def reviewer_types(profile: Profile, ids: Iterable[str]) -> tuple[ReviewerType, ...]:
    """Types that the classifier does not know, in the order of the profile's rows."""
    order = {row: i for i, row in enumerate((*profile.rows, *profile.outside))}
    ranked = sorted(ids, key=lambda i: (order.get(i, len(order)), i))
    return tuple(ReviewerType(i, profile.name_of(i), profile.name_of(i)) for i in ranked)
