"""``import cellcount``: the numbers of the commands as frames, pictures, nothing left behind."""

from __future__ import annotations

import gc
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import click
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cellcount
from cellcount import cli
from cellcount.analysis.python_api import AnalyzeOptions, analyze, open_results
from cellcount.analysis.request import analyze_request
from cellcount.core.records import Picture
from cellcount.errors import CellcountError, ImageError, JournalError, UsageError
from cellcount.outputs.columns import SLIDES_COLUMNS, TYPED_CELLS_COLUMNS, Column, TypedTable
from cellcount.outputs.pictures.annotate import annotated_path
from cellcount.outputs.pictures.cell_crops import crop_of
from cellcount.outputs.tables import write_table
from cellcount.store.journal import Journal
from tests.tables import _column_named

Models = Mapping[str, Any]


@pytest.fixture
def typing(toy: str, colour_weights: Path, classifier_plugins: Path) -> Models:
    """The models of ``typed_run`` as options."""
    return {"detector": toy, "classifier": colour_weights, "plugins": classifier_plugins}


def columns_of(frame: pd.DataFrame) -> list[Column]:
    """The columns of counts.csv by their names."""
    return [_column_named(str(name)) for name in frame.columns]


def as_csv(frame: pd.DataFrame, columns: list[Column], path: Path) -> bytes:
    """A frame as cellcount writes the table that it is made of."""
    assert [c.name for c in columns] == list(frame.columns)
    values = {name: [None if pd.isna(v) else v for v in frame[name]] for name in frame.columns}
    write_table(path, TypedTable("frame", columns, [values]))
    return path.read_bytes()


def assert_frames_are_the_tables(results: cellcount.Results, folder: Path, scratch: Path) -> None:
    fields, cells, slides = results.fields, results.cells, results.slides
    tables = {
        "counts.csv": (fields, columns_of(fields)),
        "cells.csv": (cells, list(TYPED_CELLS_COLUMNS)),
        "slides.csv": (slides, list(SLIDES_COLUMNS)),
    }
    for name, (frame, columns) in tables.items():
        assert len(frame) > 3, name
        assert as_csv(frame, columns, scratch / name) == (folder / name).read_bytes(), name
        written = pd.read_csv(folder / name)
        for column in frame.select_dtypes("float64"):  # rounded as they are written
            np.testing.assert_array_equal(frame[column], written[column].to_numpy(float))


def test_frames_hold_what_the_command_writes_to_the_byte(
    typed_run: Path, pristine: Path, typing: Models, tmp_path: Path
) -> None:
    results = analyze(pristine, **typing)
    assert_frames_are_the_tables(results, typed_run, tmp_path)
    assert {str(t) for t in results.fields.dtypes} >= {"Int64", "float64"}
    assert str(results.cells["edge"].dtype) == "boolean"
    assert results.notes == ()


def test_a_finished_run_is_opened_by_any_of_its_files(
    typed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(typed_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    opened = {
        name: open_results(f"run/{name}")
        for name in ("counts.csv", "counts.run.json", "counts.journal.sqlite", "")
    }
    monkeypatch.chdir("/")  # notebooks move about
    for results in opened.values():
        assert list(results.fields["image"]) == [
            "a/1.png",
            "a/2.jpg",
            "b/x/1.tif",
            "b/x.png",
            "c.bmp",
        ]
    assert_frames_are_the_tables(opened["counts.csv"], typed_run, tmp_path)


def test_with_out_it_writes_what_the_command_writes(
    typed_run: Path, pristine: Path, typing: Models, tmp_path: Path
) -> None:
    names = {
        "cells": "cells.csv",
        "slides": "slides.csv",
        "report": "report.html",
        "coco": "coco.json",
    }
    paths: dict[str, Any] = {form: tmp_path / name for form, name in names.items()}
    analyze([str(pristine)], out=tmp_path / "counts.csv", **typing, **paths)
    for name in ("counts.csv", *names.values()):
        ours, theirs = (
            re.sub(rb"<dt>Date</dt><dd>[^<]*</dd>", b"", (folder / name).read_bytes())
            for folder in (tmp_path, typed_run)
        )
        assert ours == theirs, name


def test_without_out_nothing_is_left(
    pristine: Path, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, here = tmp_path / "temporary", tmp_path / "here"
    temporary.mkdir()
    here.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(here)
    before = sorted(pristine.rglob("*"))
    results = analyze(pristine / "a", detector=toy, classifier="none")
    assert len(results.fields) == 2
    assert len(list(temporary.iterdir())) == 1
    del results
    gc.collect()
    with pytest.raises(CellcountError, match="no image found"):
        analyze(here)
    assert list(temporary.iterdir()) == list(here.iterdir()) == []
    assert sorted(pristine.rglob("*")) == before


def test_every_option_of_the_command_is_there_with_its_default() -> None:
    command = cli.cli.get_command(click.Context(cli.cli), "analyze")
    assert command is not None
    options = {p.name: p for p in command.params if p.name not in ("inputs", "out", "dry_run")}
    assert set(get_type_hints(AnalyzeOptions)) == set(options)
    # click keeps the help option of the first context it sees.
    own = cli.cli.context_settings
    with command.make_context("analyze", ["slides", "--out", "counts.csv"], **own) as context:
        given = context.params
    assert analyze_request(["slides"], given) == analyze_request(
        ["slides"], {"out": Path("counts.csv")}
    )


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("edge_rule", "three-sides", "edge_rule is 'three-sides', expected 'all' or 'two-sides'"),
        ("um_per_px", "0.1", "um_per_px is '0.1', expected a number or None"),
        ("um_per_px", True, "um_per_px is True, expected a number or None"),
        ("um_per_px", 70, "--um-per-px is 70.0, expected micrometres per pixel between"),
        ("batch_size", 1.5, "batch_size is 1.5, expected a whole number"),
        ("fresh", "yes", "fresh is 'yes', expected True or False"),
        ("detector", None, "detector is None, expected text or a path"),
        ("shard", "9", "--shard is '9', expected I/N"),
        ("classifier", "nobody", "nobody"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(
    option: str, value: object, said: str, pristine: Path, toy: str
) -> None:
    options: dict[str, Any] = {"detector": toy, option: value}
    with pytest.raises(CellcountError, match=re.escape(said)):
        analyze(pristine, **options)


def test_an_unknown_option_is_told_with_the_one_that_was_meant(pristine: Path) -> None:
    unknown: dict[str, Any] = {"min_scor": 0.5}
    with pytest.raises(TypeError, match="no option 'min_scor'; did you mean 'min_score'"):
        analyze(pristine, **unknown)


def test_numbers_of_numpy_are_numbers(pristine: Path, toy: str) -> None:
    numbers: dict[str, Any] = {"um_per_px": np.float32(0.25), "workers": np.int64(1)}
    results = analyze(pristine / "a" / "1.png", detector=toy, classifier="none", **numbers)
    assert results.fields.loc[0, "um_per_px"] == 0.25


def test_what_was_passed_over_and_what_failed_is_told(slides: Path, toy: str) -> None:
    (slides / "notes.txt").write_text("no image")
    (slides / "a" / "1.png").write_bytes((slides / "a" / "1.png").read_bytes()[:99])
    results = analyze([slides / "a", slides / "notes.txt"], detector=toy, classifier="none")
    assert results.notes == ("passed over: slides/notes.txt: not an image type (.txt)",)
    assert list(results.fields["status"]) == ["failed", "done"]
    assert "1 of 2 images done, 1 failed" in repr(results)
    shown = results._repr_html_()
    assert "1 of 2 images done, 1 failed" in shown
    assert "passed over: slides/notes.txt" in shown
    with pytest.raises(CellcountError, match=r"stopped: 1 of 2 images failed.*: 1.png: truncated"):
        analyze(slides / "a", detector=toy, classifier="none", max_failure_rate=0.2)


def test_files_that_were_passed_over_are_told_by_their_codes(
    slides: Path, toy: str, tmp_path: Path
) -> None:
    (slides / "Miller.txt").write_text("no image")
    inputs = [slides / "a", slides / "Miller.txt"]
    results = analyze(inputs, detector=toy, classifier="none", pseudonymize=tmp_path / "key.json")
    (note,) = results.notes
    assert note.startswith("passed over: ")
    assert note.endswith(": not an image type (.txt)")
    assert "Miller" not in note + results._repr_html_()


def test_pixels_and_drawings_are_those_of_the_command(
    typed_run: Path, slides: Path, typing: Models, run: Callable[..., tuple[int, str, str]]
) -> None:
    plugins = ("--plugins", typing["plugins"], "--classifier", typing["classifier"])
    assert run(slides, "--out", "o/counts.csv", "--annotated", "o/drawn", *plugins)[0] == 0
    results = open_results("o/counts.csv")
    image = "b/x/1.tif"
    whole = results.pixels(image)
    np.testing.assert_array_equal(whole, np.asarray(Image.open(slides / image)))
    np.testing.assert_array_equal(results.pixels(image, (10, 20, 40, 30)), whole[20:30, 10:40])
    drawn = Image.open(annotated_path(Path("o/drawn"), image))
    np.testing.assert_array_equal(np.asarray(results.drawing(image)), np.asarray(drawn))
    of_image = results.cells[results.cells["image"] == image].iloc[0]
    crop = results.crop(image, int(of_image["cell"]))
    assert crop.size == (240, 240)
    box = [of_image[f"{side}_px"] for side in ("x_min", "y_min", "x_max", "y_max")]
    exported = np.asarray(crop_of(Picture(whole), box), int)
    assert abs(np.asarray(crop, int) - exported).mean() < 1  # the table's box is rounded


def test_pictures_that_cannot_be_had_are_refused_in_words(
    typed_run: Path, slides: Path, toy: str
) -> None:
    results = analyze(slides / "a", detector=toy, classifier="none")
    with pytest.raises(
        UsageError, match=r"'1.pgn' is no image of this run; did you mean '1.png'\?"
    ):
        results.pixels("1.pgn")
    with pytest.raises(
        UsageError, match=r"expected \(left, upper, right, lower\) within the 160 x 120"
    ):
        results.pixels("1.png", (0, 0, 161, 10))
    with pytest.raises(UsageError, match="cell is 0, but 1.png has no such cell"):
        results.crop("1.png", 0)
    Image.new("RGB", (9, 9)).save(slides / "a" / "1.png")
    with pytest.raises(ImageError, match="has 9 x 9 px, but 160 x 120 px when it was analysed"):
        results.drawing("1.png")


def test_corrections_are_seen_by_results_that_were_opened_before(
    typed_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(typed_run, tmp_path / "run")
    results = open_results(tmp_path / "run")
    before = results.cells
    typed = before[before["type"] == "neutrophil"].iloc[0]
    out, counts = tmp_path / "review", str(tmp_path / "run" / "counts.csv")
    assert cli.main(["review", "export", counts, "--out", str(out), "--all"]) == 0
    table = out / "corrections.csv"
    corrections = pd.read_csv(table, dtype=str, keep_default_na=False)
    chosen = (corrections["image"] == typed["image"]) & (corrections["cell"] == str(typed["cell"]))
    corrections.loc[chosen, "corrected_type"] = "lymphocyte"
    corrections.to_csv(table, index=False)
    assert cli.main(["review", "apply", counts, str(table), "--reviewer", "R"]) == 0
    after = results.cells
    (changed,) = after[after["reviewed_type"] != ""].to_dict("records")
    assert (changed["image"], changed["cell"]) == (typed["image"], typed["cell"])
    assert list(before["reviewed_type"].unique()) == [""]  # a frame of one's own
    assert_frames_are_the_tables(results, tmp_path / "run", tmp_path)


def test_a_run_in_use_is_told_and_shown_in_words(typed_run: Path, tmp_path: Path) -> None:
    shutil.copytree(typed_run, tmp_path / "run")
    results = open_results(tmp_path / "run")
    with Journal.reopen(tmp_path / "run" / "counts.journal.sqlite"):
        with pytest.raises(JournalError, match="in use"):
            results.fields  # noqa: B018 -- a property that reads
        assert "in use" in repr(results)
        assert "in use" in results._repr_html_()
    assert "5 of 5 images done" in repr(results)


def test_a_differential_that_would_mislead_is_refused_as_by_the_command(
    pristine: Path, toy: str
) -> None:
    results = analyze(pristine / "a" / "1.png", detector=toy, classifier="marrow-types")
    with pytest.raises(UsageError, match="'marrow-types' names types of bone marrow"):
        results.slides  # noqa: B018 -- a property that reads
    shown = results._repr_html_()
    assert "names types of bone marrow" in shown
    assert "Differential" not in shown
    assert "Found by the detector" in shown


def test_names_are_no_markup_in_a_notebook(slides: Path, typing: Models) -> None:
    shutil.move(slides / "a", slides / "<script>alert(1)<")
    (slides / "<img src=x>.txt").touch()
    shown = analyze(slides, **typing)._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;" in shown
    assert "&lt;img src=x&gt;.txt: not an image type" in shown
    assert re.search(r"https?:|<\w+[^<>]* src=|url\(", shown) is None


def test_the_display_shows_the_limits_of_slides_csv(typed_run: Path, tmp_path: Path) -> None:
    shutil.copytree(typed_run, tmp_path / "run")
    results = open_results(tmp_path / "run")
    shown, slides = results._repr_html_(), results.slides
    rows = slides[(slides["level"] == "slide") & slides["kind"].isin(["class", "pool"])]
    known = rows[rows["assessment"] == "assessed"]
    assert len(known) > 3
    for row in known.itertuples():
        assert f"{row.ci_low:.1f}–{row.ci_high:.1f}" in shown
    assert "For research use only; not for diagnosis." in shown


def test_progress_is_shown_where_it_is_asked_for(
    pristine: Path, toy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    analyze(pristine / "a", detector=toy, classifier="none")
    assert capfd.readouterr() == ("", "")
    analyze(pristine / "a", detector=toy, classifier="none", progress=True)
    assert capfd.readouterr().err == "Counting 2 images\n"
