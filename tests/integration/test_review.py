"""``review export`` and ``review apply``: labels kept apart, every output written anew, history."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount import cli
from cellcount.outputs.columns import TYPED_CELLS_COLUMNS
from cellcount.outputs.review_tables import CORRECTIONS_COLUMNS, HISTORY_COLUMNS
from cellcount.rendering.field import FieldSpec, render_field
from tests.tables import check_table

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]
Review = Callable[..., tuple[int, str, str]]
Finished = Callable[[tuple[str, ...]], Path]

OUTPUTS = (
    *("--out", "o/counts.csv", "--cells", "o/cells.csv", "--slides", "o/slides.csv"),
    *("--report", "o/report.html", "--coco", "o/coco.json", "--geojson", "o/geo"),
    *("--yolo", "o/yolo", "--annotated", "o/drawn"),
)
REVIEWED = ("reviewed_type", "reviewer", "reviewed_at")


@pytest.fixture
def results(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """counts.csv of a typed run with every output."""
    shutil.copytree(finished(OUTPUTS), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("o/counts.csv")


@pytest.fixture
def own_results(slides: Path, run: Run, colour_weights: Path, classifier_plugins: Path) -> Path:
    """counts.csv of a run in the current folder, for tests that touch its fields or repeat it."""
    typing = ("--classifier", colour_weights, "--plugins", classifier_plugins)
    assert run(slides, *OUTPUTS, *typing)[0] == 0
    return Path("o/counts.csv")


@pytest.fixture
def review(capfd: pytest.CaptureFixture[str]) -> Review:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(["review", *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def hashes(*without: str) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path("o").rglob("*"))
        if path.is_file() and not path.name.endswith(("journal.sqlite", *without))
    }


def fill(
    table: Path, types: Sequence[str], *, separator: str = ",", to: str = "filled.csv"
) -> Path:
    """The table with its first rows filled in."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, name in zip(rows, types, strict=False):
        row["corrected_type"] = name
    with open(to, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return Path(to)


def test_export_lists_the_least_sure_first(results: Path, review: Review, rows: Rows) -> None:
    code, out, err = review("export", results, "--out", "look", "--all", "--limit", "7")
    assert (code, err) == (0, "")
    table = Path("look/corrections.csv")
    assert check_table(table, CORRECTIONS_COLUMNS) == []
    listed, cells = rows(table), rows("o/cells.csv")
    assert f"7 of {sum(bool(c['type']) for c in cells)} cells\n" in out
    probs = sorted(float(c["type_prob"] or c["type_2_prob"]) for c in cells if c["type"])
    shown = [float(row["type_prob"] or row["type_2_prob"]) for row in listed]
    assert shown == pytest.approx(probs[:7], abs=1e-4)
    for row in listed:
        with Image.open(Path("look") / row["crop"]) as picture:
            assert picture.size == (240, 240)
    again, _, message = review("export", results, "--out", "look")
    assert again == 2
    assert "perhaps filled in" in message


def test_cells_of_an_image_above_the_limit_have_pictures_too(
    slides: Path, run: Run, review: Review, rows: Rows, colour_weights: Path,
    classifier_plugins: Path,
) -> None:  # fmt: skip
    Image.fromarray(render_field(FieldSpec(400, 300, 7, 24, 0.3, 3, 2)).pixels).save("w.tif")
    typing = ("--classifier", colour_weights, "--plugins", classifier_plugins)
    window = ("--max-pixels", "100000", "--tile-px", "256", "--um-per-px", "0.3125")
    assert run("w.tif", "--out", "w/counts.csv", *window, *typing)[0] == 0
    code, _, err = review("export", "w/counts.csv", "--out", "look", "--all")
    assert (code, err) == (0, "")
    listed = rows("look/corrections.csv")
    assert len(listed) > 20
    for row in listed:
        with Image.open(Path("look") / row["crop"]) as picture:
            assert picture.size == (240, 240)
            assert np.asarray(picture)[110:130, 110:130].mean() < 245  # a cell in the middle


def test_export_without_all_is_what_needs_a_look(results: Path, review: Review, rows: Rows) -> None:
    cells = rows("o/cells.csv")
    doubtful = [c for c in cells if c["needs_review"] == "true"]
    assert review("export", results, "--out", "look")[0] == 0
    assert len(rows("look/corrections.csv")) == len(doubtful)
    likely = Counter(c["type_2"] for c in doubtful)
    for name in ("neutrophil", "LYM", "unclassified"):
        assert review("export", results, "--out", name, "--types", name)[0] == 0
        full = {"LYM": "lymphocyte"}.get(name, name)
        expected = len(doubtful) if name == "unclassified" else likely[full]
        assert len(rows(f"{name}/corrections.csv")) == expected
    code, _, err = review("export", results, "--out", "x", "--types", "neutrophyl")
    assert code == 2
    assert "did you mean 'neutrophil" in err


def test_an_empty_table_changes_nothing_and_says_so(results: Path, review: Review) -> None:
    before = hashes()
    review("export", results, "--out", "look", "--all")
    code, out, err = review("apply", results, "look/corrections.csv", "--reviewer", "A")
    assert (code, err) == (0, "")
    assert "so nothing was changed" in out
    header = Path("look/corrections.csv").read_text("utf-8").splitlines()[0]
    Path("header.csv").write_text(header + "\n", "utf-8")
    assert "(0 rows left empty)" in review("apply", results, "header.csv", "--reviewer", "A")[1]
    Path("empty.csv").write_text("", "utf-8")
    code, _, err = review("apply", results, "empty.csv", "--reviewer", "A")
    assert code == 2
    assert "empty.csv is empty; expected corrections.csv of cellcount review export" in err
    assert hashes() == before


def test_both_labels_are_kept_and_every_output_follows(
    results: Path, review: Review, rows: Rows
) -> None:
    before, was = rows("o/cells.csv"), rows("o/counts.csv")
    drawn = hashes()
    review("export", results, "--out", "look", "--all", "--limit", "4")
    listed = rows("look/corrections.csv")
    said = ["lymphocyte", "blasts", "Neutrophils", listed[3]["type"]]
    filled = fill(Path("look/corrections.csv"), said, separator=";")
    code, out, err = review("apply", results, filled, "--reviewer", " A. Smith ")
    assert (code, err) == (0, "")
    places = set(out.rpartition("written: ")[2].strip().split(", "))
    assert places >= {"o/counts.csv", "o/geo", "o/yolo", "o/drawn", "o/counts.run.json"}
    kept = {"blasts", "lymphocyte", "neutrophil", listed[3]["type"]}

    assert check_table(Path("o/cells.csv"), TYPED_CELLS_COLUMNS) == []
    cells = rows("o/cells.csv")
    plain = [{k: v for k, v in c.items() if k not in (*REVIEWED, "needs_review")} for c in cells]
    for row, old in zip(plain, before, strict=True):
        assert row == {k: old[k] for k in row}
    reviewed = {(c["image"], c["cell"]): c for c in cells if c["reviewed_type"]}
    assert reviewed.keys() == {(r["image"], r["cell"]) for r in listed}
    assert {c["reviewed_type"] for c in reviewed.values()} <= kept
    assert {c["reviewer"] for c in reviewed.values()} == {"A. Smith"}
    assert {c["needs_review"] for c in reviewed.values()} == {"false"}

    final = Counter((c["image"], c["reviewed_type"] or c["type"]) for c in cells if c["type"] != "")
    for row, old in zip(rows("o/counts.csv"), was, strict=True):
        for column in row:
            if column == "type_blasts":
                assert row[column] == (str(final[row["image"], "blasts"] or ""))
            elif column.startswith("type_"):
                assert int(row[column]) == final[row["image"], column[5:]]
            else:
                assert row[column] == old[column]

    slides_csv = Path("o/slides.csv").read_text("utf-8")
    assert "a reviewer named 1, which the denominator holds" in slides_csv
    assert "4 cells have the type of a reviewer: 4 by A. Smith" in slides_csv
    assert "reviewed by A. Smith" in Path("o/report.html").read_text("utf-8")
    attributes = [
        a["attributes"]
        for a in json.loads(Path("o/coco.json").read_text("utf-8"))["annotations"]
        if "reviewed_type" in a.get("attributes", {})
    ]
    assert sorted(a["reviewed_type"] for a in attributes) == sorted(
        c["reviewed_type"] for c in reviewed.values()
    )
    assert "blasts" in Path("o/yolo/data.yaml").read_text("utf-8")
    named = [
        feature["properties"]["classification"]["name"]
        for path in Path("o/geo").rglob("*.geojson")
        for feature in json.loads(path.read_text("utf-8"))["features"]
    ]
    assert named.count("blasts") == 1
    changed = {name for name, digest in hashes().items() if drawn.get(name) != digest}
    assert {f"o/drawn/{image}.png" for image in {r["image"] for r in listed}} & changed

    record = json.loads(Path("o/counts.run.json").read_text("utf-8"))
    assert record["review"]["cells"] == 4
    for entry in record["outputs"]:
        digest = hashlib.sha256(Path(entry["path"]).read_bytes()).hexdigest()
        assert entry["sha256"] == digest
    assert " relabelled" in out
    assert "-> not assessed, the classifier cannot name them; a reviewer named 1" in out


def test_history_is_kept_and_the_last_review_counts(
    own_results: Path, review: Review, rows: Rows, run: Run, colour_weights: Path,
    classifier_plugins: Path,
) -> None:  # fmt: skip
    review("export", own_results, "--out", "look", "--all", "--limit", "2")
    first = fill(Path("look/corrections.csv"), ["lymphocyte", "blasts"], to="first.csv")
    second = fill(Path("look/corrections.csv"), ["neutrophil"], to="second.csv")
    assert review("apply", own_results, first, "--reviewer", "A")[0] == 0
    once = hashes()
    code, out, _ = review("apply", own_results, first, "--reviewer", "A")
    assert code == 0
    assert "2 as this reviewer said before" in out
    assert hashes() == once
    assert review("apply", own_results, second, "--reviewer", "B")[0] == 0

    assert check_table(Path("o/counts.reviews.csv"), HISTORY_COLUMNS) == []
    history = rows("o/counts.reviews.csv")
    told = [(h["reviewed_type"], h["reviewer"], h["table"]) for h in history]
    assert told == [
        ("lymphocyte", "A", "first.csv"), ("blasts", "A", "first.csv"),
        ("neutrophil", "B", "second.csv"),
    ]  # fmt: skip
    cell = next(c for c in rows("o/cells.csv") if c["reviewer"] == "B")
    assert (cell["image"], cell["cell"]) == (history[0]["image"], history[0]["cell"])
    assert cell["reviewed_type"] == "neutrophil"

    reviewed = hashes("run.json")  # analyze again: nothing that was said is lost
    typing = ("--classifier", colour_weights, "--plugins", classifier_plugins)
    assert run("slides", *OUTPUTS, *typing)[0] == 0
    assert hashes("run.json") == reviewed
    code, _, err = run("slides", *OUTPUTS, *typing, "--fresh")
    assert code == 3
    assert "holds reviews of cells, which --fresh would lose" in err
    assert hashes("run.json") == reviewed


def test_wrong_rows_are_named_and_nothing_is_changed(results: Path, review: Review) -> None:
    before = hashes()
    review("export", results, "--out", "look", "--all", "--limit", "3")
    filled = fill(Path("look/corrections.csv"), ["lymphocyte", "=1+1", "monocytes"])
    with filled.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    at = {name: i for i, name in enumerate(lines[0])}

    def other(column: str, value: str) -> list[str]:
        row = list(lines[1])
        row[at[column]] = value
        return row

    lines += [
        other("corrected_type", "blasts"), other("cell", "99999"), other("cell", "-1"),
        other("image", "no.png"), other("check", "c-0000000000"), other("comment", "fine"),
    ]  # fmt: skip
    with filled.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    code, _, err = review("apply", results, filled, "--reviewer", "A")
    assert code == 2
    for message in (
        "row 3: '=1+1' is no type",
        "row 5: row 2 calls the same cell lymphocyte; keep one of both",
        "row 6: there is no cell '99999'",
        "row 7: there is no cell '-1'",
        "row 8: these results have no image 'no.png'",
        "row 9: the cell is another one now",
    ):
        assert message in err
    assert "row 10" not in err
    assert hashes() == before
    assert review("apply", results, filled, "--reviewer", "  ")[0] == 2
    Path("other.csv").write_text("image,cell\na,1\n", "utf-8")
    code, _, err = review("apply", results, "other.csv", "--reviewer", "A")
    assert code == 2
    assert "has no column corrected_type" in err


def test_without_the_images_all_but_pictures_works(
    own_results: Path, review: Review, rows: Rows
) -> None:
    review("export", own_results, "--out", "look", "--all", "--limit", "2")
    filled = fill(Path("look/corrections.csv"), ["lymphocyte", "blasts"])
    shutil.rmtree("slides")
    drawn = {name: h for name, h in hashes().items() if "drawn" in name}
    code, out, err = review("apply", own_results, filled, "--reviewer", "A")
    assert code == 0
    assert "not drawn again" in err
    assert "relabelled" in out
    assert sum(bool(c["reviewed_type"]) for c in rows("o/cells.csv")) == 2
    assert drawn == {name: h for name, h in hashes().items() if "drawn" in name}
    code, _, err = review("export", own_results, "--out", "again", "--all", "--limit", "3")
    assert code == 0
    assert "no pictures of" in err
    assert {row["crop"] for row in rows("again/corrections.csv")} == {""}


def test_results_are_found_by_any_of_their_names_and_elsewhere(
    results: Path, review: Review, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree("o", tmp_path / "moved" / "o")
    monkeypatch.chdir(tmp_path / "moved" / "o")
    for name in (".", "counts.csv", "counts.run.json", "counts.journal.sqlite"):
        assert review("export", name, "--out", f"look-{name.strip('.')}", "--all")[0] == 0
    filled = fill(Path("look-/corrections.csv"), ["blasts"], to=str(tmp_path / "f.csv"))
    untouched = (tmp_path / "o" / "cells.csv").read_bytes()
    assert review("apply", ".", filled, "--reviewer", "A")[0] == 0
    assert "blasts" in Path("cells.csv").read_text("utf-8")
    assert (tmp_path / "o" / "cells.csv").read_bytes() == untouched
    code, _, err = review("export", tmp_path / "slides", "--out", "x")
    assert code == 2
    assert "holds no results" in err


def test_a_run_without_types_has_nothing_to_review(slides: Path, run: Run, review: Review) -> None:
    assert run(slides, "--out", "o/counts.csv")[0] == 0
    code, _, err = review("export", "o/counts.csv", "--out", "look")
    assert code == 2
    assert "no classifier ran" in err


def test_codes_stay_codes(
    slides: Path, run: Run, review: Review, rows: Rows, colour_weights: Path,
    classifier_plugins: Path,
) -> None:  # fmt: skip
    typing = ("--classifier", colour_weights, "--plugins", classifier_plugins)
    coded = (*OUTPUTS, *typing, "--pseudonymize", "keys/key.json")
    assert run(slides, *coded)[0] == 0
    codes = {row["image"] for row in rows("o/counts.csv")}
    review("export", "o/counts.csv", "--out", "look", "--all", "--limit", "2")
    assert {row["image"] for row in rows("look/corrections.csv")} <= codes
    to = "Meier, Anna.csv"
    filled = fill(Path("look/corrections.csv"), ["lymphocyte", "blasts"], to=to)
    assert review("apply", "o", filled, "--reviewer", "A")[0] == 0
    (table,) = {row["table"] for row in rows("o/counts.reviews.csv")}
    assert json.loads(Path("keys/key.json").read_text())["names"][table] == to
    written = [path for path in Path("o").rglob("*") if path.is_file()]
    assert not [p for p in written if b"Meier" in p.read_bytes() and p.suffix != ".sqlite"]
    assert {row["image"] for row in rows("o/counts.reviews.csv")} <= codes
    assert {row["image"] for row in rows("o/counts.csv")} == codes
    Path("keys/key.json").unlink()
    code, _, err = review("apply", "o", filled, "--reviewer", "B")
    assert code == 2
    assert "key file" in err


def test_what_changed_in_counts_comes_first_and_moved_limits_behind_an_option(
    slides: Path, run: Run, review: Review, colour_weights: Path, classifier_plugins: Path
) -> None:
    Path("m.csv").write_text("path,specimen\nslides/a,P1\nslides/b,P2\nslides/c.bmp,P2\n")
    typing = ("--classifier", colour_weights, "--plugins", classifier_plugins)
    assert run("m.csv", *OUTPUTS, *typing)[0] == 0
    review("export", "o/counts.csv", "--out", "look", "--all")
    with Path("look/corrections.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    of_a = [r for r in listed if "a/" in r["image"] and r["type"] == "neutrophil"]
    row = dict(of_a[0], corrected_type="lymphocyte")
    with open("one.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    code, out, err = review("apply", "o/counts.csv", "one.csv", "--reviewer", "A")
    assert code == 0, err
    assert "lymphocytes" in out
    assert "\nspecimen P1\n" not in out, "it is of one slide, which says the same"
    hidden = re.search(r"(\d+) figures? moved in share or limits alone; --all-changes", out)
    second = dict(row, corrected_type="neutrophil")
    with open("two.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(second))
        writer.writeheader()
        writer.writerow(second)
    _, out, _ = review("apply", "o/counts.csv", "two.csv", "--reviewer", "A", "--all-changes")
    assert ("shares and limits that moved" in out) == bool(hidden)
    assert "--all-changes prints them" not in out


def test_a_cell_that_a_reviewer_left_unclassified_is_called_so(
    results: Path, review: Review, rows: Rows
) -> None:
    review("export", results, "--out", "look", "--all", "--limit", "2")
    first = rows("look/corrections.csv")[0]
    filled = fill(Path("look/corrections.csv"), ["unclassified"])
    code, out, err = review("apply", results, filled, "--reviewer", "A")
    assert code == 0, err
    if first["type"] == "unclassified":
        assert "1 left unclassified by the reviewer" in out
    else:
        assert f"{first['type']} -> unclassified by the reviewer  1" in out
    notes = [r["note"] for r in rows("o/slides.csv") if r["row"] == "unclassified"]
    assert any("1 of them a reviewer has looked at and left unclassified" in n for n in notes)
