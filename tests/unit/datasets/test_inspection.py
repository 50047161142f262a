"""Inspection of a data set finds planted copies, broken files, boxes and patients, no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import ndimage

from cellcount.datasets.detect_format import read_data
from cellcount.datasets.inspection import inspect_data, picture_count
from cellcount.errors import UsageError

Write = Callable[[str, str], Path]


def texture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture like no other: smooth noise."""
    noise = np.random.default_rng(seed).normal(size=(size[1], size[0], 3))
    smooth = ndimage.gaussian_filter(noise, (4, 4, 0))
    scaled = 255 * (smooth - smooth.min()) / np.ptp(smooth)
    return Image.fromarray(scaled.astype(np.uint8))


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, Image.Image], Path]:
    def save_picture(name: str, picture: Image.Image) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        return path

    return save_picture


Save = Callable[[str, Image.Image], Path]


def test_copies_are_found_within_and_across_splits(save: Save, tmp_path: Path) -> None:
    for number, split in enumerate(["train", "train", "val", "test"]):
        save(f"{split}/EOS/{number}.png", texture(number))
    save("test/EOS/mirrored.png", ImageOps.mirror(texture(0)))
    save("train/MON/turned.png", texture(1).rotate(90, expand=True))
    seen: list[None] = []
    data = read_data(tmp_path)
    found = inspect_data(data, on_picture=lambda: seen.append(None))
    assert {(c.first.path.name, c.second.path.name, c.splits) for c in found.copies} == {
        ("mirrored.png", "0.png", ("train", "test")),
        ("1.png", "turned.png", ("train", "train")),
    }
    (leak,) = found.leaks
    assert leak.splits == ("train", "test")
    assert not leak.contradicts
    assert [c.contradicts for c in found.copies if not c.crosses] == [True]
    assert found.counts == {"EOS": {"train": 2, "val": 1, "test": 2}, "MON": {"train": 1}}
    assert list(found.counts["EOS"]) == ["train", "val", "test"]
    assert found.splits == ("train", "val", "test")
    assert found.sizes_px() == {(64, 48): 5, (48, 64): 1}
    assert (found.fields, found.cells, found.is_clean) == (False, 6, False)
    assert len(seen) == picture_count(data) == 6


def test_a_clean_set_is_clean(save: Save, tmp_path: Path) -> None:
    for number in range(4):
        save(f"{'AB'[number % 2]}/{number}.png", texture(10 + number))
    found = inspect_data(read_data(tmp_path))
    assert found.is_clean
    assert found.counts == {"A": {"": 2}, "B": {"": 2}}
    assert found.sides_px == {}


def test_a_picture_cut_off_is_no_cell(save: Save, tmp_path: Path) -> None:
    save("A/0.png", texture(1))
    save("B/2.png", texture(2))
    cut = save("A/1.jpg", texture(3, (300, 300)))
    cut.write_bytes(cut.read_bytes()[:-3000])
    found = inspect_data(read_data(tmp_path))
    assert found.counts == {"A": {"": 1}, "B": {"": 1}}
    (problem,) = found.problems
    assert problem.path == cut
    assert "cannot be decoded" in problem.what
    assert not found.is_clean


def test_patients_in_two_splits(save: Save, write: Write, tmp_path: Path) -> None:
    rows = ["path,label,split,patient"]
    for number, (split, patient) in enumerate(
        [("train", "p1"), ("val", "p1"), ("train", "p2"), ("train", "p2"), ("val", "")]
    ):
        save(f"{number}.png", texture(20 + number))
        rows.append(f"{number}.png,A,{split},{patient}")
    write("cells.csv", "\n".join(rows))
    found = inspect_data(read_data(tmp_path))
    assert found.shared_patients == ("p1",)
    assert not found.is_clean


def test_boxes_their_sizes_and_those_that_stand_twice(
    save: Save, write: Write, tmp_path: Path
) -> None:
    save("a.png", texture(30, (100, 80)))
    save("b.png", texture(31, (100, 80)))
    boxes = [(10, 10, 20, 30), (50, 50, 10, 8), (10, 10, 20, 30), (5, 5, 0, 8)]
    content = {
        "images": [
            {"id": n, "file_name": f"{name}.png", "width": 100, "height": 80}
            for n, name in enumerate("ab")
        ],
        "categories": [{"id": 1, "name": "WBC"}, {"id": 2, "name": "RBC"}],
        "annotations": [
            {"id": n, "image_id": 0, "category_id": 2 if n == 1 else 1, "bbox": box}
            for n, box in enumerate(boxes)
        ],
    }
    write("boxes.json", json.dumps(content))
    found = inspect_data(read_data(tmp_path))
    assert found.fields
    assert len(found.pictures) == 2  # one of them shows no cell
    assert found.counts == {"WBC": {"": 1}, "RBC": {"": 1}}
    assert found.sides_px == {"WBC": (30.0,), "RBC": (10.0,)}
    empty_box, twice = found.problems
    assert "no width or height" in empty_box.what
    assert twice.path.name == "a.png"
    assert twice.what == "1 box stands there more than once; the copies are left out"


def test_the_format_can_be_named(save: Save, tmp_path: Path) -> None:
    save("A/0.png", texture(1))
    assert read_data(tmp_path, format="folders").format == "folders"
    with pytest.raises(UsageError, match=r"no format 'zip', expected one of auto, table, lmu"):
        read_data(tmp_path, format="zip")
