"""The limits of fields that are drawn again are named, and say nothing where nothing was found."""

from __future__ import annotations

from cellcount.differential.figures import Differential, Figure, Rules
from cellcount.differential.limits import Limits
from cellcount.differential.profile import load_profile
from cellcount.outputs.report.differential_tables import differential_tables


def share(row: str, n: int, bootstrap: Limits) -> Figure:
    return Figure(
        kind="class", id=row, name=row, n=n, denominator=5, of="cells", value=20.0 * n, unit="%",
        limits=Limits(0, 50), method="wilson", bootstrap=bootstrap,
    )  # fmt: skip


def test_the_bootstrap_is_named_and_blank_at_zero() -> None:
    figures = (share("lymphocytes", 5, Limits(80, 100)), share("basophils", 0, Limits(0, 0)))
    profile = load_profile("peripheral-blood")
    found = Differential(profile, Rules(), 5, True, figures, ())  # noqa: FBT003 -- complete
    (table,) = (t for t in differential_tables(found) if t.caption == "More about these shares")
    at = table.columns.index("Bootstrap: fields drawn again")
    lymphocytes, basophils = (row.cells[at].text for row in table.rows)
    assert lymphocytes == "80.0–100.0"
    assert basophils == ""
