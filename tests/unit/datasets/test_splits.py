"""splits.csv, list files and split folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.datasets.splits import (
    SplitTable,
    folder_split,
    list_key,
    read_split_lists,
    split_name,
)
from cellcount.errors import AnnotationError

Write = Callable[[str, str], Path]


def test_split_names() -> None:
    names = [split_name(n) for n in ("valid", " Validation ", "TRAINING", "test", "fold 1", "")]
    assert names == ["val", "val", "train", "test", "fold 1", ""]


def test_folder_split() -> None:
    root = Path("/data/train/set")
    assert folder_split(root / "images/valid/a.jpg", root) == "val"
    assert folder_split(root / "images/a.jpg", root) == ""
    assert folder_split(root / "test.jpg", root) == ""


def test_a_table_names_files_by_path_name_or_stem(tmp_path: Path, write: Write) -> None:
    write("splits.csv", "file,split,more\nx/a.jpg,val,1\nb.jpg,training,\nc,test,\n,test,\nd\n")
    table = SplitTable.beside(tmp_path)
    paths = [tmp_path / name for name in ("x/a.jpg", "images/b.jpg", "images/c.png", "e.jpg")]
    assert [table.of(path) for path in paths] == ["val", "train", "test", ""]
    assert table.of(tmp_path / "y/a.jpg") == ""
    assert table.complaints(paths) == ["does not name 1 of the images, first e.jpg"]
    assert table.complaints(paths[:2]) == ["names 1 files without a usable image, first c"]


def test_no_table_and_a_malformed_one(tmp_path: Path, write: Write) -> None:
    assert SplitTable.beside(tmp_path).of(tmp_path / "a.jpg") == ""
    path = write("splits.csv", "picture,part\na.jpg,val\n")
    with pytest.raises(AnnotationError, match=r"\['picture', 'part'\], expected file and split"):
        SplitTable.beside(tmp_path)
    path.write_text("")
    with pytest.raises(AnnotationError, match="expected file and split"):
        SplitTable.beside(tmp_path)


def test_list_files(tmp_path: Path, write: Write) -> None:
    write("train.txt", "a\nv1.2\nwith space.png\n\n")
    write("valid.txt", "./images/b.jpg 1\n")
    write("trainval.txt", "a\nb\n")
    write("RBC_train.txt", "c 1\n")
    assert dict(read_split_lists(tmp_path).names()) == {
        "a": "train",
        "v1.2": "train",
        "with space": "train",
        "images/b": "val",
    }
    assert list_key("a b.JPG") == "a b"
