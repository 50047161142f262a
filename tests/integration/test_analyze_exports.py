"""analyze with exports, byte-order marks, formulas and codes in place of names, end to end."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.datasets.annotations import read_annotations
from cellcount.files.text import escape_text
from cellcount.images.manifest import read_manifest
from tests.tables import read_table

Run = Callable[..., tuple[int, str, str]]

FOLDERS = ("annotated", "geojson", "yolo", "voc")
EXPORTS = [word for name in FOLDERS for word in (f"--{name}", f"out/{name}")]


def everything(folder: Path) -> dict[str, bytes]:
    """Relative path → content of what a person would hand on: not the journal, nor timings."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "journal" not in path.name
    }


def test_every_export_has_every_cell_and_repeats_to_the_byte(slides: Path, run: Run) -> None:
    assert run(slides, "--out", "out/counts.csv", *EXPORTS)[0] == 0
    counts = read_table(Path("out/counts.csv"))
    for image, n in zip(counts["image"], counts["cells"], strict=True):
        stem = image.rpartition(".")[0]
        document = json.loads(Path(f"out/geojson/{image}.geojson").read_text("utf-8"))
        assert len(document["features"]) == n
        # b/x.png is no namesake of the folder b/x.
        assert len(Path(f"out/yolo/labels/{stem}.txt").read_text().splitlines()) == n
        assert Path(f"out/voc/Annotations/{stem}.xml").read_text().count("<object>") == n
    before = everything(Path("out"))
    assert run(slides, "--out", "out/counts.csv", *EXPORTS)[0] == 0
    after = everything(Path("out"))
    assert {n: c for n, c in after.items() if "run.json" not in n} == {
        n: c for n, c in before.items() if "run.json" not in n
    }


def test_a_byte_order_mark_changes_nothing_else(slides: Path, run: Run) -> None:
    arguments = [slides, "--cells", "cells.csv", "--slides", "slides.csv"]
    assert run(*arguments, "--out", "counts.csv")[0] == 0
    names = ("counts.csv", "cells.csv", "slides.csv")
    plain = {name: Path(name).read_bytes() for name in names}
    assert run(*arguments, "--out", "counts.csv", "--csv-bom")[0] == 0
    for name in names:
        assert Path(name).read_bytes() == b"\xef\xbb\xbf" + plain[name]
    assert list(read_table(Path("counts.csv"))["image"])


def test_names_that_look_like_formulas_come_back(slides: Path, run: Run) -> None:
    """Escaped in the tables; our own readers find the image again."""
    odd = "=HYPERLINK(a).png"
    (slides / "b" / "x.png").rename(slides / odd)
    assert run(slides, "--out", "counts.csv", "--cells", "cells.csv")[0] == 0
    text = Path("counts.csv").read_text("utf-8")
    assert f"\n'{odd}," in text
    assert odd in list(read_table(Path("counts.csv"))["image"])
    found = read_annotations(Path("cells.csv"), format="csv")
    assert odd in {image.path.name for image in found.images}
    Path("slides/m.csv").write_text(f"path\n{escape_text(odd)}\n")
    (row,) = read_manifest(Path("slides/m.csv"))
    assert row.path.name == odd


def test_codes_in_place_of_names(slides: Path, run: Run) -> None:
    (slides / "a").rename(slides / "Meier, Anna")
    (slides / "Meier, Anna" / "broken.png").write_bytes(b"no image")
    manifest = ["path,slide,specimen"]
    manifest += [
        f'"{p.relative_to(slides).as_posix()}",Meier slide,Meier 1970'
        for p in sorted(slides.rglob("*.*"))
        if p.suffix in (".png", ".jpg")
    ]
    (slides / "Meier.csv").write_text("\n".join(manifest) + "\n")
    tables = ["--cells", "out/cells.csv", "--slides", "out/slides.csv", "--coco", "out/coco.json"]
    arguments = [slides / "Meier.csv", "--out", "out/counts.csv", *tables, *EXPORTS]
    assert run(*arguments, "--pseudonymize", "keys/key.json")[0] == 1  # one image is broken
    written = everything(Path("out"))
    for name, content in written.items():
        assert "Meier" not in name
        assert b"Meier" not in content, name
        assert b"broken.png" not in content, name
    counts = read_table(Path("out/counts.csv"))
    key = json.loads(Path("keys/key.json").read_text())
    slide = key["names"][counts["slide"][0]]
    assert slide == "Meier slide"
    for image in counts.loc[counts["status"] == "done", "image"]:
        assert Path(f"out/annotated/{image}.png").exists()
        assert Path(f"out/geojson/{image}.geojson").exists()
    # The same key gives the same codes, in a new run and to the byte.
    again = [str(a).replace("out/", "new/") for a in arguments]
    assert run(*again, "--pseudonymize", "keys/key.json")[0] == 1
    assert {n: c for n, c in everything(Path("new")).items() if "run.json" not in n} == {
        n: c for n, c in written.items() if "run.json" not in n
    }


def test_a_pattern_of_names_is_coded_too(slides: Path, run: Run) -> None:
    (slides / "a").rename(slides / "Meier, Anna")
    pattern = "^(?P<slide>Meier, Anna|.)"
    arguments = (slides, "--out", "out/counts.csv", "--slide-from", pattern)
    run(*arguments, "--pseudonymize", "keys/key.json")
    assert not [n for n, content in everything(Path("out")).items() if b"Meier" in content]
    code = json.loads(Path("out/counts.run.json").read_text())["settings"]["slide_from"]
    assert json.loads(Path("keys/key.json").read_text())["names"][code] == pattern
    run(*arguments, "--fresh")
    assert json.loads(Path("out/counts.run.json").read_text())["settings"]["slide_from"] == pattern


def test_the_key_must_lie_elsewhere(slides: Path, run: Run) -> None:
    code, _, err = run(slides, "--out", "out/counts.csv", "--pseudonymize", "out/key.json")
    assert code == 2
    assert "name a file in another folder" in err
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["cells.parquet"])
def test_parquet_by_its_name(slides: Path, run: Run, name: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="needs pyarrow (extra: parquet)")
    assert run(slides, "--out", "counts.csv", "--cells", name)[0] == 0
    assert len(pandas.read_parquet(name)) == read_table(Path("counts.csv"))["cells"].sum()


def test_classify_has_the_mark_too() -> None:
    assert any(p.name == "csv_bom" for p in cli.cli.get_command(None, "classify").params)  # type: ignore[arg-type, union-attr]


def test_yolo_tools_find_the_labels_of_every_image_by_its_stem(slides: Path, run: Run) -> None:
    (slides / "c.bmp").rename(slides / "c d.1.bmp")
    (slides / "a" / "2.jpg").rename(slides / "a" / "images.JPG")
    assert run(slides, "--out", "o.csv", "--yolo", "y")[0] == 0
    Path("y/images").mkdir()
    shutil.copytree(slides, "y/images", dirs_exist_ok=True)
    images = sorted(path for path in Path("y/images").rglob("*") if path.is_file())
    found = {
        image: Path("y/labels", image.relative_to("y/images")).with_suffix(".txt")
        for image in images
    }
    assert len(images) == 5
    assert sorted(found.values()) == sorted(Path("y/labels").rglob("*.txt"))
    read = {image.path: len(image.labels) for image in read_annotations(Path("y")).images}
    lines = {image.absolute(): len(path.read_text().splitlines()) for image, path in found.items()}
    assert {path.absolute(): n for path, n in read.items()} == lines
    assert min(lines.values()) > 0


def test_voc_tells_images_of_one_stem_apart_and_no_yolo_is_refused(
    slides: Path, run: Run, rows: Callable[..., list[dict[str, str]]]
) -> None:
    (slides / "b" / "x.png").rename(slides / "a" / "1.bmp")
    assert run(slides, "--out", "o.csv", "--voc", "v", "--geojson", "g")[0] == 0
    counted = {row["image"]: int(row["cells"]) for row in rows("o.csv")}
    assert {"a/1.bmp", "a/1.png"} <= counted.keys()
    shutil.copytree(slides, "v/JPEGImages")
    read = read_annotations(Path("v"), format="voc")
    assert read.problems == ()
    root = Path("v/JPEGImages").absolute()
    found = {i.path.absolute().relative_to(root).as_posix(): len(i.labels) for i in read.images}
    assert found == counted
    for image, n in counted.items():
        assert len(json.loads(Path("g", f"{image}.geojson").read_text())["features"]) == n


def test_tables_that_name_one_workbook_are_its_sheets(slides: Path, run: Run) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="needs openpyxl (extra: excel)")
    book = ("--out", "run.xlsx", "--cells", "run.xlsx", "--slides", "./run.xlsx")
    assert run("slides", *book, "--csv-bom")[0] == 0
    assert run("slides", "--out", "c.csv", "--cells", "cells.csv", "--slides", "s.csv")[0] == 0
    found = openpyxl.load_workbook("run.xlsx")
    assert found.sheetnames == ["counts", "cells", "slides", "columns"]
    for sheet, name in zip(found, ("c.csv", "cells.csv", "s.csv"), strict=False):
        with open(name, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert [cell.value for cell in next(sheet.iter_rows())] == rows[0]
        assert sheet.max_row == len(rows), name
    first = Path("run.xlsx").read_bytes()
    assert run("slides", *book)[0] == 0
    assert Path("run.xlsx").read_bytes() == first


@pytest.mark.parametrize("others", [("--coco", "run.xlsx"), ("--report", "run.xlsx")])
def test_a_workbook_takes_tables_alone(slides: Path, run: Run, others: tuple[str, str]) -> None:
    code, _, err = run("slides", "--out", "run.xlsx", *others)
    assert code == 2
    assert f"{others[0]} is run.xlsx, which promises .xlsx" in err
