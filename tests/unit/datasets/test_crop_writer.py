"""Single cells written as folders read back as what they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount.datasets.crop_set import LabelledCrop
from cellcount.datasets.crop_writer import write_folders
from cellcount.datasets.crops import read_crops
from cellcount.errors import OutputError
from tests.pyramids import SIDE_PX, write_pyramid

MakeImage = Callable[..., Path]


def test_whole_pictures_keep_bytes_label_split_patient_and_code(
    tmp_path: Path, make_image: MakeImage
) -> None:
    cells = [
        LabelledCrop(make_image("in/x/a.jpg"), "A/B", "train", "p1", code="AB1"),
        LabelledCrop(make_image("in/y/a.jpg", (30, 40)), "A/B", "train", "p2", code="AB2"),
        LabelledCrop(make_image("in/z/A.JPG", (20, 20)), "A:B", "val", "p3", code="AB1"),
    ]
    problems = write_folders(tmp_path / "out", cells)
    assert problems == ()
    read = read_crops(tmp_path / "out")
    assert read.problems == ()
    names = [item.path.relative_to(tmp_path / "out").as_posix() for item in read.items]
    assert names == ["train/A_B/a.jpg", "train/A_B/a_2.jpg", "val/A_B_2/A.JPG"]
    for cell, item in zip(cells, read.items, strict=True):
        assert item.path.read_bytes() == cell.path.read_bytes()
        assert dataclasses.replace(item, path=cell.path) == cell


def test_boxes_become_windows_of_equal_size_about_their_centre(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "field.png")
    field = tmp_path / "field.png"
    cells = [
        LabelledCrop(field, "WBC", box_xyxy=(40.0, 20.0, 60.0, 40.0)),
        LabelledCrop(field, "WBC", box_xyxy=(0.0, 26.0, 8.0, 34.0)),
    ]
    ticks: list[None] = []
    write_folders(
        tmp_path / "out", cells, side_px=lambda _: 24.2, on_cell=lambda: ticks.append(None)
    )
    inside, outside = (
        np.asarray(Image.open(tmp_path / "out" / "WBC" / f"field_00{n}.png")) for n in (1, 2)
    )
    np.testing.assert_array_equal(inside, pixels[18:42, 38:62])
    np.testing.assert_array_equal(outside[:, 8:], pixels[18:42, :16])
    assert (outside[:, :8] == 235).all()
    assert len(ticks) == 2
    table = (tmp_path / "out" / "splits.csv").read_text().splitlines()
    assert table[0] == "file,class,source"
    assert table[1] == "WBC/field_001.png,WBC,../field.png"


def test_a_broken_field_is_said_and_the_rest_is_written(
    tmp_path: Path, make_image: MakeImage
) -> None:
    broken = make_image("broken.png")
    broken.write_bytes(broken.read_bytes()[:60])
    box = (1.0, 1.0, 9.0, 9.0)
    cells = [
        LabelledCrop(broken, "A", box_xyxy=box),
        LabelledCrop(make_image("sound.png"), "A", box_xyxy=box),
    ]
    (problem,) = write_folders(tmp_path / "out", cells, side_px=lambda _: 8.0)
    assert problem.path == broken
    assert len(read_crops(tmp_path / "out")) == 1


def test_no_cell_is_written_of_a_slide_that_is_damaged_further_on(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "slide.tif")
    with tifffile.TiffFile(slide) as tif:
        (last, size) = max(zip(tif.pages[0].dataoffsets, tif.pages[0].databytecounts, strict=True))
    with slide.open("r+b") as file:
        file.seek(last)
        file.write(bytes(size))
    far = SIDE_PX - 20.0
    sound, lost = (
        LabelledCrop(slide, "A", box_xyxy=(at, at, at + 10, at + 10), rbc_px=8.0)
        for at in (500.0, far)
    )
    assert write_folders(tmp_path / "sound", [sound], side_px=lambda _: 24.0) == ()
    (problem,) = write_folders(tmp_path / "out", [sound, lost], side_px=lambda _: 24.0)
    assert "cannot be decoded" in problem.what
    assert list((tmp_path / "out").rglob("*.png")) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path, make_image: MakeImage) -> None:
    make_image("out/old.png")
    with pytest.raises(OutputError, match="is not empty; name a new folder"):
        write_folders(tmp_path / "out", [LabelledCrop(make_image("a.png"), "A")])
    with pytest.raises(OutputError, match=r"the splits \['\.\./x'\] cannot name files"):
        write_folders(tmp_path / "new", [LabelledCrop(make_image("a.png"), "A", "../x")])
