"""What reviewers said of the cells of a run, in sum, and the types that only they gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from cellcount.core.records import UNCLASSIFIED, ImageResult, ReviewerType
from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import Profile
from cellcount.outputs.run_content import RunFacts


@dataclass(frozen=True, slots=True)
class ReviewSummary:
    """The reviews of a run that count.

    Attributes:
        cells: cells with a reviewed type.
        reviewers: who gave them, and how many each.
        latest: time of the last one.
        types: the types they gave.
    """

    cells: int
    reviewers: dict[str, int]
    latest: str
    types: frozenset[str]

    @classmethod
    def of(cls, results: Iterable[ImageResult]) -> ReviewSummary | None:
        """The sum over a run; None where nothing was reviewed."""
        said = [review for r in results if r.status == "done" for review in r.reviewed.values()]
        if not said:
            return None
        return cls(
            cells=len(said),
            reviewers=dict(sorted(Counter(review.reviewer for review in said).items())),
            latest=max(review.reviewed_at for review in said),
            types=frozenset(review.type_id for review in said),
        )

    @property
    def words(self) -> str:
        """In a sentence, for people."""
        by = ", ".join(f"{n:,} by {who}" for who, n in self.reviewers.items())
        return f"{self.cells:,} cells have the type of a reviewer: {by}; last {self.latest}"

    def facts(self) -> dict[str, Any]:
        """JSON-ready, for run.json."""
        return {"cells": self.cells, "reviewers": self.reviewers, "latest": self.latest}


def with_reviewer_types(facts: RunFacts, reviewed: ReviewSummary | None) -> RunFacts:
    """Add the types that only a reviewer gave to what outputs tell."""
    if reviewed is None:
        return facts
    counting = facts.counting
    known = {t.id for t in facts.types} | {UNCLASSIFIED}
    added = reviewer_types(counting.profile, reviewed.types - known)
    rows = (*counting.profile.rows, *counting.profile.outside)
    assessable = [
        TypeRows(t.id, t.plural, (t.id,) if t.id in rows else (), searched=False) for t in added
    ]
    extended = replace(
        counting,
        assessable=(*counting.assessable, *assessable),
        models=dict(counting.models) | {"review": reviewed.words},
    )
    return replace(facts, counting=extended, types=(*facts.types, *added))


def reviewer_types(profile: Profile, ids: Iterable[str]) -> tuple[ReviewerType, ...]:
    """Types that the classifier does not know, in the order of the profile's rows."""
    order = {row: i for i, row in enumerate((*profile.rows, *profile.outside))}
    ranked = sorted(ids, key=lambda i: (order.get(i, len(order)), i))
    return tuple(ReviewerType(i, profile.name_of(i), profile.name_of(i)) for i in ranked)
