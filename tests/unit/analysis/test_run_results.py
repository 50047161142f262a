"""Results are read as the profile counts them, in one place, so that nobody can forget to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cellcount.analysis.run_results import RunResults
from cellcount.core.records import Quality
from cellcount.differential.profile import Profile, load_profile
from cellcount.store.journal import Journal
from tests.unit.journal_results import FINGERPRINT, result_of, retype

BLURRED = Quality(0.1, 230.0, 0.0, 0.5, 20.0)


def profile(thresholds: Mapping[str, float]) -> Profile:
    return replace(load_profile("peripheral-blood"), quality=dict(thresholds))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Holds a blurred image and one of which nothing is known."""
    (tmp_path / "a").touch()
    journal = Journal.open(tmp_path / "c.journal.sqlite", FINGERPRINT)
    for image, quality in (("a", None), ("b", BLURRED)):
        journal.add(replace(result_of(tmp_path / "a", image), quality=quality))
    return journal


def test_fields_that_the_profile_excludes_have_no_cells(journal: Journal) -> None:
    refs = [r.ref for r in journal.results()]
    strict, mild = (
        RunResults(journal, profile(t)) for t in ({"exclude_focus_min": 0.5}, {"focus_min": 0.5})
    )
    assert [(r.status, len(r.cells)) for r in strict.of(refs)] == [("done", 3), ("excluded", 0)]
    assert [(r.status, len(r.cells)) for r in mild.of(refs)] == [("done", 3), ("done", 3)]
    assert ["focus" in r.reason for r in mild.of(refs)] == [False, True]
    (_, blurred) = journal.results(refs)
    assert strict.counted(blurred).status == "excluded"
    journal.close()


def test_reviews_of_excluded_fields_do_not_count(journal: Journal) -> None:
    stored = list(journal.results())
    refs = [r.ref for r in stored]
    assert RunResults(journal, profile({})).reviews(refs) is None
    for ref in refs:
        retype(journal, ref, 0, "blast")
    every = RunResults(journal, profile({})).reviews(refs)
    some = RunResults(journal, profile({"exclude_focus_min": 0.5})).reviews(refs)
    assert every is not None
    assert some is not None
    assert (every.cells, some.cells) == (2, 1)
    journal.close()


def test_nobody_else_reads_a_journal_or_applies_thresholds(repo_root: Path) -> None:
    by_hand = re.compile(r"\bjournal\.results\(|\bimport .*\bjudged\b")
    package = repo_root / "cellcount"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if by_hand.search(path.read_text("utf-8"))
    }
    assert found == {"analysis/run_results.py"}
