"""``review open``: what people do on the page is in the journal, and the outputs tell it."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cellcount import cli
from cellcount.outputs.approval_table import APPROVAL_COLUMNS
from cellcount.outputs.columns import SLIDES_COLUMNS
from cellcount.store.edits import new_id
from cellcount.store.journal import Journal
from tests.integration.open_page import Page, of, open_page
from tests.tables import check_table


@pytest.fixture
def results(typed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """counts.csv of a typed run of five fields with tables, report and COCO."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(typed_run, "o")
    return Path("o/counts.csv")


@pytest.fixture
def page(results: Path) -> Iterator[Page]:
    with open_page(results) as opened:
        yield opened.enter()


def table(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def hashes() -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path("o").iterdir()
        if not path.name.endswith((".sqlite", ".run.json", ".lock"))
    }


def typed(page: Page, slide: int = 0) -> list[dict[str, Any]]:
    return [row for row in page.rows(slide) if row["model"] >= 0]


def test_the_page_and_a_table_that_say_the_same_write_the_same_outputs(results: Path) -> None:
    shutil.copytree("o", "by_table")
    with open_page(results) as opened:
        page = opened.enter()
        first, second, third = typed(page)[:3]
        assert page.edit(of(first, "retype", type="erythroblast"))[0] == 200
        assert page.edit(of(second, "retype", type="blasts", comment="large"))[0] == 200
        assert page.edit(of(third, "not_a_cell"))[0] == 200
        image = page.get("/api/slides/0")["fields"][0]["name"]
        assert page.post("/api/outputs")[0] == 200
        made = [edit.made_at for edit in page.bench.stored.journal.edits()]
    said = {"erythroblast": first, "blasts": second, "not_a_cell": third}
    with open("said.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "cell", "corrected_type", "comment"])
        for name, row in said.items():
            writer.writerow([image, row["number"], name, "large" if name == "blasts" else ""])
    command = ["review", "apply", "by_table/counts.csv", "said.csv", "--reviewer", "A. Smith"]
    assert cli.main(command) == 0
    for name in ("counts.csv", "cells.csv", "slides.csv", "report.html", "coco.json"):
        ours, theirs = (Path(folder, name).read_text("utf-8") for folder in ("o", "by_table"))
        times = {row["reviewed_at"] for row in table("by_table/cells.csv")} - {""}
        for moment in {*times, *made}:
            ours, theirs = ours.replace(moment, "T"), theirs.replace(moment, "T")
        # The report tells the minute, unless the analysis began in the same second.
        ours, theirs = (
            re.sub(r"; last corrected or approved [\d: -]+UTC", "", text) for text in (ours, theirs)
        )
        assert ours == theirs, name


def test_numbers_on_the_page_are_those_of_slides_csv(page: Page) -> None:
    first, second = typed(page)[:2]
    assert page.edit(of(first, "retype", type="lymphocyte"), of(second, "delete"))[0] == 200
    summary = page.get("/api/slides/0")
    assert page.post("/api/outputs")[0] == 200
    name = summary["title"].removeprefix("Slide ")
    written = {
        (row["kind"], row["row"]): row
        for row in table("o/slides.csv")
        if row["level"] == "slide" and row["slide"] == name
    }
    shown = 0
    for part in summary["tables"]:
        for row in part["rows"]:
            expected = written[row["kind"], row["id"]]
            for cell in row["cells"]:
                for column, value in cell["values"].items():
                    assert expected[column] == value
                    shown += 1
    assert shown > 20


def test_boxes_are_added_moved_and_deleted(page: Page) -> None:
    row = typed(page)[0]
    box = [2, 2, 30.5, 28]
    status, found = page.edit({"kind": "add", "image": 0, "box": box, "label": "wbc"})
    assert status == 200
    added = dict(zip(page.get("/api/slides/0/cells")["columns"], found["rows"][0], strict=True))
    assert [added[n] for n in ("x0", "y0", "x1", "y1")] == box
    assert page.edit(of(row, "move", box=[1, 1, 20, 20]))[0] == 200
    assert page.edit(of(added, "retype", type="lymphocyte"))[0] == 200
    by_id = {one["id"]: one for one in page.rows()}
    assert by_id[row["id"]]["x1"] == 20
    assert by_id[added["id"]]["reviewer"] == "A. Smith"
    before = len(table("o/cells.csv"))
    assert page.post("/api/outputs")[0] == 200
    cells = table("o/cells.csv")
    assert len(cells) == before + 1
    (drawn,) = (one for one in cells if not one["score"])
    assert (drawn["x_max_px"], drawn["reviewed_type"]) == ("30.50", "lymphocyte")
    assert page.edit(of(by_id[added["id"]], "delete"), of(by_id[row["id"]], "delete"))[0] == 200
    assert page.post("/api/outputs")[0] == 200
    cells = table("o/cells.csv")
    assert len(cells) == before, "what a person drew and took out again is not there"
    (last,) = (one for one in cells if one["reviewed_type"] == "deleted")
    assert last["cell"] == str(row["number"])


def test_undo_and_redo_go_on_without_end_and_survive_a_restart(results: Path) -> None:
    with open_page(results) as opened:
        page = opened.enter()
        start = page.rows()
        for row in typed(page)[:3]:
            assert page.edit(of(row, "retype", type="erythroblast"))[0] == 200
        pair = [of(row, "not_a_cell") for row in typed(page)[3:5]]
        assert page.edit(*pair)[0] == 200
        done = page.rows()
    with open_page(results) as opened:
        page = opened.enter()
        assert page.get("/api/slides/0/cells")["undo"] == [4, 0]
        assert [page.undo()[1]["undo"] for _ in range(4)] == [[3, 1], [2, 2], [1, 3], [0, 4]]
        without = [{**row, "version": 0} for row in page.rows()]
        assert without == [{**row, "version": 0} for row in start]
        assert page.undo()[1]["rows"] == []
        for _ in range(4):
            assert page.undo(redo=True)[0] == 200
        assert [{**r, "version": 0} for r in page.rows()] == [{**r, "version": 0} for r in done]
        assert page.undo()[1]["undo"] == [3, 1]
        assert len([r for r in page.rows() if r["marks"] & 2]) == 0


def test_what_is_sent_twice_is_done_once(page: Page) -> None:
    row, batch = typed(page)[0], new_id()
    add = {"kind": "add", "image": 0, "box": [2, 2, 30, 30], "label": "wbc"}
    one = page.edit(of(row, "retype", type="lymphocyte"), add, batch=batch)
    two = page.edit(of(row, "retype", type="lymphocyte"), add, batch=batch)
    assert one[0] == two[0] == 200
    assert one[1]["rows"] == two[1]["rows"]
    assert two[1]["undo"] == [1, 0]
    assert page.bench.stored.journal.said() == [2, 0]


def test_whoever_is_slower_is_told_and_nothing_is_lost(page: Page) -> None:
    other = page.enter("B. Jones")
    seen = typed(page)[:2]
    assert other.edit(of(seen[0], "retype", type="erythroblast"))[0] == 200
    status, told = page.edit(*(of(row, "retype", type="lymphocyte") for row in seen))
    assert status == 409
    assert "B. Jones" in told["error"]
    columns = page.get("/api/slides/0/cells")["columns"]
    now = {r["id"]: r for r in (dict(zip(columns, row, strict=True)) for row in told["rows"])}
    assert now[seen[0]["id"]]["reviewer"] == "B. Jones"
    assert now[seen[1]["id"]]["version"] == 0
    again = page.edit(*(of(now[row["id"]], "retype", type="lymphocyte") for row in seen))
    assert again[0] == 200
    changes = other.get("/api/slides/0/changes?since=1")
    assert {row[1] for row in changes["rows"]} == {row["id"] for row in seen}
    status, told = other.undo()
    assert status == 409, "A. Smith has edited the cell since"


def test_an_approved_slide_is_locked_and_an_amended_result_keeps_both(page: Page) -> None:
    row, other = typed(page)[:2]
    slide = page.get("/api/slides/0")["title"].removeprefix("Slide ")
    assert page.edit(of(row, "retype", type="lymphocyte"))[0] == 200
    assert page.post("/api/slides/0/approve", batch=new_id())[0] == 200

    def words() -> str:
        (one,) = (
            r for r in table("o/slides.csv") if r["row"] == "approval" and r["slide"] == slide
        )
        return one["note"]

    def sent() -> dict[str, str]:
        """Status of the slide's report in FHIR, and in HL7."""
        entries = json.loads(Path("o/results.json").read_text("utf-8"))["entry"]
        resources = [entry["resource"] for entry in entries]
        specimens = [r for r in resources if r["resourceType"] == "Specimen"]
        reports = [r for r in resources if r["resourceType"] == "DiagnosticReport"]
        at = [s["identifier"][0]["value"] for s in specimens].index(slide)
        message = Path("o/results.hl7").read_text("utf-8").split("MSH|")[1 + at]
        assert f"SPM|1|{slide}|" in message
        order = message.split("OBR|")[1].splitlines()[0]
        return {reports[at]["status"]: order.split("|")[24]}

    assert words().startswith("approved by A. Smith, ")
    assert sent() == {"final": "F"}
    status, told = page.edit(of(other, "retype", type="erythroblast"))
    assert (status, told["approved"]) == (423, True)
    assert page.undo()[0] == 423
    assert page.post("/api/slides/0/reopen", batch=new_id(), reason="")[0] == 400
    assert page.post("/api/slides/0/reopen", batch=new_id(), reason="second look")[0] == 200
    assert words().startswith("not approved: version 1")
    assert sent() == {"preliminary": "P"}
    assert page.edit(of(other, "retype", type="erythroblast"))[0] == 200
    assert page.post("/api/slides/0/approve", batch=new_id())[0] == 200
    assert words().startswith("amended result: version 2, approved by A. Smith")
    assert "second look" in words()
    assert sent() == {"amended": "C"}
    assert words() in Path("o/report.html").read_text("utf-8")
    assert check_table(Path("o/counts.approvals.csv"), APPROVAL_COLUMNS) == []
    kept = table("o/counts.approvals.csv")
    assert {r["version"] for r in kept} == {"1", "2"}
    now = [r for r in table("o/slides.csv") if r["level"] == "slide" and r["slide"] == slide]
    second = [r for r in kept if r["version"] == "2"]
    compared = [c.name for c in SLIDES_COLUMNS if c.name in kept[0]]
    assert [[r[c] for c in compared] for r in second] == [
        [r[c] for c in compared] for r in now if r["row"] != "approval"
    ]


def test_a_flag_of_a_field_is_told_by_the_tables(page: Page) -> None:
    said = {"image": 0, "flag": "platelet_clumps", "is_up": True}
    status, told = page.post("/api/slides/0/flag", batch=new_id(), **said)
    assert (status, told["fields"][0]["flags"]) == (200, {"platelet_clumps": "A. Smith"})
    assert page.post("/api/outputs")[0] == 200
    assert "platelet clumps seen by A. Smith" in table("o/counts.csv")[0]["reason"]
    page.post("/api/slides/0/flag", batch=new_id(), **(said | {"is_up": False}))
    assert page.post("/api/outputs")[0] == 200
    assert "platelet clumps" not in table("o/counts.csv")[0]["reason"]


def test_a_second_reader_sees_no_label_and_disagreements_wait_for_consensus(page: Page) -> None:
    rows = typed(page)[:4]
    for row in rows:
        assert page.edit(of(row, "retype", type="lymphocyte"))[0] == 200
    other = page.enter("B. Jones")
    waiting = other.get("/api/slides/0/second")
    assert sorted(waiting["cells"]) == sorted([r["image"], r["id"]] for r in rows)
    assert "lymphocyte" not in json.dumps(waiting)
    before = page.rows()
    said = dict(zip([r["id"] for r in rows], ["lymphocyte"] * 3 + ["erythroblast"], strict=True))
    for image, cell in waiting["cells"]:
        facts = {"batch": new_id(), "image": image, "cell": cell, "type": said[cell]}
        assert other.post("/api/slides/0/readings", **facts) == (200, {"done": True})
    assert other.get("/api/slides/0/second") == {"cells": [], "done": 4, "total": 4}
    assert page.rows() == before, "a reading changes no count"
    assert page.get("/api/slides/0/second")["cells"] == [], "nobody reads own labels"
    (pair,) = page.get("/api/slides/0/agreement")["pairs"]
    assert (pair["first"], pair["second"]) == ("A. Smith", "B. Jones")
    assert pair["rows"][0] == {"type": "", "both": 3, "first": 4, "second": 4, "kappa": 0.0}
    (open_one,) = pair["disagreements"]
    facts = {"batch": new_id(), "image": open_one["image"], "cell": open_one["cell"]}
    status, told = page.post("/api/slides/0/consensus", **facts, type="erythroblast")
    assert (status, told["pairs"][0]["disagreements"][0]["settled"]) == (200, "erythroblast")
    (settled,) = (row for row in page.rows() if row["id"] == open_one["cell"])
    assert settled["comment"] == "consensus (A. Smith lymphocyte, B. Jones erythroblast)"
    assert told["pairs"][0]["rows"] == pair["rows"], "agreement is of what both saw at first"


def test_while_the_page_is_open_an_analysis_says_so(
    page: Page, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    del page
    assert cli.main(["review", "export", str(results), "--out", "look"]) != 0
    assert "in use by cellcount review open, process" in capfd.readouterr().err


def test_a_run_that_is_not_finished_is_refused(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Journal.reopen(Path("o/counts.journal.sqlite")) as journal:
        refs = [row[0] for row in journal.rows()]
        journal.clear()
    assert refs
    assert cli.main(["review", "open", str(results), "--no-browser"]) == 2
    err = capfd.readouterr().err
    assert "the analysis is not finished: 5 of 5 images have no result" in err


def test_pictures_and_tiles_come_by_ids_alone(page: Page) -> None:
    row = page.rows()[0]
    status, headers, jpeg = page.ask("GET", f"/crops/0/{row['id']}")
    assert (status, headers["content-type"], jpeg[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert page.ask("GET", "/tiles/0/0/0/0")[2][:2] == b"\xff\xd8"
    for path in ("/tiles/0/0/9/9", "/tiles/99/0/0/0", "/crops/0/d-nothing", "/crops/77/x"):
        assert page.ask("GET", path)[0] == 404


def test_pictures_wait_for_a_change_that_is_being_made(page: Page) -> None:
    with page.bench.lock:
        other = threading.Thread(target=page.bench.size_of, args=(0,))
        other.start()
        other.join(0.1)
        assert other.is_alive()
    other.join(5)
    assert not other.is_alive()


def test_a_viewer_changes_nothing(results: Path) -> None:
    before = hashes()
    with open_page(results, read_only=True) as opened:
        page = opened.enter("")
        row = typed(page)[0]
        assert page.get("/api/run")["read_only"] is True
        assert page.edit(of(row, "retype", type="lymphocyte"))[0] == 403
        for what in ("undo", "approve", "flag", "reopen", "readings", "consensus"):
            assert page.post(f"/api/slides/0/{what}", batch=new_id())[0] == 403
        assert page.post("/api/outputs")[0] == 403
        assert page.bench.stored.journal.said() == [0, 0]
    assert hashes() == before
