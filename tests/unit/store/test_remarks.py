"""Remarks: kept once, in order, and what flags and approvals come to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcount.errors import EditConflictError, JournalError
from cellcount.store.approvals import approvals_of
from cellcount.store.edits import Edit
from cellcount.store.field_flags import flags_of
from cellcount.store.journal import Journal
from cellcount.store.remarks import Remark, slide_subject

SETTINGS = {"classes": ["rbc"]}
SUBJECT = slide_subject("P1", "s")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "o.journal.sqlite", SETTINGS) as opened:
        yield opened


def flag(name: str, *, up: bool, person: str = "AB") -> Remark:
    facts = {"flag": name, "is_up": up}
    return Remark(kind="flag", subject="key#0", person=person, made_at="T", facts=facts)


def approve(person: str, at: str, n: str) -> Remark:
    facts = {"rows": [{"row": "lymphocytes", "n": n}]}
    return Remark(kind="approve", subject=SUBJECT, person=person, made_at=at, facts=facts)


def test_a_remark_that_is_added_again_is_there_once(journal: Journal, tmp_path: Path) -> None:
    one, two = flag("smudge_cells", up=True), flag("platelet_clumps", up=True)
    journal.add_edits((), remarks=[one, two])
    journal.add_edits((), remarks=[two, one])
    assert journal.remarks() == [one, two]
    assert journal.remarks("approve") == []
    assert journal.said() == [0, 2]
    journal.close()
    with Journal.reopen(tmp_path / "o.journal.sqlite") as again:
        assert again.remarks("flag") == [one, two]


def test_remarks_of_edits_that_are_refused_are_not_kept(journal: Journal) -> None:
    edit = Edit(
        kind="retype", image_key="k", cell="d-1", image="a", rank=0, box_xyxy=(0, 0, 9, 9),
        label="rbc", reviewer="AB", made_at="T", type_id="x",
    )  # fmt: skip
    with pytest.raises(EditConflictError):
        journal.add_edits([edit], {"d-1": 3}, [flag("smudge_cells", up=True)])
    assert journal.said() == [0, 0]


def test_a_journal_with_remarks_is_not_thrown_away(journal: Journal, tmp_path: Path) -> None:
    journal.add_edits((), remarks=[flag("smudge_cells", up=True)])
    journal.close()
    with pytest.raises(JournalError, match="reviews of cells, which --fresh would lose"):
        Journal.open(tmp_path / "o.journal.sqlite", SETTINGS, fresh=True)


def test_the_last_word_on_a_flag_holds() -> None:
    said = [flag("smudge_cells", up=True), flag("platelet_clumps", up=True, person="CD")]
    assert [f.words for f in flags_of(said)["key#0"]] == [
        "platelet clumps seen by CD", "smudge cells seen by AB",
    ]  # fmt: skip
    assert (
        flags_of([*said, *(flag(n, up=False) for n in ("smudge_cells", "platelet_clumps"))]) == {}
    )


def test_a_slide_is_approved_amended_and_changed() -> None:
    reason = {"reason": "wrong slide"}
    reopen = Remark(kind="reopen", subject=SUBJECT, person="CD", made_at="T2", facts=reason)
    one, two = approve("AB", "T1", "5"), approve("EF", "T3", "6")
    first = approvals_of([one])["P1", "s"]
    assert first.is_locked
    assert first.words([{"row": "lymphocytes", "n": "5"}]) == "approved by AB, T1"
    assert first.words([]).startswith("not approved: the numbers have changed since version 1, ")
    opened = approvals_of([one, reopen])["P1", "s"]
    assert not opened.is_locked
    assert opened.words([]).startswith(
        "not approved: version 1, approved by AB, T1, was reopened by CD, T2: wrong slide"
    )
    amended = approvals_of([one, reopen, two])["P1", "s"]
    assert [(v.version, v.person, v.reason) for v in amended.versions] == [
        (1, "AB", ""), (2, "EF", "wrong slide"),
    ]  # fmt: skip
    assert amended.words([{"row": "lymphocytes", "n": "6"}]) == (
        "amended result: version 2, approved by EF, T3 (wrong slide); version 1, approved by AB, "
        "T1, is kept in the table of approvals"
    )
    assert approvals_of([reopen]) == {}
