"""Planes of a z-stack and time points (W07): one field, the sharpest plane, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import ImageFilter

from cellcount.errors import ImageError
from cellcount.images.find import find_images
from cellcount.images.read import field_pages
from tests.faults.counting import count, is_near, read
from tests.faults.recipes import Fields, Run

Pixels = NDArray[np.uint8]
SHARP = 2


def stack(fields: Fields, i: int = 0) -> Pixels:
    """Five planes of a field, the third in focus."""
    blurs = (2.5, 1.2, 0, 1.2, 2.5)
    image = fields.image(i)
    return np.stack([np.asarray(image.filter(ImageFilter.GaussianBlur(s))) for s in blurs])


def imagej(path: str, planes: Pixels, axes: str = "ZYXS") -> None:
    tifffile.imwrite(path, planes, photometric="rgb", imagej=True, metadata={"axes": axes})


def ome(path: str, planes: Pixels, axes: str = "ZYXS") -> None:
    tifffile.imwrite(path, planes, photometric="rgb", ome=True, metadata={"axes": axes})


def ome_of_one_block(path: str, planes: Pixels) -> None:
    """OME-XML whose only TiffData names no page."""
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="640" SizeY="480" '
        f'SizeC="3" SizeZ="{len(planes)}" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="3"/>'
        "<TiffData/></Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(path) as tif:
        for index, plane in enumerate(planes):
            text = xml if index == 0 else None
            tif.write(plane, photometric="rgb", description=text, metadata=None)


def shaped(path: str, planes: Pixels) -> None:
    tifffile.imwrite(path, planes, photometric="rgb", metadata={"axes": "TYXS"}, compression="lzw")


def plain(path: str, planes: Pixels) -> None:
    """Pages that say nothing of themselves."""
    with tifffile.TiffWriter(path) as tif:
        for plane in planes:
            tif.write(plane, photometric="rgb", metadata=None, compression="zlib")


def grey(path: str, planes: Pixels) -> None:
    tifffile.imwrite(path, planes[..., 1], photometric="minisblack", metadata={"axes": "ZYX"})


WRITERS: dict[str, Callable[..., Any]] = {
    "ImageJ z": imagej,
    "ImageJ t": lambda p, s: imagej(p, s, "TYXS"),
    "OME z": ome,
    "OME t": lambda p, s: ome(p, s, "TYXS"),
    "OME, one block": ome_of_one_block,
    "tifffile t": shaped,
    "nothing said": plain,
    "grey": grey,
}


@pytest.mark.parametrize("name", WRITERS)
def test_planes_are_one_field_and_the_sharpest_is_read(
    name: str, fields: Fields, folder: Path
) -> None:
    planes = stack(fields)
    WRITERS[name]("z.tif", planes)
    assert field_pages(Path("z.tif")) == (0,)
    picture = read("z.tif")
    wanted = planes[SHARP] if name != "grey" else np.repeat(planes[SHARP][..., 1:2], 3, axis=2)
    np.testing.assert_array_equal(picture.pixels, wanted)
    assert "5 pages show this place" in picture.cautions[0]
    assert "page 3, the sharpest, is counted" in picture.cautions[0]
    (said,) = find_images(["z.tif"]).passed_over
    assert str(said.path) == "z.tif#page=2-5"


def test_the_stack_is_counted_once(fields: Fields, folder: Path, run: Run) -> None:
    Path("s").mkdir()
    imagej("s/z.tif", stack(fields))
    counted = count(run, "s")
    (row,) = counted.rows.values()
    assert row.status == "done"
    assert is_near(row.cells, (46, 7, 3))
    assert "z-stack" in row.reason


def test_several_stacks_in_a_file_are_a_field_each(fields: Fields, folder: Path) -> None:
    first, second = stack(fields), stack(fields, 1)
    plain("two.tif", np.concatenate([first, second]))
    with tifffile.TiffWriter("two.ome.tif", ome=True) as tif:
        for planes in (first, second):
            tif.write(planes, photometric="rgb", metadata={"axes": "ZYXS"})
    for name in ("two.tif", "two.ome.tif"):
        assert field_pages(Path(name)) == (0, 5)
        np.testing.assert_array_equal(read(name, 5).pixels, second[SHARP])


def test_different_fields_stay_a_row_a_page(fields: Fields, folder: Path) -> None:
    pages = np.stack([fields.pixels(i) for i in range(4)])
    plain("fields.tif", pages)
    tifffile.imwrite("written.tif", pages, photometric="rgb")
    for name in ("fields.tif", "written.tif"):
        assert field_pages(Path(name)) == (0, 1, 2, 3)
        for page in range(4):
            picture = read(name, page)
            np.testing.assert_array_equal(picture.pixels, pages[page])
            assert picture.cautions == ()


def test_stated_planes_of_different_places_are_refused(fields: Fields, folder: Path) -> None:
    imagej("f.tif", np.stack([fields.pixels(i) for i in range(3)]))
    assert field_pages(Path("f.tif")) == (0,)
    with pytest.raises(ImageError, match=r"states 3 planes.*page 2 shows another place; save each"):
        read("f.tif")


def test_a_plane_that_cannot_be_read_is_said(fields: Fields, folder: Path) -> None:
    tifffile.imwrite("z.tif", stack(fields), photometric="rgb", metadata={"axes": "ZYXS"})
    with tifffile.TiffFile("z.tif") as tif:
        tags = tif.pages[4].aspage().tags
        tag = tags["StripByteCounts"]
        offset = tags["StripOffsets"].valueoffset
    assert tag.count == 1
    data = bytearray(Path("z.tif").read_bytes())
    data[offset : offset + 4] = b"\xff\xff\xff\x7f"  # its strip lies beyond the end
    Path("z.tif").write_bytes(data)
    cautions = read("z.tif").cautions
    assert "page 3, the sharpest" in cautions[0]
    assert "1 of 5 planes cannot be read (page 5: truncated TIFF" in cautions[1]


def test_a_single_plane_of_several_is_said(fields: Fields, folder: Path) -> None:
    ome_of_one_block("whole.tif", stack(fields))
    with tifffile.TiffFile("whole.tif") as tif:
        xml = tif.pages.first.description
    tifffile.imwrite("one.tif", fields.pixels(0), photometric="rgb", description=xml, metadata=None)
    (caution,) = read("one.tif").cautions
    assert caution == "the file states 5 planes and holds this one alone"
