"""Tables of boxes and cells with decimal commas are read as other tables are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cellcount.datasets.crop_table import read_crop_table
from cellcount.datasets.csv_boxes import read
from tests.workbooks import Cell, write_ods, write_xlsx

BOXES = [(5.25, 6.5, 15.75, 17.0), (20.5, 8.25, 31.5, 21.0), (1.0, 12.345, 9.5, 25.0)]
HEADER = ["image", "xmin", "ymin", "xmax", "ymax", "label"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), (200, 120, 140)).save(tmp_path / "f.png")
    return tmp_path


def write(folder: Path, separator: str, encoding: str = "utf-8", quote: str = "") -> None:
    lines = [separator.join(HEADER)]
    for box in BOXES:
        numbers = [f"{quote}{v:g}{quote}".replace(".", ",") for v in box]
        lines.append(separator.join(["f.png", *numbers, "wbc"]))
    (folder / "b.csv").write_bytes("\r\n".join(lines).encode(encoding))


def boxes(folder: Path) -> list[list[float]]:
    found = read(folder)
    assert found.problems == ()
    (image,) = found.images
    return sorted(image.boxes_xyxy.tolist())


@pytest.mark.parametrize(
    ("separator", "encoding", "quote"),
    [(";", "utf-8", ""), (";", "cp1252", ""), ("\t", "utf-16", ""), (";", "utf-8-sig", '"')],
)
def test_boxes_keep_their_decimals(folder: Path, separator: str, encoding: str, quote: str) -> None:
    write(folder, separator, encoding, quote)
    expected = sorted([[pytest.approx(v, abs=1e-4) for v in box] for box in BOXES], key=str)
    assert sorted(boxes(folder), key=str) == expected


def test_shares_of_the_image_with_decimal_commas_are_shares(folder: Path) -> None:
    (folder / "b.csv").write_text(";".join(HEADER) + "\nf.png;0,25;0,5;0,75;0,9;wbc\n")
    assert boxes(folder) == [[10, 15, 30, 27]]


@pytest.mark.parametrize("name", ["b.xlsx", "b.ods"])
def test_boxes_of_a_spreadsheet_file(folder: Path, name: str) -> None:
    cells: list[list[Cell]] = [["f.png", *box, "wbc"] for box in BOXES]
    rows: list[list[Cell]] = [[*HEADER], [], *cells]
    (write_xlsx if name.endswith("xlsx") else write_ods)(folder / name, {"boxes": rows})
    assert len(boxes(folder)) == len(BOXES)


def test_a_number_that_could_be_two_is_left_out_with_its_row(folder: Path) -> None:
    text = "\nf.png;5,5;6;15;17;wbc\nf.png;1.234;6;15;17;wbc\n"
    (folder / "b.csv").write_text(";".join(HEADER) + text)
    found = read(folder)
    assert [len(image.labels) for image in found.images] == [1]
    (problem,) = found.problems
    assert "row 3 (f.png) has xmin '1.234' could have a separator of thousands" in str(problem)


def test_red_cell_diameters_and_boxes_of_a_crop_table(folder: Path) -> None:
    header = "path;label;rbc_px;xmin;ymin;xmax;ymax\n"
    (folder / "crops.csv").write_text(header + "f.png;NEU;33,5;5,5;6;15;17\n")
    crops = read_crop_table(folder / "crops.csv")
    (cell,) = crops.items
    assert (cell.rbc_px, cell.box_xyxy) == (33.5, (5.5, 6, 15, 17))
