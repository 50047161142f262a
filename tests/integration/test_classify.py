"""``classify``: pictures of single cells to a table, with a classifier whose answer is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount import cli
from cellcount.outputs.columns import PICTURE_TYPES_COLUMNS
from tests.tables import check_table

Rows = Callable[..., list[dict[str, str]]]
Classify = Callable[..., tuple[int, str, str]]

COLOURS = {
    "neutrophil": (200, 70, 80),
    "lymphocyte": (60, 190, 80),
    "erythroblast": (70, 60, 200),
    "unclassified": (120, 120, 120),
}


def cell(colour: tuple[int, int, int], side: int = 60, cell_px: int = 40) -> Image.Image:
    pixels = np.full((side, side, 3), 235, np.uint8)
    first = (side - cell_px) // 2
    pixels[first : first + cell_px, first : first + cell_px] = colour
    return Image.fromarray(pixels)


@pytest.fixture
def crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder per colour, five pictures of it in each, in three formats."""
    monkeypatch.chdir(tmp_path)
    for name, colour in COLOURS.items():
        folder = Path("crops") / name
        folder.mkdir(parents=True)
        for number in range(5):
            suffix = ("png", "tif", "bmp")[number % 3]
            cell(colour).save(folder / f"{number}.{suffix}")
    return Path("crops")


@pytest.fixture
def classify(
    colour_weights: Path, classifier_plugins: Path, capfd: pytest.CaptureFixture[str]
) -> Classify:
    """``classify("crops", "--out", "types.csv", ...)`` → exit code, stdout, stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        model = ["--classifier", str(colour_weights), "--plugins", str(classifier_plugins)]
        code = cli.main(["classify", *model, *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_a_folder_of_cells(crops: Path, classify: Classify, rows: Rows) -> None:
    code, out, err = classify(crops, "--out", "types.csv")
    assert (code, err) == (0, "Typing 20 images\n")
    assert check_table(Path("types.csv"), PICTURE_TYPES_COLUMNS) == []
    table = rows("types.csv")
    assert [row["image"] for row in table] == sorted(
        f"{path.parent.name}/{path.name}" for path in crops.rglob("*.*")
    )
    for row in table:
        assert row["type"] == row["image"].split("/")[0]
        assert (row["status"], row["reason"]) == ("done", "")
        assert row["needs_review"] == str(row["type"] == "unclassified").lower()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith("20 of 20 images done, in ")
    assert lines[1:] == [
        "by type:", "neutrophils 5", "lymphocytes 5", "erythroblasts 5", "unclassified 5",
        "by lineage:", "granulopoiesis 5", "lymphopoiesis 5", "erythropoiesis 5",
        "unclassified 5", "all cells 20", "written: types.csv",
    ]  # fmt: skip


def test_broken_pictures_have_their_own_row(crops: Path, classify: Classify, rows: Rows) -> None:
    (crops / "broken.png").write_bytes(b"")
    (crops / "notes.txt").write_text("no picture")
    code, out, err = classify(crops, "--out", "types.csv", "--batch-size", "3")
    assert code == 1
    assert "failed: broken.png: empty file\n" in err
    assert "passed over: crops/notes.txt: not an image type (.txt)\n" in err
    assert "20 of 21 images done, 1 failed, in " in out
    failed = [row for row in rows("types.csv") if row["status"] == "failed"]
    assert [list(row.values()) for row in failed] == [
        ["broken.png", "failed", "empty file", "", "", "", "", ""]
    ]
    types = Counter(row["type"] for row in rows("types.csv") if row["status"] == "done")
    assert set(types.values()) == {5}
    only = Path("only")
    only.mkdir()
    (only / "a.png").write_bytes(b"")
    assert classify(only, "--out", "none.csv")[0] == 3
    assert len(rows("none.csv")) == 1


def test_batch_size_workers_and_separator_change_nothing_else(
    crops: Path, classify: Classify, rows: Rows
) -> None:
    classify(crops, "--out", "a.csv")
    classify(crops, "--out", "b.csv", "--batch-size", "7", "--workers", "3")
    classify(crops, "--out", "c.csv", "--csv-separator", ";", "--csv-decimal", "point")
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert rows("a.csv") == rows("c.csv", ";")


def test_the_scale_decides_what_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classify: Classify, rows: Rows
) -> None:
    """A red core of 20 px in a blue cell of 80 px: the window of one red cell sees either."""
    monkeypatch.chdir(tmp_path)
    picture = cell(COLOURS["erythroblast"], side=120, cell_px=110)
    picture.paste(cell(COLOURS["neutrophil"], side=20, cell_px=20), (50, 50))
    Path("in").mkdir()
    picture.save("in/a.png")

    def type_at(*scale: str) -> str:
        assert classify("in", "--out", "t.csv", *scale)[0] == 0
        return rows("t.csv")[0]["type"]

    assert type_at("--rbc-px", "30") == "neutrophil"
    assert type_at("--um-per-px", "0.25") == "neutrophil"  # 7.5 µm are 30 px
    assert type_at("--rbc-px", "110") == "erythroblast"
    assert type_at("--um-per-px", "0.07") == "erythroblast"
    assert type_at() == "erythroblast"  # neither known: the whole picture
    Path("m.csv").write_text("path,um_per_px\nin/a.png,0.25\n")
    assert classify("m.csv", "--out", "t.csv")[0] == 0
    assert rows("t.csv")[0]["type"] == "neutrophil"


def test_a_mapping_leaves_out_what_it_drops(crops: Path, classify: Classify, rows: Rows) -> None:
    code, out, _ = classify(crops, "--out", "t.csv", "--map", "pbc-8:wbc-5")
    assert code == 0
    types = {row["image"].split("/")[0]: row["type"] for row in rows("t.csv")}
    assert types["neutrophil"] == "neutrophil"
    assert types["erythroblast"] == "unclassified"
    assert "erythro" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("crops", "--out", "t.csv", "--classifier", "none"), 2, "does nothing else"),
        (("crops", "--out", "t.csv", "--rbc-px", "0"), 2, "--rbc-px is 0"),
        (("crops", "--out", "t.csv", "--rbc-px", "nan"), 2, "--rbc-px is nan"),
        (("crops", "--out", "t.csv", "--um-per-px", "99"), 2, "--um-per-px is 99"),
        (
            ("crops", "--out", "t.csv", "--um-per-px", "0.1", "--rbc-px", "70"),
            2,
            "both state the scale",
        ),
        (("crops", "--out", "t.csv", "--batch-size", "-1"), 2, "--batch-size is -1"),
        (("crops", "--out", "t.csv", "--workers", "-1"), 2, "--workers is -1"),
        (("crops", "--out", "crops/neutrophil/0.png"), 2, "0.png, which promises .png"),
        (("nowhere", "--out", "t.csv"), 2, "does not exist"),
        (("crops", "--out", "crops"), 2, "crops"),
        (("empty", "--out", "t.csv"), 3, "no image found"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    crops: Path, classify: Classify, arguments: tuple[str, ...], code: int, message: str
) -> None:
    Path("empty").mkdir()
    found, _, err = classify(*arguments)
    assert (found, message in err) == (code, True), err
    assert not Path("t.csv").exists()
    with Image.open(crops / "neutrophil" / "0.png") as image:
        image.load()


def test_an_interruption_leaves_the_old_table(
    crops: Path, classify: Classify, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellcount.engines.crop_classifier import CropClassifier

    Path("t.csv").write_text("old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CropClassifier, "probs", stop)
    assert classify(crops, "--out", "t.csv")[0] == 130
    assert Path("t.csv").read_text() == "old"
    assert sorted(p.name for p in Path().iterdir()) == ["crops", "t.csv"]


def test_a_classifier_that_fails_fails_pictures_not_the_run(
    crops: Path, classify: Classify, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellcount.engines.crop_classifier import CropClassifier

    (crops / "a.png").write_bytes(b"")

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(CropClassifier, "probs", fail)
    assert classify(crops, "--out", "t.csv")[0] == 3
    reasons = Counter(row["reason"] for row in rows("t.csv"))
    assert reasons == {"empty file": 1, "unexpected MemoryError: no room": 20}
