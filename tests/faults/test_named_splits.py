"""Splits that data.yaml, lists and tables name (W19), also where names repeat in folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount.datasets.annotations import read_annotations
from tests.faults.recipes import Fields, Run, made, write_voc

CLASSES = "names: [rbc, wbc, platelet]\n"


def split_of(folder: Path) -> dict[str, str]:
    return {
        image.path.relative_to(folder).as_posix(): image.split
        for image in read_annotations(folder).images
    }


def dataset(fields: Fields, *names: str) -> None:
    """Pictures ``images/NAME.png`` with their labels."""
    for i, name in enumerate(names):
        fields.put(i, f"images/{name}.png")
        fields.yolo(f"labels/{name}.txt", i)


def test_lists_of_equal_names_in_two_folders(fields: Fields, folder: Path, run: Run) -> None:
    dataset(fields, "train/0001", "val/0001")
    for split in ("train", "val"):
        Path(f"{split}.txt").write_text(f"./images/{split}/0001.png\n")
    Path("data.yaml").write_text("train: train.txt\nval: val.txt\n" + CLASSES)
    expected = {"images/train/0001.png": "train", "images/val/0001.png": "val"}
    assert split_of(folder) == expected
    _, out, _ = run("datasets", "inspect", ".")
    assert " train " in out
    assert " val " in out


@pytest.mark.parametrize(
    "places",
    [
        "train: images/mon\nval: images/tue\n",
        "path: .\ntrain: images/mon/\nval: ./images/tue\n",
        "path: /home/anna/cells\ntrain: images/mon\nval: images/tue\n",
        "train: ../images/mon\nval: ../images/tue\n",
        "train: /content/drive/cells/images/mon\nval: /content/drive/cells/images/tue\n",
        "train:\n  - images/mon\nval: [images/tue]\n",
        "train: mon.txt\nval: 'lists/tue.txt'  # by hand\n",
        "train: images\nval: images/tue\n",
    ],
)
def test_folders_and_lists_of_data_yaml(fields: Fields, folder: Path, places: str) -> None:
    dataset(fields, "mon/0001", "tue/0001")
    Path("mon.txt").write_text("C:\\cells\\images\\mon\\0001.png\n")
    made("lists/tue.txt").write_text("/data/cells/images/tue/0001.png\n")
    Path("data.yaml").write_text(places + CLASSES)
    assert split_of(folder) == {"images/mon/0001.png": "train", "images/tue/0001.png": "val"}


def test_data_yaml_counts_before_the_names_of_folders(fields: Fields, folder: Path) -> None:
    dataset(fields, "train/a", "train/b", "valid/c")
    Path("all.txt").write_text("images/train/a.png\nimages/valid/c.png\n")
    Path("rest.txt").write_text("images/train/b.png\n")
    Path("data.yaml").write_text("train: all.txt\ntest: rest.txt\n" + CLASSES)
    assert split_of(folder) == {
        "images/train/a.png": "train",
        "images/train/b.png": "test",
        "images/valid/c.png": "train",
    }


def test_the_lists_of_darknet(fields: Fields, folder: Path) -> None:
    for i, name in enumerate(("mon/1", "tue/1")):
        fields.put(i, f"obj_train_data/{name}.png")
        fields.yolo(f"obj_train_data/{name}.txt", i)
    Path("obj.names").write_text("rbc\nwbc\nplatelet\n")
    Path("obj.data").write_text(
        "classes = 3\ntrain = data/train_list.txt\nvalid = data/valid_list.txt\n"
    )
    made("data/train_list.txt").write_text("data/obj_train_data/mon/1.png\n")
    made("data/valid_list.txt").write_text("data/obj_train_data/tue/1.png\n")
    annotated = read_annotations(folder, format="yolo")
    assert [(i.path.parent.name, i.split) for i in annotated.images] == [
        ("mon", "train"),
        ("tue", "val"),
    ]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ("train: images\nval: images\n", "names images for train and val; no split is taken"),
        ("train: one.txt\nval: two.txt\n", "stands in train and in val; neither is used"),
        ("train: bare.txt\n", "the name of images/mon/0001.png fits 2 files; no split is taken"),
    ],
)
def test_places_that_contradict_each_other_give_no_split(
    fields: Fields, folder: Path, places: str, said: str
) -> None:
    dataset(fields, "mon/0001", "tue/0001")
    both = "images/mon/0001.png\nimages/tue/0001.png\n"
    Path("one.txt").write_text(both)
    Path("two.txt").write_text(both)
    Path("bare.txt").write_text("0001\n")
    Path("data.yaml").write_text(places + CLASSES)
    assert set(split_of(folder).values()) == {""}
    assert any(said in p.what for p in read_annotations(folder).problems)


def test_lists_of_voc_with_folders(fields: Fields, folder: Path) -> None:
    for i, (day, split) in enumerate((("mon", "train"), ("tue", "val"))):
        fields.put(i, f"JPEGImages/{day}/0001.png")
        write_voc(f"Annotations/{day}/0001.xml", "0001.png", fields.boxes(i))
        made(f"ImageSets/Main/{split}.txt").write_text(f"{day}/0001\n")
    assert split_of(folder) == {
        "JPEGImages/mon/0001.png": "train",
        "JPEGImages/tue/0001.png": "val",
    }


def test_a_bare_name_in_a_list_of_voc_that_two_files_have_gives_no_split(
    fields: Fields, folder: Path
) -> None:
    for i, day in enumerate(("mon", "tue")):
        fields.put(i, f"JPEGImages/{day}/0001.png")
        write_voc(f"Annotations/{day}/0001.xml", "0001.png", fields.boxes(i))
    made("ImageSets/Main/train.txt").write_text("0001\n")
    assert set(split_of(folder).values()) == {""}
    said = [p.what for p in read_annotations(folder).problems]
    assert any("fits 2 files; no split is taken" in what for what in said)


@pytest.mark.parametrize("name", ["0001.png", "0001"])
def test_a_bare_name_in_splits_csv_that_two_pictures_have_gives_no_split(
    fields: Fields, folder: Path, name: str
) -> None:
    dataset(fields, "mon/0001", "tue/0001", "tue/0002")
    Path("data.yaml").write_text(CLASSES)
    Path("splits.csv").write_text(f"file,split\n{name},train\n0002.png,val\n")
    assert split_of(folder) == {
        "images/mon/0001.png": "",
        "images/tue/0001.png": "",
        "images/tue/0002.png": "val",
    }
    said = [p.what for p in read_annotations(folder).problems]
    assert f"the name {name} fits 2 images; no split is taken" in said


def test_a_name_with_two_splits_in_splits_csv_has_none(fields: Fields, folder: Path) -> None:
    dataset(fields, "a")
    Path("data.yaml").write_text(CLASSES)
    Path("splits.csv").write_text("file,split\na.png,train\na.png,val\n")
    assert split_of(folder) == {"images/a.png": ""}
    said = [p.what for p in read_annotations(folder).problems]
    assert "a.png stands in train and in val; neither is used" in said
