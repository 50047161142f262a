"""Settings of a run come back from the journal as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cellcount.analysis.stored_run import StoredRun
from cellcount.core.records import CellClass, ImageRef
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Confusion, Rules, TypeRows
from cellcount.differential.profile import load_profile, profile_text
from cellcount.errors import JournalError
from cellcount.outputs.run_content import RunFacts
from cellcount.settings import OutputSettings
from cellcount.store.journal import Journal


@pytest.fixture
def stored(tmp_path: Path) -> StoredRun:
    confusion = Confusion(("a", "b"), np.array([[3, 1], [0, 5]]), "a table")
    counting = Counting(
        profile=load_profile("bone-marrow"),
        assessable=(TypeRows("a", "as", ("blasts",), "a note"), TypeRows("b", "bs")),
        classes=(CellClass("wbc", "white cell", "white cells"),),
        rules=Rules("clopper-pearson", 0.9, confusion, forced=True),
        models={"program": "cellcount", "detector": "d", "classifier": "c"},
    )
    facts = RunFacts(
        counting=counting,
        types=(CellClass("a", "a", "as", "A", "others"), CellClass("b", "b", "bs")),
        images=2,
        densest_field=70,
        notes=("one", "two"),
        versions={"torch": "2", "numpy": "1"},
        settings={"z": 1, "a": None},
        max_pixels=99,
    )
    refs = (
        ImageRef(Path("in/x.png"), "x.png", "s", "p", "Giemsa", 0.1, 5.5),
        ImageRef(tmp_path / "y\udcff.tif", "y\udcff.tif#page=2", "s", page=2),
    )
    output = OutputSettings(
        tmp_path / "o" / "counts.csv",
        forms={"cells": tmp_path / "elsewhere" / "cells.parquet", "geojson": tmp_path / "geo"},
        annotated=tmp_path / "o" / "drawn",
        annotate="flagged",
        csv_separator=";",
        csv_bom=True,
        pseudonymize=tmp_path / "keys" / "key.json",
    )
    return StoredRun(output, facts, refs, tmp_path, profile_text("bone-marrow"))


def test_it_comes_back_as_it_was(
    stored: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o").mkdir()
    with Journal.open(tmp_path / "o" / "counts.journal.sqlite", {"a": 1}) as journal:
        with pytest.raises(JournalError, match="give the same analyze command again"):
            StoredRun.read(journal)
        stored.keep(journal)
        monkeypatch.chdir("/")
        again = StoredRun.read(journal)
    assert list(again.output.forms) == ["cells", "geojson"]
    for name, path in again.output.forms.items():
        assert Path("/") / path == stored.output.forms[name]
    for name in ("out", "annotated", "pseudonymize"):
        assert Path("/") / getattr(again.output, name) == getattr(stored.output, name)
    assert (again.output.csv_separator, again.output.csv_bom) == (";", True)
    assert again.output.csv.decimal_sign == "comma"
    assert again.output.annotate == "flagged"
    assert again.refs == stored.refs
    assert again.found(again.refs[0]).path == tmp_path / "in" / "x.png"
    assert again.found(again.refs[1]).path == tmp_path / "y\udcff.tif"
    ours, theirs = stored.facts.counting, again.facts.counting
    for name in ("profile", "assessable", "classes"):
        assert getattr(theirs, name) == getattr(ours, name)
    assert list(theirs.models.items()) == list(ours.models.items())  # their order shows
    assert theirs.rules.confusion is not None
    assert theirs.rules.confusion.cells.tolist() == [[3, 1], [0, 5]]
    assert (theirs.rules.method, theirs.rules.confidence, theirs.rules.forced) == (
        "clopper-pearson", 0.9, True,
    )  # fmt: skip
    for name in ("types", "images", "densest_field", "notes", "max_pixels"):
        assert getattr(again.facts, name) == getattr(stored.facts, name)
    for name in ("versions", "settings"):
        pairs = list(getattr(stored.facts, name).items())
        assert list(getattr(again.facts, name).items()) == pairs


def test_moved_results_are_written_where_they_are(stored: StoredRun, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    with Journal.open(tmp_path / "o" / "counts.journal.sqlite", {}) as journal:
        stored.keep(journal)
    (tmp_path / "o").rename(tmp_path / "moved")
    with Journal.reopen(tmp_path / "moved" / "counts.journal.sqlite") as journal:
        output = StoredRun.read(journal).output
    assert output.out == tmp_path / "moved" / "counts.csv"
    assert output.annotated == tmp_path / "moved" / "drawn"


def test_what_version_0_1_0_kept_is_read(tmp_path: Path) -> None:
    document = json.loads(Path(__file__).with_name("stored_run_0.1.0.json").read_text("utf-8"))
    with Journal.open(tmp_path / "counts.journal.sqlite", {}) as journal:
        journal.set_value("run", document)
        run = StoredRun.read(journal)
        assert run.output == OutputSettings(
            tmp_path / "counts.csv",
            forms={
                "cells": tmp_path / "cells.csv",
                "slides": tmp_path / "slides.csv",
                "coco": tmp_path / "coco.json",
                "geojson": tmp_path / "geo",
                "yolo": tmp_path / "yolo",
                "voc": tmp_path / "voc",
                "report": tmp_path / "report.html",
            },
            annotated=tmp_path / "drawn",
            annotate="flagged",
            csv_separator=";",
            csv_bom=True,
            csv_decimal="point",  # as that version wrote whatever the separator
            pseudonymize=tmp_path.parent / "keys" / "key.json",
        )
        assert [ref.image for ref in run.refs] == ["s1/a.png", "s1/b.png"]
        assert run.found(run.refs[0]).path == Path("/data/run/slides/s1/a.png")
        assert run.facts.labels.profile == "peripheral-blood 1.0"
        assert dict(run.facts.versions)["cellcount"] == "0.1.0"
        run.keep(journal)  # and a run that goes on keeps the same
        document["output"]["csv_decimal"] = "point"
        assert journal.get_value("run") == document
