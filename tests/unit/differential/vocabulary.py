"""Types and rows that tests of the differential share."""

from __future__ import annotations

from collections.abc import Callable

from cellcount.differential.figures import Differential, TypeRows
from cellcount.differential.profile import Profile

Types = tuple[TypeRows, ...]
Whole = Callable[[Profile], Types]
Taxonomy = Callable[[str], Types]


def advice(found: Differential) -> dict[str, str]:
    """Texts of what is advised, by their names."""
    return {a.id: a.text for a in found.advice}
