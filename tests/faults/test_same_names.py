"""One file name that several pictures have (W11, W44): decided by what is said, or left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.annotations import read_annotations
from cellcount.errors import AnnotationError
from tests.faults.recipes import (
    Fields,
    Run,
    via_entry,
    write_coco,
    write_csv,
    write_labelme,
    write_via,
    write_voc,
)


def read(annotated: AnnotatedSet, root: Path) -> dict[str, int]:
    """Picture → boxes."""
    return {i.path.relative_to(root).as_posix(): len(i.labels) for i in annotated.images}


def test_boxes_of_the_file_called_train_go_to_the_picture_in_train(
    fields: Fields, folder: Path, run: Run
) -> None:
    fields.put(5, "test/0001.png")
    fields.put(0, "train/0001.png")
    write_coco("annotations/instances_train.json", [(1, "0001.png")], fields.annotations(0, 1))
    source = "annotations/instances_train.json"
    code, _, err = run("datasets", "convert", source, "--to", "coco", "--out", "c1")
    assert (code, "warning" in err) == (0, False)
    (entry,) = json.loads(Path("c1/annotations.json").read_text())["images"]
    assert entry["file_name"].endswith("train/0001.png")
    assert entry["split"] == "train"


def test_files_of_both_splits_keep_both_pictures(fields: Fields, folder: Path) -> None:
    for split, i in (("train", 0), ("test", 5)):
        fields.put(i, f"images/{split}2017/0001.png")
        write_coco(
            f"annotations/instances_{split}2017.json", [(1, "0001.png")], fields.annotations(i, 1)
        )
    annotated = read_annotations(folder)
    assert read(annotated, folder) == {
        "images/train2017/0001.png": len(fields.boxes(0)),
        "images/test2017/0001.png": len(fields.boxes(5)),
    }
    assert annotated.splits() == {"train": 1, "test": 1}
    assert annotated.problems == ()


def test_a_split_whose_picture_is_not_there_takes_no_other(fields: Fields, folder: Path) -> None:
    fields.put(5, "test/0001.png")
    write_coco("annotations/instances_train.json", [(1, "0001.png")], fields.annotations(0, 1))
    with pytest.raises(AnnotationError, match=r"not found in the split train, only as test/0001"):
        read_annotations(folder)


def test_an_xml_below_train_means_the_picture_below_train(fields: Fields, folder: Path) -> None:
    for split, i in (("train", 0), ("test", 5)):
        fields.put(i, f"JPEGImages/{split}/0001.png")
        write_voc(f"Annotations/{split}/0001.xml", "0001.png", fields.boxes(i))
    assert read(read_annotations(folder), folder) == {
        "JPEGImages/train/0001.png": len(fields.boxes(0)),
        "JPEGImages/test/0001.png": len(fields.boxes(5)),
    }


def test_a_json_of_labelme_in_monday_means_the_picture_of_monday(
    fields: Fields, folder: Path
) -> None:
    for day, i in (("mon", 0), ("tue", 1)):
        fields.put(i, f"images/{day}/f.png")
    write_labelme("mon/f.json", "f.png", fields.boxes(0))
    write_labelme("tue/f.json", "f.png", fields.boxes(1))
    assert read(read_annotations(folder), folder) == {
        "images/mon/f.png": len(fields.boxes(0)),
        "images/tue/f.png": len(fields.boxes(1)),
    }


def test_a_table_of_via_called_val_means_the_picture_below_val(
    fields: Fields, folder: Path
) -> None:
    fields.put(0, "train/f.png")
    fields.put(1, "val/f.png")
    write_via("via_val.json", via_entry("f.png", fields.boxes(1)))
    annotated = read_annotations(folder)
    assert read(annotated, folder) == {"val/f.png": len(fields.boxes(1))}
    assert annotated.images[0].split == "val"


@pytest.fixture
def two_days(fields: Fields) -> None:
    fields.put(0, "mon/f.png")
    fields.put(1, "tue/f.png")


@pytest.mark.usefixtures("two_days")
@pytest.mark.parametrize("format", ["csv", "coco", "via", "labelme", "voc"])
def test_a_bare_name_of_two_pictures_is_left_out_and_said(
    fields: Fields, folder: Path, run: Run, format: str
) -> None:
    if format == "csv":
        write_csv("b.csv", "f.png", fields.boxes(1))
    elif format == "coco":
        write_coco("b.json", [(1, "f.png")], fields.annotations(1, 1))
    elif format == "via":
        write_via("b.json", via_entry("f.png", fields.boxes(1)))
    elif format == "labelme":
        write_labelme("b.json", "f.png", fields.boxes(1))
    else:
        write_voc("b.xml", "f.png", fields.boxes(1))
    code, _, err = run("datasets", "inspect", ".")
    assert code != 0
    assert "f.png could be mon/f.png or tue/f.png (write the folder into the name)" in err


@pytest.mark.usefixtures("two_days")
def test_the_other_pictures_of_such_a_table_stay(fields: Fields, folder: Path, run: Run) -> None:
    fields.put(5, "tue/g.png")
    write_coco("b.json", [(1, "f.png"), (2, "g.png")], fields.annotations(1, 1))
    annotated = read_annotations(folder)
    assert list(read(annotated, folder)) == ["tue/g.png"]
    assert annotated.left_out == 1
    code, out, _ = run("datasets", "inspect", ".")
    assert code == 1
    assert "pictures left out: 1" in out
    assert "none" not in out.split("broken files")[1].splitlines()[0]


@pytest.mark.usefixtures("two_days")
def test_a_folder_in_the_name_or_beside_the_table_decides(fields: Fields, folder: Path) -> None:
    write_csv("named.csv", "C:\\set\\tue\\f.png", fields.boxes(1))
    assert read(read_annotations(folder / "named.csv"), folder) == {
        "tue/f.png": len(fields.boxes(1))
    }
    write_csv("mon/b.csv", "f.png", fields.boxes(0))
    annotated = read_annotations(folder)
    assert read(annotated, folder) == {
        "mon/f.png": len(fields.boxes(0)),
        "tue/f.png": len(fields.boxes(1)),
    }


def test_a_picture_missing_from_its_folder_is_not_taken_from_another(
    fields: Fields, folder: Path
) -> None:
    fields.put(5, "mon/g.png")
    fields.put(1, "tue/f.png")
    images = [(1, "mon/f.png"), (2, "mon/g.png")]
    write_coco("x.json", images, fields.annotations(0, 1) + fields.annotations(5, 2, 900))
    annotated = read_annotations(folder)
    assert list(read(annotated, folder)) == ["mon/g.png"]
    assert "mon/f.png was not found in mon, only as tue/f.png" in annotated.problems[0].what


def test_a_folder_renamed_since_is_no_hindrance(fields: Fields, folder: Path) -> None:
    fields.put(5, "monday/g.png")
    write_coco("x.json", [(1, "mon/g.png")], fields.annotations(5, 1))
    assert read(read_annotations(folder), folder) == {"monday/g.png": len(fields.boxes(5))}


@pytest.mark.usefixtures("two_days")
def test_the_size_in_bytes_that_via_states_decides(fields: Fields, folder: Path) -> None:
    sizes = [Path(day, "f.png").stat().st_size for day in ("mon", "tue")]
    entries = [via_entry("f.png", fields.boxes(i), size) for i, size in enumerate(sizes)]
    write_via("via.json", *entries)
    assert read(read_annotations(folder), folder) == {
        "mon/f.png": len(fields.boxes(0)),
        "tue/f.png": len(fields.boxes(1)),
    }


def test_equal_copies_of_one_picture_need_no_decision(fields: Fields, folder: Path) -> None:
    fields.put(0, "a/f.png")
    fields.put(0, "backup/f.png")
    write_csv("b.csv", "f.png", fields.boxes(0))
    assert read(read_annotations(folder), folder) == {"a/f.png": len(fields.boxes(0))}


def test_single_cells_of_one_name_are_left_out_and_said(
    fields: Fields, folder: Path, run: Run
) -> None:
    for kind, i in (("EOS", 0), ("MON", 1), ("LYT", 5)):
        fields.put(i, f"{kind}/1.png" if kind != "LYT" else "LYT/2.png")
    Path("cells.csv").write_text("path,label\n1.png,EOS\n2.png,LYT\n")
    _, out, _ = run("datasets", "inspect", ".")
    assert "1 picture, 1 cell" in out
    assert "row 2: its image 1.png could be EOS/1.png or MON/1.png" in out
