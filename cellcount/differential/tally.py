"""The counts of one sample against its profile: shares with all their limits.

Shapes: F fields, K types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from cellcount.core.records import UNCLASSIFIED
from cellcount.differential.coverage import Coverage
from cellcount.differential.figures import (
    ASSESSED_CELLS,
    PERCENT,
    Assessment,
    Estimate,
    Figure,
    Kind,
    Rules,
    Sample,
)
from cellcount.differential.limits import (
    Limits,
    Unmixing,
    corrected_wbc,
    field_bootstrap,
    share_limits,
)

#: Why a row has no number.
UNNAMED = "the classifier cannot name them"


class Tally:
    """Counts with everything that their shares are computed from.

    Args:
        counts: type → cells; ``unclassified`` among them where a classifier leaves cells open.
        coverage: what the types say of the profile's rows.
        sample: what was counted on.
        rules: how limits are made.

    Raises:
        ValueError: a count of a type that is not assessable, a negative one, or more cells
            reviewed than counted.
    """

    def __init__(
        self, counts: Mapping[str, int], coverage: Coverage, sample: Sample, rules: Rules
    ) -> None:
        ids = [t.id for t in coverage.types]
        unknown = sorted(set(counts) - {*ids, UNCLASSIFIED})
        if unknown or any(n < 0 for n in counts.values()):
            raise ValueError(f"counts are {dict(counts)}, expected 0 or more of {', '.join(ids)}")
        self.coverage, self.profile = coverage, coverage.profile
        self.sample, self.rules = sample, rules
        self.by_type = np.array([counts.get(i, 0) for i in ids], np.int64)  # (K,)
        self.reviewed = np.array([sample.reviewed.get(i, 0) for i in ids], np.int64)  # (K,)
        if (self.reviewed > self.by_type).any():
            raise ValueError(f"{dict(sample.reviewed)} cells are reviewed of {dict(counts)}")
        self.unclassified = int(counts.get(UNCLASSIFIED, 0))
        self.counted = sample.fields != 0
        self.total = self.cells(coverage.denominator)

    def cells(self, members: Iterable[int]) -> int:
        """Cells of some types."""
        return int(self.by_type[list(members)].sum())

    def by_reviewers(self, members: Iterable[int], more: str = "") -> str:
        """End of a note on cells that only a reviewer named; "" without such cells."""
        n = self.cells(members)
        return f"; a reviewer named {n:,}{more}" if n else ""

    @property
    def of(self) -> str:
        """Name of the cells that make up the denominator, for sentences."""
        return self.profile.cells if self.coverage.complete else ASSESSED_CELLS

    @cached_property
    def wbc(self) -> float | None:
        """The white cell count that absolute counts rest on, None where they rest on none."""
        rule, given = self.profile.absolute, self.sample.wbc_10e9_per_l
        if rule is None or len(given) != 1:
            return None
        if not rule.analyzer_counts_nrbc:
            return given[0]
        return None if self.nrbc_per_100 is None else corrected_wbc(given[0], self.nrbc_per_100)

    @cached_property
    def nrbc_per_100(self) -> float | None:
        """Nucleated red cells per 100 cells of the denominator, None where that is unknown."""
        row = self.profile.nrbc
        if not row or not self.total or not self.coverage.is_named(row):
            return None
        return 100 * self.cells(self.coverage.own(row)) / self.total

    def figure(
        self,
        kind: Kind,
        id_: str,
        name: str,
        assessment: Assessment = "assessed",
        **rest: Any,  # noqa: ANN401 -- fields of a figure
    ) -> Figure:
        """Make a figure; where no field was analysed, it states only that."""
        if not self.counted:
            return Figure(kind=kind, id=id_, name=name, assessment="not counted")
        return Figure(kind=kind, id=id_, name=name, assessment=assessment, **rest)

    def shares(
        self, asked: Sequence[tuple[Kind, str, str, tuple[int, ...], str]]
    ) -> dict[tuple[Kind, str], Figure]:
        """Shares of the denominator with all their limits, by kind and id.

        Args:
            asked: kind, id, name, positions of the types, note of each.
        """
        parts = [members for _, _, _, members, _ in asked]
        drawn = self._bootstrap(parts)
        adjusted = {part: self._adjusted(part) for part in dict.fromkeys(parts)}
        figures = {}
        for i, (kind, id_, name, members, note) in enumerate(asked):
            n = self.cells(members)
            value, limits = self.percent(n, self.total)
            figures[kind, id_] = self.figure(
                kind,
                id_,
                name,
                n=n,
                denominator=self.total,
                of=self.of,
                value=value,
                unit=PERCENT,
                limits=limits,
                method=self.rules.method if limits else "",
                bootstrap=drawn[i],
                adjusted=adjusted[members],
                absolute_10e9_per_l=self._absolute(value, limits),
                note=note,
            )
        return figures

    def percent(self, n: int, total: int) -> tuple[float | None, Limits | None]:
        """A percentage and its limits; both None of no cells."""
        limits = share_limits(n, total, method=self.rules.method, confidence=self.rules.confidence)
        return (None if limits is None else 100 * n / total), scaled(limits, 100)

    def _absolute(self, percent: float | None, limits: Limits | None) -> Estimate | None:
        if self.wbc is None or percent is None:
            return None
        return Estimate(percent * self.wbc / 100, scaled(limits, self.wbc / 100))

    def _bootstrap(self, parts: Sequence[tuple[int, ...]]) -> list[Limits | None]:
        """Percentages' limits when fields are drawn again; None with too few fields."""
        per_field = self.sample.per_field
        if per_field is None or not parts:
            return [None] * len(parts)
        columns = [*parts, self.coverage.denominator]
        counts = np.stack([per_field[:, list(part)].sum(axis=1) for part in columns], axis=1)
        last = np.arange(len(columns)) == len(parts)
        limits = field_bootstrap(counts, last, confidence=self.rules.confidence)
        if limits is None:
            return [None] * len(parts)
        return [scaled(limit, 100) for limit in limits[:-1]]

    def _adjusted(self, members: tuple[int, ...]) -> Estimate | None:
        """A percentage corrected for confusions, None where none is known or nothing counted."""
        unmixing, types = self._unmixing, self.coverage.types
        if unmixing is None or not self.total:
            return None
        if any(types[i].searched and i not in self._confused for i in members):
            return None  # what it is taken for is not known
        part, whole = set(members), set(self.coverage.denominator)
        inside, outside = whole - part, set(range(len(types))) - whole
        known = [int(self.reviewed[list(side)].sum()) for side in (part, inside, outside)]
        found = unmixing.share(
            np.isin(self._confused, list(part)),
            np.isin(self._confused, list(whole)),
            (known[0], known[1], known[2]),
        )
        return None if found is None else Estimate(100 * found[0], scaled(found[1], 100))

    @cached_property
    def adjustable(self) -> bool:
        """Whether the confusion matrix covers each type that the classifier gave here."""
        return set(np.flatnonzero(self.by_type - self.reviewed)) <= set(self._confused)

    @cached_property
    def _confused(self) -> list[int]:
        """Positions of the classifier's types that the confusion matrix knows."""
        confusion = self.rules.confusion
        known = () if confusion is None else confusion.ids
        types = self.coverage.types
        return [i for i, t in enumerate(types) if t.searched and t.id in known]

    @cached_property
    def _unmixing(self) -> Unmixing | None:
        """Correction of the classifier's cells for its confusions; labels of a person need none."""
        confusion = self.rules.confusion
        if confusion is None or not self.adjustable or not self._confused:
            return None
        at = [confusion.ids.index(self.coverage.types[i].id) for i in self._confused]
        return Unmixing(
            (self.by_type - self.reviewed)[self._confused],
            confusion.cells[np.ix_(at, at)],
            confidence=self.rules.confidence,
        )


def scaled(limits: Limits | None, factor: float) -> Limits | None:
    """Multiply limits by a number."""
    if limits is None:
        return None
    return Limits(limits.low * factor, None if limits.high is None else limits.high * factor)
