"""Rows of a profile that a classifier can name, and cannot, so that unnamed rows are never 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import Profile


class Coverage:
    """Rows of a profile that the types of a classifier fill.

    Args:
        profile: says which rows there are.
        types: the types that may have been counted; positions below are among them.
    """

    def __init__(self, profile: Profile, types: Sequence[TypeRows]) -> None:
        self.profile = profile
        self.types = tuple(types)

    @cached_property
    def denominator(self) -> tuple[int, ...]:
        """Positions of the types that enter the denominator: all their rows lie in it."""
        rows = set(self.profile.rows)
        return tuple(i for i, t in enumerate(self.types) if t.rows and set(t.rows) <= rows)

    @cached_property
    def complete(self) -> bool:
        """Whether every row of the denominator can be named, alone or pooled with others."""
        return self.members(self.profile.rows) is not None

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Rows of the denominator that no type of the denominator fills."""
        filled = {r for i in self.denominator if self.types[i].searched for r in self.types[i].rows}
        return tuple(row for row in self.profile.rows if row not in filled)

    def members(self, rows: Iterable[str]) -> tuple[int, ...] | None:
        """Positions of the types that make up these rows together, None where they cannot.

        Each row must be filled by some type, and no type may fill rows within and without.
        """
        wanted = set(rows)
        touching = [i for i, t in enumerate(self.types) if wanted & set(t.rows)]
        if any(not set(self.types[i].rows) <= wanted for i in touching):
            return None
        filled = {row for i in touching if self.types[i].searched for row in self.types[i].rows}
        return tuple(touching) if filled == wanted else None

    def own(self, row: str) -> tuple[int, ...]:
        """Positions of the types that fill this row and no other."""
        return tuple(i for i, t in enumerate(self.types) if t.rows == (row,))

    def is_named(self, row: str) -> bool:
        """Return whether the classifier can assign a cell to this row and to no other."""
        return any(self.types[i].searched for i in self.own(row))

    @cached_property
    def pools(self) -> dict[tuple[str, ...], tuple[int, ...]]:
        """Rows that types of the denominator pool → positions of the types that stand there.

        Rows stand in the profile's order, pools in that of their first row. A type of one row
        stands in its pool too, unless that row has a number of its own: so every cell of the
        denominator is in one row or one pool, but for those of rows that are not assessed.
        """
        found: dict[tuple[str, ...], list[int]] = {rows: [] for rows in self._pooled}
        for i in self.denominator:
            rows = self.types[i].rows
            if len(rows) > 1:
                found[self._in_order(rows)].append(i)
            elif not self.is_named(rows[0]) and (pool := self.pool_of(rows[0])):
                found[pool].append(i)
        return {rows: tuple(members) for rows, members in found.items()}

    def pool_of(self, row: str) -> tuple[str, ...] | None:
        """The fewest rows that this one is pooled with, itself among them; None of none."""
        return min((rows for rows in self._pooled if row in rows), key=len, default=None)

    @cached_property
    def _pooled(self) -> tuple[tuple[str, ...], ...]:
        """Rows that some type of the denominator pools."""
        counted = (self.types[i].rows for i in self.denominator)
        several = {self._in_order(rows) for rows in counted if len(rows) > 1}
        return tuple(sorted(several, key=lambda rows: [self.profile.rows.index(r) for r in rows]))

    def _in_order(self, rows: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(rows, key=self.profile.rows.index))

    @cached_property
    def elsewhere(self) -> tuple[int, ...]:
        """Positions of the types that fill neither the denominator nor one row outside it."""
        outside = set(self.profile.outside)
        return tuple(
            i
            for i, t in enumerate(self.types)
            if i not in self.denominator and not (len(t.rows) == 1 and t.rows[0] in outside)
        )

    def words(self, rows: Iterable[str]) -> str:
        """Rows in words, for a sentence."""
        return ", ".join(self.profile.name_of(row) for row in rows)
