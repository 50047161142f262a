"""Macro pictures, labels, thumbnails and levels inside a file (W08): passed over, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellcount.images.find import find_images
from cellcount.images.read import field_pages
from tests.faults.counting import count, is_near, read
from tests.faults.recipes import Fields, Run

Pixels = NDArray[np.uint8]
RGB: dict[str, Any] = {"photometric": "rgb", "metadata": None}


def small(fields: Fields, i: int = 0, width: int = 300, height: int = 225) -> Pixels:
    return np.asarray(fields.image(i).resize((width, height)))


def ome(fields: Fields, folder: Path) -> int:
    with tifffile.TiffWriter("f.tif", ome=True) as tif:
        tif.write(fields.pixels(0), photometric="rgb", tile=(256, 256),
                  metadata={"axes": "YXS", "Name": "40x"})  # fmt: skip
        tif.write(small(fields), photometric="rgb", metadata={"axes": "YXS", "Name": "macro image"})
    return 0


def ome_label_of_equal_size(fields: Fields, folder: Path) -> int:
    with tifffile.TiffWriter("f.tif", ome=True) as tif:
        for i, name in enumerate(("label", "field")):
            tif.write(fields.pixels(i), photometric="rgb", metadata={"axes": "YXS", "Name": name})
    return 1


def levels_in_strips(fields: Fields, folder: Path) -> int:
    """Levels that do not say so, neither tiled nor marked."""
    with tifffile.TiffWriter("f.tif") as tif:
        for width in (640, 320, 160):
            tif.write(small(fields, 0, width, width * 3 // 4), **RGB)
    return 0


def thumbnail_first(fields: Fields, folder: Path) -> int:
    with tifffile.TiffWriter("f.tif") as tif:
        tif.write(small(fields, 0, 160, 120), **RGB)
        tif.write(fields.pixels(0), **RGB)
    return 1


def macro_of_another_place(fields: Fields, folder: Path) -> int:
    with tifffile.TiffWriter("f.tif") as tif:
        tif.write(fields.pixels(0), **RGB)
        tif.write(small(fields, 1, 400, 150), **RGB)
    return 0


def marked_reduced(fields: Fields, folder: Path) -> int:
    with tifffile.TiffWriter("f.tif") as tif:
        tif.write(small(fields, 0, 600, 450), subfiletype=1, **RGB)
        tif.write(fields.pixels(0), subfiletype=0, **RGB)
    return 1


def levels_in_sub_directories(fields: Fields, folder: Path) -> int:
    with tifffile.TiffWriter("f.tif") as tif:
        tif.write(fields.pixels(0), subifds=2, **RGB)
        tif.write(small(fields, 0, 320, 240), subfiletype=1, **RGB)
        tif.write(small(fields, 0, 160, 120), subfiletype=1, **RGB)
    return 0


def svs(fields: Fields, folder: Path) -> int:
    """Write the pages of an Aperio file: slide, thumbnail, level, label, macro."""
    text = "Aperio Image Library v12.0.15\r\n640x480 [0,0 640x480] (256x256)|AppMag = 40"
    with tifffile.TiffWriter("f.tif") as tif:
        tif.write(fields.pixels(0), photometric="rgb", tile=(256, 256), description=text,
                  metadata=None)  # fmt: skip
        tif.write(small(fields), description=text, **RGB)
        tif.write(small(fields, 1, 620, 470), description="Aperio\r\nlabel 620x470", **RGB)
    return 0


def ndpi(fields: Fields, folder: Path) -> int:
    """Write the pages of a Hamamatsu file, in which the lens of a macro is -1."""
    with tifffile.TiffWriter("f.tif") as tif:
        for i, lens in ((0, 40.0), (1, -1.0)):
            tags = [(65421, "f", 1, lens, True)]
            tif.write(fields.pixels(i), extratags=tags, **RGB)
    return 0


def page_name(fields: Fields, folder: Path) -> int:
    with tifffile.TiffWriter("f.tif") as tif:
        tif.write(fields.pixels(0), extratags=[(285, "s", 0, "Baseline", True)], **RGB)
        tif.write(fields.pixels(1), extratags=[(285, "s", 0, "Thumbnail", True)], **RGB)
    return 0


FILES: list[Callable[[Fields, Path], int]] = [
    ome, ome_label_of_equal_size, levels_in_strips, thumbnail_first, macro_of_another_place,
    marked_reduced, levels_in_sub_directories, svs, ndpi, page_name,
]  # fmt: skip


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_the_field_is_read_and_what_lies_beside_it_is_said(
    make: Callable[[Fields, Path], int], fields: Fields, folder: Path
) -> None:
    page = make(fields, folder)
    assert field_pages(Path("f.tif")) == (page,)
    plan = find_images(["f.tif"])
    assert [ref.image for ref in plan.refs] == ["f.tif"]
    assert read("f.tif", page).pixels.shape == (480, 640, 3)
    if make is not levels_in_sub_directories:
        assert plan.passed_over
        assert all(str(item.path).startswith("f.tif#page=") for item in plan.passed_over)


def test_the_macro_picture_is_not_counted(fields: Fields, folder: Path, run: Run) -> None:
    Path("s").mkdir()
    ome(fields, folder)
    Path("f.tif").rename("s/f.ome.tif")
    counted = count(run, "s")
    assert is_near(counted.rows["f.ome.tif"].cells, (46, 7, 3))
    assert len(counted.rows) == 1
    assert counted.passed_over == {"s/f.ome.tif#page=2": "called 'macro image', which is no field"}


def test_positions_of_an_ome_file_are_fields(fields: Fields, folder: Path) -> None:
    with tifffile.TiffWriter("f.tif", ome=True) as tif:
        for i in range(3):
            tif.write(fields.pixels(i), photometric="rgb",
                      metadata={"axes": "YXS", "Name": f"Position {i}"})  # fmt: skip
    assert field_pages(Path("f.tif")) == (0, 1, 2)


def test_a_page_that_is_a_little_smaller_is_counted_with_a_caution(
    fields: Fields, folder: Path
) -> None:
    with tifffile.TiffWriter("f.tif") as tif:
        tif.write(fields.pixels(0), **RGB)
        tif.write(fields.pixels(1)[:400, :600], **RGB)
    assert field_pages(Path("f.tif")) == (0, 1)
    assert read("f.tif").cautions == ()
    (caution,) = read("f.tif", 1).cautions
    assert caution.startswith("page of 600 x 400 px beside one of 640 x 480 px")


@pytest.mark.parametrize(
    "name", ["barcode", "SlidePreview", "slide_label", "Macro_Image", "LabelImage", "Slide Map"]
)
def test_pictures_of_the_slide_are_known_by_the_names_that_scanners_give(
    fields: Fields, folder: Path, name: str
) -> None:
    with tifffile.TiffWriter("f.ome.tif") as tif:
        tif.write(fields.pixels(0), photometric="rgb", metadata={"axes": "YXS", "Name": "40x"})
        beside = {"axes": "YXS", "Name": name}
        tif.write(small(fields, 1, 480, 360), photometric="rgb", metadata=beside)
    assert field_pages(Path("f.ome.tif")) == (0,)


@pytest.mark.parametrize("name", ["40x", "labelled field", "preparation", "thumbprint", "mapped"])
def test_other_names_are_those_of_fields(fields: Fields, folder: Path, name: str) -> None:
    with tifffile.TiffWriter("f.ome.tif") as tif:
        for i in range(2):
            tif.write(fields.pixels(i), photometric="rgb", metadata={"axes": "YXS", "Name": name})
    assert field_pages(Path("f.ome.tif")) == (0, 1)
