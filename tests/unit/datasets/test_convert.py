"""Each form holds the same cells when it is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount.core.records import LabelledImage
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.convert import Target, convert_data
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.datasets.detect_format import read_data
from cellcount.datasets.sources import displayed_size_px
from cellcount.errors import AnnotationError, OutputError, UsageError
from tests.counts import label_counts

RED = [[10 + 40 * i, 10, 30 + 40 * i, 30] for i in range(3)]  # three red cells of 20 px


@pytest.fixture
def data(tmp_path: Path) -> AnnotatedSet:
    images = []
    for number, split in enumerate(("train", "val")):
        path = tmp_path / "in" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (90, 160, 3))
        Image.fromarray(noise.astype(np.uint8)).save(path)
        boxes = np.array([*RED, [60, 40, 100, 76]], np.float32) if number == 0 else np.zeros((0, 4))
        labels = ("RBC", "RBC", "RBC", "WBC") if number == 0 else ()
        images.append(LabelledImage(path, boxes.astype(np.float32), labels, 160, 90, split))
    return AnnotatedSet(tuple(images), ("RBC", "WBC"), format="test")


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_boxes_survive(data: AnnotatedSet, target: Target, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert convert_data(data, target, out) == ()
    read = read_data(out)
    assert isinstance(read, AnnotatedSet)
    assert read.format == target
    assert [i.split for i in read.images] == ["train", "val"]
    assert [i.labels for i in read.images] == [i.labels for i in data.images]
    np.testing.assert_allclose(read.images[0].boxes_xyxy, data.images[0].boxes_xyxy, atol=1e-3)


def test_the_window_is_that_of_the_fields_own_red_cells(data: AnnotatedSet, tmp_path: Path) -> None:
    convert_data(data, "folders", tmp_path / "own", window_rbc=3.0)
    convert_data(data, "folders", tmp_path / "given", window_rbc=2.0, rbc_px=50)
    for folder, side in (("own", 60), ("given", 100)):
        crops = read_data(tmp_path / folder)
        assert isinstance(crops, CropSet)
        assert label_counts(crops) == {"RBC": 3, "WBC": 1}
        assert crops.splits() == {"train": 4}
        assert {displayed_size_px(item.path) for item in crops.items} == {(side, side)}


def test_the_scale_must_be_known(data: AnnotatedSet, tmp_path: Path) -> None:
    typed = AnnotatedSet(
        tuple(
            LabelledImage(i.path, i.boxes_xyxy[3:], i.labels[3:], i.width_px, i.height_px)
            for i in data.images
        ),
        ("WBC",),
    )
    with pytest.raises(AnnotationError, match="state the red-cell diameter in pixels with --rbc-p"):
        convert_data(typed, "folders", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_single_cells_have_no_boxes(data: AnnotatedSet, tmp_path: Path) -> None:
    crops = CropSet((LabelledCrop(data.images[0].path, "A"),), ("A",), format="folders")
    with pytest.raises(UsageError, match="--to yolo needs boxes"):
        convert_data(crops, "yolo", tmp_path / "out")
    convert_data(crops, "folders", tmp_path / "out")
    with pytest.raises(OutputError, match="is not empty"):
        convert_data(data, "coco", tmp_path / "out")
