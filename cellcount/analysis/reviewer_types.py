"""The names that a reviewer may give to a cell, and what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from cellcount.core.records import NOT_A_CELL, UNCLASSIFIED, CellClass
from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import Profile
from cellcount.differential.row_names import SYNONYMS, plain
from cellcount.files.names import one_form


class Vocabulary:
    """Names that a reviewer may give: types, rows of the profile, ``unclassified``, ``not_a_cell``.

    A row that exactly one type of the classifier fills means that type; any other row becomes a
    type that only reviewers gave.

    Args:
        types: of the classifier.
        assessable: the same with the rows that they fill.
        profile: by which cells are counted.
    """

    def __init__(
        self, types: Sequence[CellClass], assessable: Sequence[TypeRows], profile: Profile
    ) -> None:
        self.types = tuple(t.id for t in types)
        self.rows = (*profile.rows, *profile.outside)
        self._spelled: dict[str, str] = {}
        self._meaning: dict[str, str] = {}
        by_row: dict[str, list[str]] = {}
        for one in assessable:
            if len(one.rows) == 1:
                by_row.setdefault(one.rows[0], []).append(one.id)
        for row in self.rows:
            ids = by_row.get(row, [])
            self._learn(ids[0] if len(ids) == 1 else row, (row, profile.name_of(row)))
        for t in types:  # the classifier's own names go first
            self._learn(t.id, (t.name, t.plural, t.abbreviation))
        self._learn_synonyms(profile)
        self._learn(UNCLASSIFIED, ("?",))
        self._learn(NOT_A_CELL, ("no cell",))
        for t in types:
            self._learn(t.id, (t.id,))

    def _learn_synonyms(self, profile: Profile) -> None:
        """Add the other names of types and rows; a name that means something already stays."""
        for table in (profile.synonyms, SYNONYMS):
            for row, names in table.items():
                meaning = self._meaning.get(_plain(row))
                if meaning is not None:
                    for name in names:
                        self._meaning.setdefault(_plain(name), meaning)

    def _learn(self, meaning: str, names: Iterable[str]) -> None:
        given = [name for name in (meaning, *names) if name]
        self._spelled |= {_spelled(name): meaning for name in given}
        self._meaning |= {_plain(name): meaning for name in given}

    def id_of(self, text: str) -> str:
        """The id of a type.

        Raises:
            ValueError: there is none of that name; says which there are.
        """
        meaning = self._spelled.get(_spelled(text)) or self._meaning.get(_plain(text))
        if meaning is not None:
            return meaning
        near = get_close_matches(_plain(text), self._meaning, n=1)
        hint = f"did you mean {self._meaning[near[0]]!r}? " if near else ""
        known = dict.fromkeys([*self.types, *self.rows, UNCLASSIFIED, NOT_A_CELL])
        raise ValueError(f"{text!r} is no type; {hint}known: {', '.join(known)}")


def _spelled(text: str) -> str:
    """A name with its signs, in which types like ``cd4+`` and ``cd4-`` differ."""
    return one_form(text.strip()).casefold()


def _plain(text: str) -> str:
    """A name as it is compared; a bare sign, like ``?``, is itself."""
    return plain(text) or text.strip()
