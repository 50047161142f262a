"""A journal that version 0.1.0 wrote, with reviews: it opens, migrates, and counts the same.

``journal-0.1.0`` was written by that version: six small fields, one of them a copy of another; two
reviewers, one of whom corrected the other; and a field that was changed after its review.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.errors import JournalError
from cellcount.store import journal_file
from cellcount.store import migrate as migrate_module
from cellcount.store.journal import Journal

Rows = Callable[..., list[dict[str, str]]]
STORED = Path(__file__).parent / "journal-0.1.0"


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal beside the tables that it belongs to."""
    shutil.copytree(STORED, tmp_path / "o")
    monkeypatch.chdir(tmp_path)
    return Path("o/counts.journal.sqlite")


def version_of(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return int(version)


def test_it_counts_the_same(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert version_of(stored) == 3
    for table in Path("o").glob("c*s.csv"):
        if table.name != "corrections.csv":
            table.unlink()
    arguments = ["review", "apply", "o", "o/corrections.csv", "--reviewer", "B"]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert "2 as this reviewer said before" in out
    assert version_of(stored) == 4
    for name in ("counts.csv", "cells.csv", "counts.reviews.csv"):
        assert Path("o", name).read_bytes() == (STORED / name).read_bytes(), name
    # What had stopped counting without a word is told now.
    assert "2 corrections of a reviewer no longer count" in err
    assert "(c.bmp: 2)" in err


def test_a_review_of_one_copy_is_not_one_of_the_other(stored: Path, rows: Rows) -> None:
    with Journal.reopen(stored) as journal:
        reviewed = {r.ref.image: len(r.reviewed) for r in journal.results() if r.reviewed}
    assert reviewed == {"a/1.png": 3, "a/2.jpg": 1, "b/x.png": 1}
    assert len(rows("o/counts.reviews.csv")) == 9


def test_what_was_said_before_can_be_corrected_again(stored: Path, rows: Rows) -> None:
    table = Path("o/corrections.csv")
    table.write_text(table.read_text("utf-8").replace("erythroblast,second look", "not_a_cell,"))
    assert cli.main(["review", "apply", "o/counts.csv", str(table), "--reviewer", "C"]) == 0
    assert rows("o/counts.reviews.csv")[:9] == rows(STORED / "counts.reviews.csv")
    assert rows("o/counts.reviews.csv")[9]["reviewed_type"] == "not_a_cell"
    before, after = (rows(folder / "counts.csv")[0] for folder in (STORED, Path("o")))
    assert int(after["cells"]) == int(before["cells"]) - 1
    assert int(after["type_erythroblast"]) == int(before["type_erythroblast"]) - 1
    cell = next(r for r in rows("o/cells.csv") if r["reviewed_type"] == "not_a_cell")
    assert (cell["image"], cell["cell"], cell["reviewer"]) == ("a/1.png", "4", "C")


def test_a_migration_that_is_cut_short_leaves_the_journal_as_it_was(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_at_the_end(connection: sqlite3.Connection, version: int) -> None:
        migrate(connection, version)
        raise KeyboardInterrupt

    migrate = migrate_module.migrate
    monkeypatch.setattr(journal_file, "migrate", fails_at_the_end)
    with pytest.raises(KeyboardInterrupt):
        Journal.reopen(stored)
    monkeypatch.setattr(journal_file, "migrate", migrate)
    with sqlite3.connect(stored) as connection:
        assert connection.execute("SELECT count(*) FROM review").fetchone() == (9,)
    connection.close()
    assert version_of(stored) == 3
    with Journal.reopen(stored) as journal:
        assert len(journal.edits()) == 9


def test_every_copy_of_the_journal_migrates_to_the_same_edits(stored: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(stored, tmp_path / "other.journal.sqlite"))
    with Journal.reopen(stored) as one, Journal.reopen(other) as two:
        assert one.edits() == two.edits()
        one.add_edits(two.edits())
        assert len(one.edits()) == 9


def test_fresh_does_not_lose_what_an_earlier_version_kept(stored: Path) -> None:
    with pytest.raises(JournalError, match="holds reviews of cells"):
        Journal.open(stored, {}, fresh=True)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_journal_of_a_newer_version_is_refused_and_kept(
    stored: Path, fresh: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Journal.reopen(stored).close()
    with sqlite3.connect(stored) as connection:
        connection.execute("PRAGMA user_version = 5")
    connection.close()
    content = stored.read_bytes()
    with pytest.raises(
        JournalError, match=r"a newer one .*5, this version knows up to 4.*use that"
    ):
        Journal.open(stored, {}, fresh=fresh)
    assert cli.main(["review", "export", "o/counts.csv", "--out", "look"]) == 3
    assert "was written by another version of cellcount, a newer one" in capsys.readouterr().err
    assert stored.read_bytes() == content
