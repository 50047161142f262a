"""Corrections of a person count for the same picture, wherever it lies, or are told as lost."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.store.corrected import Editor
from cellcount.store.journal import Journal
from tests.faults.recipes import Fields, Run, made, small_png

Analyze = Callable[..., str]


def rows(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reviewed(path: str = "c.csv") -> dict[str, int]:
    """Image → its cells that a reviewer has typed as a basophil, which no model ever says."""
    found: dict[str, int] = {}
    for row in rows(path):
        if row["reviewed_type"] == "basophils":
            found[row["image"]] = found.get(row["image"], 0) + 1
    return found


def review_all(run: Run, out: str, to: str = "basophils", reviewer: str = "me") -> int:
    """Export every typed cell of a run, call it something else, and apply that; how many."""
    folder = f"look-{out}"
    assert run("review", "export", out, "--all", "--out", folder)[0] == 0
    table = rows(f"{folder}/corrections.csv")
    for row in table:
        row["corrected_type"] = to
    with open(f"{folder}/corrections.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    assert run("review", "apply", out, f"{folder}/corrections.csv", "--reviewer", reviewer)[0] == 0
    return len(table)


def small(path: str, seed: int) -> None:
    """A rendered field of a few cells."""
    made(path).write_bytes(small_png(seed))


@pytest.fixture
def analyze(run: Run, repo_root: Path, colour_weights: Path, classifier_plugins: Path) -> Analyze:
    """``analyze("mon")`` → what was said on stderr; tables o.csv and c.csv."""
    toy = repo_root / "tests" / "golden" / "tiny.safetensors"
    models = ("--detector", toy, "--classifier", colour_weights, "--plugins", classifier_plugins)

    def call(*arguments: object, out: str = "o.csv") -> str:
        cells = () if "--shard" in arguments else ("--cells", "c.csv")
        code, _, err = run("analyze", *models, *arguments, "--out", out, *cells)
        assert code == 0, err
        return err

    return call


def test_w05_a_second_input_keeps_every_review(fields: Fields, run: Run) -> None:
    fields.put(0, "mon/f.png")
    fields.put(1, "tue/f.png")
    assert run("analyze", "mon", "--out", "o.csv", "--cells", "c.csv")[0] == 0
    assert review_all(run, "o.csv", "lymphocyte") == 7
    code, _, err = run("analyze", "mon", "tue", "--out", "o.csv", "--cells", "c.csv")
    assert code == 0
    assert sum(row["reviewer"] == "me" for row in rows("c.csv")) == 7
    counts = {row["image"]: row["type_lymphocyte"] for row in rows("o.csv")}
    assert counts["mon/f.png"] == "7"
    assert "no longer" not in err
    assert "left the tables" not in err  # the picture has another name, and its row


def rename_folder() -> list[str]:
    Path("mon").rename("monday")
    return ["monday"]


def move_below() -> list[str]:
    Path("archive/2024").mkdir(parents=True)
    Path("mon").rename("archive/2024/mon")
    return ["archive"]


def rename_file() -> list[str]:
    Path("mon/f.png").rename("mon/patient 7, field 1.png")
    return ["mon"]


def add_a_month() -> list[str]:
    small("january/f.png", 5)
    small("march/f.png", 6)
    return ["january", "mon", "march"]


def write_a_manifest() -> list[str]:
    Path("m.csv").write_text("path,slide,specimen\nmon/f.png,1,P-A\nmon/g.png,2,P-A\n")
    return ["m.csv"]


def take_the_name_of_another() -> list[str]:
    Path("mon/f.png").rename("mon/x.png")
    Path("mon/g.png").rename("mon/f.png")
    Path("mon/x.png").rename("mon/g.png")
    return ["mon"]


@pytest.mark.parametrize(
    "change",
    [rename_folder, move_below, rename_file, add_a_month, write_a_manifest,
     take_the_name_of_another],
)  # fmt: skip
def test_corrections_follow_the_picture(
    analyze: Analyze, run: Run, change: Callable[[], list[str]]
) -> None:
    small("mon/f.png", 1)
    analyze("mon")
    count = review_all(run, "o.csv")
    small("mon/g.png", 2)
    content = Path("mon/f.png").read_bytes()
    err = analyze(*change())
    assert list(reviewed().values()) == [count]
    (image,) = reviewed()
    path = next(p for p in Path().rglob("*.png") if p.read_bytes() == content)
    assert image.endswith(path.name)
    assert "no longer" not in err
    assert json.loads(Path("o.run.json").read_text())["review"]["cells"] == count
    (row,) = [row for row in rows("o.csv") if row["image"] == image]
    assert int(row["type_basophils"]) == count


def test_a_copy_of_the_picture_is_corrected_too(analyze: Analyze, run: Run) -> None:
    small("mon/f.png", 1)
    analyze("mon")
    count = review_all(run, "o.csv")
    shutil.copytree("mon", "backup")
    analyze("mon", "backup")
    assert reviewed() == {"mon/f.png": count, "backup/f.png": count}


@pytest.mark.parametrize("change", ["edited", "removed", "not named"])
def test_corrections_that_cannot_follow_are_told_and_kept(
    analyze: Analyze, run: Run, change: str
) -> None:
    small("mon/f.png", 1)
    small("mon/g.png", 2)
    analyze("mon")
    review_all(run, "o.csv")
    lost, kept = reviewed()["f.png"], reviewed()["g.png"]
    before = Path("mon/f.png").read_bytes()
    if change == "edited":
        small("mon/f.png", 3)
    else:
        made("away/f.png")
        Path("mon/f.png").rename("away/f.png")
    err = analyze("mon" if change != "not named" else "mon/g.png")
    told = f"{lost} corrections of a reviewer no longer count"
    assert told in err
    assert f"(f.png: {lost})" in err
    assert reviewed() == {"g.png": kept}
    review = json.loads(Path("o.run.json").read_text())["review"]
    assert (review["cells"], review["not_counting"]) == (kept, lost)
    assert len(rows("o.reviews.csv")) == lost + kept  # they stay
    made("mon/f.png").write_bytes(before)  # and count again with the picture
    assert "no longer" not in analyze("mon")
    assert reviewed() == {"f.png": lost, "g.png": kept}
    assert "not_counting" not in json.loads(Path("o.run.json").read_text())["review"]


def test_where_none_counts_any_more_it_is_said(analyze: Analyze, run: Run) -> None:
    small("mon/f.png", 1)
    analyze("mon")
    count = review_all(run, "o.csv")
    small("tue/f.png", 2)
    told = f"{count} corrections of a reviewer no longer count"
    Path("mon/f.png").rename("f.png")  # a folder of the same name, of which every field is new
    Path("tue/f.png").rename("mon/f.png")
    assert told in analyze("mon", "--slides", "s.csv")
    assert reviewed() == {}
    assert "of a reviewer" not in Path("s.csv").read_text()
    review = json.loads(Path("o.run.json").read_text())["review"]
    assert (review["cells"], review["not_counting"]) == (0, count)


def test_other_settings_keep_the_corrections_of_cells_that_are_still_found(
    analyze: Analyze, run: Run
) -> None:
    small("mon/f.png", 1)
    analyze("mon")
    count = review_all(run, "o.csv")
    err = analyze("mon", "--min-score", "0.99")
    left = reviewed().get("f.png", 0)
    assert 0 < left < count
    assert f"{count - left} corrections of a reviewer no longer count" in err
    analyze("mon", "--min-score", "0.3")
    assert reviewed() == {"f.png": count}
    assert len(rows("c.csv")) > count


def test_corrections_go_on_in_another_shard_and_in_the_merge(analyze: Analyze, run: Run) -> None:
    for seed in range(1, 5):
        small(f"mon/{seed}.png", seed)
    for shard in (1, 2):
        analyze("mon", "--shard", f"{shard}/2", out=f"p/{shard}.csv")
    assert run("merge", "p", "--out", "m.csv", "--cells", "c.csv")[0] == 0
    count = review_all(run, "m.csv")
    before = reviewed()
    assert sum(before.values()) == count
    Path("mon").rename("x")
    made("all/x")
    Path("x").rename("all/mon")
    for shard in (1, 2):
        analyze("all", "--shard", f"{shard}/2", out=f"p/{shard}.csv")
    code, _, err = run("merge", "p", "--out", "m.csv", "--cells", "c.csv")
    assert (code, "no longer" in err) == (0, False)
    assert reviewed() == {f"mon/{image}": n for image, n in before.items()}


def test_pictures_are_drawn_with_types_that_only_a_reviewer_gave(
    analyze: Analyze, run: Run
) -> None:
    small("mon/f.png", 1)
    analyze("mon", "--annotated", "drawn")
    review_all(run, "o.csv")
    small("tue/f.png", 2)
    analyze("mon", "tue", "--annotated", "drawn")
    assert Path("drawn/mon/f.png.png").is_file()
    assert sum(reviewed().values()) > 0


def test_not_a_cell_leaves_every_count_and_no_other_number_changes(
    analyze: Analyze, run: Run
) -> None:
    small("mon/f.png", 1)
    forms = ("--slides", "s.csv", "--coco", "coco.json", "--geojson", "g", "--yolo", "y")
    more = (*forms, "--report", "r.html", "--annotated", "drawn")
    analyze("mon", *more)
    before, (counts,) = rows("c.csv"), rows("o.csv")
    assert run("review", "export", "o.csv", "--all", "--limit", "1", "--out", "look")[0] == 0
    table = Path("look/corrections.csv")
    (one,) = rows(str(table))
    table.write_text(f"image,cell,corrected_type\n{one['image']},{one['cell']},Not a cell\n")
    code, out, _ = run("review", "apply", "o.csv", table, "--reviewer", "me")
    assert code == 0
    assert f"{one['type']} -> not_a_cell  1" in out
    after = rows("c.csv")
    for old, new in zip(before, after, strict=True):
        said = "not_a_cell" if old["cell"] == one["cell"] else ""
        assert new["reviewed_type"] == said
        kept = ("reviewed_type", "reviewer", "reviewed_at", "needs_review")
        assert {k: v for k, v in old.items() if k not in kept} == {
            k: v for k, v in new.items() if k not in kept
        }
    (counted,) = rows("o.csv")
    assert int(counted["cells"]) == int(counts["cells"]) - 1
    label = next(row["label"] for row in before if row["cell"] == one["cell"])
    assert int(counted[f"n_{label}"]) == int(counts[f"n_{label}"]) - 1
    assert len(json.loads(Path("coco.json").read_text())["annotations"]) == len(before) - 1
    features = json.loads(Path("g/f.png.geojson").read_text())["features"]
    assert [f["properties"]["name"] for f in features] == [
        row["cell"] for row in before if row["cell"] != one["cell"]
    ]
    assert len(Path("y/labels/f.txt").read_text().splitlines()) == len(before) - 1
    again = run("review", "apply", "o.csv", table, "--reviewer", "me")[1]
    assert "1 as this reviewer said before" in again


def draw_and_take_out(out: str, label: str) -> None:
    """Add a white cell, move the first box, delete the second, and say the third is none."""
    with Journal.reopen(Path(out).with_suffix(".journal.sqlite")) as journal:
        (result,) = journal.results()
        image = journal.corrected(result.ref)
        assert image is not None
        editor = Editor("Ada", "2026-01-01T00:00:00+00:00")
        named = {"type_id": "basophils"} if label else {}
        journal.add_edits([
            image.add((100, 90, 130, 120), "wbc", editor, **named),
            image.edit("move", 0, editor, to_xyxy=(1.5, 2.5, 30.0, 40.0)),
            image.edit("delete", 1, editor), image.edit("not_a_cell", 2, editor),
        ])  # fmt: skip


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "untyped"])
def test_boxes_that_a_person_drew_or_took_out_are_in_every_output(
    analyze: Analyze, typed: bool
) -> None:
    small("mon/f.png", 1)
    forms = ("--slides", "s.csv", "--coco", "coco.json", "--geojson", "g", "--yolo", "y")
    more = (*forms, "--voc", "v", "--report", "r.html", "--annotated", "drawn")
    classifier = () if typed else ("--classifier", "none")
    analyze("mon", *more, *classifier)
    before, (counts,) = rows("c.csv"), rows("o.csv")
    drawn = Path("drawn/f.png.png").read_bytes()
    Path("drawn/f.png.png").unlink()
    draw_and_take_out("o.csv", "basophils" if typed else "")
    analyze("mon", *more, *classifier)
    (counted,), after = rows("o.csv"), rows("c.csv")
    gone = [row["label"] for row in before[1:3]]
    assert int(counted["cells"]) == int(counts["cells"]) - 1
    for label in ("rbc", "wbc", "platelet"):
        change = (label == "wbc") - gone.count(label)
        assert int(counted[f"n_{label}"]) == int(counts[f"n_{label}"]) + change
    last = after[-1]
    assert (last["cell"], last["label"], last["score"]) == (str(len(before) + 1), "wbc", "")
    assert (after[0]["x_min_px"], after[0]["y_max_px"]) == ("1.50", "40.00")
    rest = after[3:-1] if typed else after[1:-1]
    same = ("cell", "x_min_px", "y_min_px", "x_max_px", "y_max_px", "label", "score")
    assert [[r[n] for n in same] for r in rest] == [[r[n] for n in same] for r in before[3:]]
    if typed:
        told = [(r["reviewed_type"], r["reviewer"]) for r in (*after[:3], last)]
        assert told == [
            ("", "Ada"), ("deleted", "Ada"), ("not_a_cell", "Ada"), ("basophils", "Ada"),
        ]  # fmt: skip
        assert counted["type_basophils"] == "1"
    features = json.loads(Path("g/f.png.geojson").read_text())["features"]
    assert [f["properties"]["name"] for f in features] == [
        r["cell"] for r in after if r["cell"] not in ("2", "3")
    ]
    coco = json.loads(Path("coco.json").read_text())["annotations"]
    assert [("score" in a) for a in coco] == [True] * (len(coco) - 1) + [False]
    assert len(coco) == int(counted["cells"])
    assert len(Path("y/labels/f.txt").read_text().splitlines()) == int(counted["cells"])
    assert not re.search(r"\bnan\b", Path("r.html").read_text())
    assert Path("drawn/f.png.png").read_bytes() != drawn
    assert [r["reviewed_type"] for r in rows("o.reviews.csv")] == [
        "basophils" if typed else "added", "moved", "deleted", "not_a_cell",
    ]  # fmt: skip
    review = json.loads(Path("o.run.json").read_text())["review"]
    assert review["box_edits"] == {"Ada": 4}
