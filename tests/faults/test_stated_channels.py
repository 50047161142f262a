"""OME-XML and ImageJ texts that misstate the samples of a page (W33): the page decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellcount.errors import ImageError
from cellcount.images.read import field_pages
from tests.faults.counting import count, is_near, read
from tests.faults.recipes import Fields, Run

OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="640" '
    'SizeY="480" SizeC="{size}" SizeZ="1" SizeT="1">{channels}<TiffData/></Pixels></Image></OME>'
)
NONE = '<Channel ID="Channel:0:0"/>'
ONE = "".join(f'<Channel ID="Channel:0:{i}" SamplesPerPixel="1"/>' for i in range(3))
THREE = '<Channel ID="Channel:0:0" SamplesPerPixel="3"/>'


@pytest.mark.parametrize(
    ("size", "channels"), [(3, NONE), (3, ONE), (3, THREE), (1, THREE), (3, ""), (4, NONE)]
)
@pytest.mark.parametrize("planar", [False, True])
def test_one_page_of_colours_is_one_field(
    size: int, channels: str, planar: bool, fields: Fields, folder: Path
) -> None:
    text, rgb = OME.format(size=size, channels=channels), fields.pixels(0)
    stored = np.moveaxis(rgb, 2, 0) if planar else rgb
    tifffile.imwrite("f.ome.tif", stored, photometric="rgb", description=text, metadata=None,
                     planarconfig="separate" if planar else "contig")  # fmt: skip
    np.testing.assert_array_equal(read("f.ome.tif").pixels, rgb)
    assert field_pages(Path("f.ome.tif")) == (0,)


def test_an_imagej_text_on_a_page_of_colours(fields: Fields, folder: Path) -> None:
    text = "ImageJ=1.54f\nimages=3\nchannels=3\nmode=composite\n"
    tifffile.imwrite("f.tif", fields.pixels(0), photometric="rgb", description=text, metadata=None)
    np.testing.assert_array_equal(read("f.tif").pixels, fields.pixels(0))


@pytest.mark.parametrize("channels", [ONE, NONE, THREE])
def test_channels_in_pages_of_their_own_are_refused_whatever_is_stated(
    channels: str, fields: Fields, folder: Path
) -> None:
    text = OME.format(size=3, channels=channels)
    with tifffile.TiffWriter("f.ome.tif") as tif:
        for index in range(3):
            tif.write(fields.pixels(0)[..., index], photometric="minisblack", metadata=None,
                      description=text if index == 0 else None)  # fmt: skip
    assert field_pages(Path("f.ome.tif")) == (0,)
    with pytest.raises(ImageError, match="3 channels in separate pages"):
        read("f.ome.tif")


def test_a_channel_whose_others_lie_elsewhere_is_refused(fields: Fields, folder: Path) -> None:
    text = OME.format(size=3, channels=ONE)
    tifffile.imwrite("f.ome.tif", fields.pixels(0)[..., 0], photometric="minisblack",
                     description=text, metadata=None)  # fmt: skip
    with pytest.raises(ImageError, match="states 3 channels and holds one of them"):
        read("f.ome.tif")


def test_it_is_counted(fields: Fields, folder: Path, run: Run) -> None:
    Path("s").mkdir()
    text = OME.format(size=3, channels=NONE)
    tifffile.imwrite("s/f.ome.tif", fields.pixels(0), photometric="rgb", description=text,
                     metadata=None)  # fmt: skip
    row = count(run, "s").rows["f.ome.tif"]
    assert (row.status, row.reason) == ("done", "")
    assert is_near(row.cells, (46, 7, 3))
