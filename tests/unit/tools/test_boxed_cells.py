"""Fields out of pictures of single cells: who is in the middle, and what is left out."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.blood import RBC, WBC
from cellcount.core.records import LabelledImage
from cellcount.datasets.annotations import read_annotations
from tools import boxed_cells

SAMPLES = Path(__file__).parents[3] / "sample_data"
HALF_PX = 130


def cut_about(image: LabelledImage, label: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A window about the whole cell of a class that is nearest to the middle, and its box there."""
    own = image.boxes_xyxy[np.array([name == label for name in image.labels])]
    centres = (own[:, :2] + own[:, 2:]) / 2
    middle = np.array([image.width_px, image.height_px]) / 2
    box = own[np.abs(centres - middle).sum(1).argmin()]
    corner = np.round((box[:2] + box[2:]) / 2).astype(int) - HALF_PX
    pixels = np.asarray(Image.open(image.path).convert("RGB"))
    window = pixels[corner[1] :, corner[0] :][: 2 * HALF_PX, : 2 * HALF_PX]
    return window, box - np.tile(corner, 2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Single cells cut from sample fields, in the folders of the real sets."""
    fields = [i for i in read_annotations(SAMPLES / "truth.json").images if i.width_px == 800]
    rows = []
    (tmp_path / "pbc/lymphocyte").mkdir(parents=True)
    for number, (field, label) in enumerate([(fields[0], WBC), (fields[2], WBC), (fields[0], RBC)]):
        window, _ = cut_about(field, label)
        Image.fromarray(window).save(tmp_path / f"pbc/lymphocyte/{number}.png")
        rows.append([f"lymphocyte/{number}.png", "train", "lymphocyte"])
    Image.new("RGB", (200, 200), (230, 225, 228)).save(tmp_path / "pbc/lymphocyte/empty.png")
    rows += [["lymphocyte/empty.png", "train", "lymphocyte"], ["lymphocyte/9.png", "val", "x"]]
    with (tmp_path / "pbc/splits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "split", "class"], *rows])
    (tmp_path / "mll-marrow").mkdir()
    (tmp_path / "mll-marrow/splits.csv").write_text("file,split,class\n")
    held = tmp_path / "txl-pbc"
    (held / "images").mkdir(parents=True)
    # Picture 1 is one of those that the detector is tested on, turned.
    turned = Image.open(tmp_path / "pbc/lymphocyte/1.png").transpose(Image.Transpose.ROTATE_90)
    turned.save(held / "images/t.png")
    (held / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label\nimages/t.png,9,9,80,80,wbc\n")
    (held / "splits.csv").write_text("file,split\nimages/t.png,test\n")
    return tmp_path


def test_cells_in_the_middle_are_boxed_as_white_and_held_out_pictures_are_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "boxed"
    boxed_cells.main([str(data), str(out)])
    told = capsys.readouterr().out
    assert "1 copies of held-out fields left out" in told
    (image,) = read_annotations(out).images  # in the middle of picture 2 is a red cell
    assert image.path.name == "pbc-lymphocyte-0.png"
    in_middle = (image.boxes_xyxy[:, :2] < HALF_PX) & (image.boxes_xyxy[:, 2:] > HALF_PX)
    (index,) = np.flatnonzero(in_middle.all(1))
    assert image.labels[index] == WBC
    assert np.abs(image.boxes_xyxy[index].reshape(2, 2).mean(0) - HALF_PX).max() < 20
    assert image.labels.count(RBC) >= 3


def test_red_cells_as_dark_as_the_nucleus_in_the_middle_are_noticed() -> None:
    pixels = np.full((200, 200, 3), 230, np.uint8)
    red = np.array([[10, 10, 50, 50], [150, 20, 190, 60], [20, 150, 60, 190]], np.float32)
    middle = np.array([80, 80, 120, 120], np.float32)
    for box, level in zip([*red, middle], [205, 195, 200, 70], strict=True):
        x0, y0, x1, y1 = box.astype(int)
        pixels[y0:y1, x0:x1, 0] = level
    assert not boxed_cells._any_nucleus(pixels, red, middle)
    pixels[20:60, 150:190, 0] = 90
    assert boxed_cells._any_nucleus(pixels, red, middle)


def test_the_draw_is_by_seed_and_by_share(data: Path) -> None:
    for number in range(40):
        shutil.copy(data / "pbc/lymphocyte/0.png", data / f"pbc/lymphocyte/more-{number}.png")
    with (data / "pbc/splits.csv").open("a", newline="") as file:
        rows = [[f"lymphocyte/more-{n}.png", "train", "lymphocyte"] for n in range(40)]
        csv.writer(file).writerows(rows)
    drawn = [list(boxed_cells._pictures(data, 0.1, seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 30
    assert drawn[0] != drawn[2]
