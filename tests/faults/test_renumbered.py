"""Pictures renumbered after annotating (W12): the picture beside counts, not the name inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellcount.datasets.annotations import read_annotations
from tests.faults.recipes import Fields, Run, write_labelme, write_voc


def check(fields: Fields, folder: Path, count: int = 3) -> None:
    """Each picture has its own boxes."""
    images = read_annotations(folder).images
    assert len(images) == count
    for i, image in enumerate(images):
        true = sorted(tuple(np.round([x, y, x + w, y + h], 1)) for _, x, y, w, h in fields.boxes(i))
        assert sorted(tuple(np.round(box, 1)) for box in image.boxes_xyxy.tolist()) == true


def test_every_picture_keeps_its_boxes_and_it_is_said(
    fields: Fields, folder: Path, run: Run
) -> None:
    for i in range(3):
        fields.put(i, f"img_{i + 1:03d}.png")
        write_voc(f"img_{i + 1:03d}.xml", f"img_{i + 2:03d}.png", fields.boxes(i))
    check(fields, folder)
    _, out, _ = run("datasets", "inspect", ".")
    assert "names img_002.png, but is called as img_001.png" in out


def test_voc_in_folders_of_its_own(fields: Fields, folder: Path) -> None:
    for i in range(3):
        fields.put(i, f"JPEGImages/{i:03d}.png")
        write_voc(f"Annotations/{i:03d}.xml", f"{(i + 1) % 3:03d}.png", fields.boxes(i))
    check(fields, folder)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_labelme_with_the_old_names_inside(fields: Fields, folder: Path, suffix: str) -> None:
    for i in range(3):
        fields.put(i, f"{i:03d}.png")
        named = f"..\\raw\\{(i + 1) % 3:03d}{suffix}"
        write_labelme(f"{i:03d}.json", named, fields.boxes(i))
    check(fields, folder)


def test_an_annotation_whose_picture_is_gone_takes_no_other(fields: Fields, folder: Path) -> None:
    for i in range(3):
        fields.put(i, f"img_{i + 1:03d}.png")
        write_voc(f"img_{i + 1:03d}.xml", f"img_{i:03d}.png", fields.boxes(i))
    write_voc("img_004.xml", "img_003.png", fields.boxes(5))  # img_004.png is not there
    check(fields, folder)
    annotated = read_annotations(folder)
    assert annotated.left_out == 1
    assert "names img_003.png, which img_003.xml annotates" in annotated.problems[0].what


def test_a_name_of_its_own_needs_no_picture_of_the_files_name(fields: Fields, folder: Path) -> None:
    for i in range(3):
        fields.put(i, f"images/slide {i}.png")
        write_voc(f"Annotations/{i + 1}.xml", f"slide {i}.png", fields.boxes(i))
    check(fields, folder)
    assert read_annotations(folder).problems == ()
