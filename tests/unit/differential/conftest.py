"""Types as classifiers have them: one for each row of a profile, or those of a taxonomy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import Profile, load_profile
from cellcount.models.taxonomy import load_taxonomy
from tests.unit.differential.vocabulary import Types


@pytest.fixture(scope="session")
def blood() -> Profile:
    return load_profile("peripheral-blood")


@pytest.fixture(scope="session")
def marrow() -> Profile:
    return load_profile("bone-marrow")


@pytest.fixture(scope="session")
def whole() -> Callable[[Profile], Types]:
    """A classifier that can name every row of a profile."""

    def types(profile: Profile) -> Types:
        rows = (*profile.rows, *profile.outside)
        return tuple(TypeRows(row, profile.name_of(row), (row,)) for row in rows)

    return types


@pytest.fixture(scope="session")
def taxonomy() -> Callable[[str], Types]:
    """A classifier that knows all types of a taxonomy."""

    def types(name: str) -> Types:
        return tuple(TypeRows(t.id, t.plural, t.rows, t.note) for t in load_taxonomy(name).types)

    return types
