"""Levels of a pyramid are found and read as they lie, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellcount.core.records import ImageRef
from cellcount.errors import ImageError
from cellcount.images.tiff_levels import factor_of, level_factors, read_level
from cellcount.images.tiff_windows import Rect
from cellcount.images.whole_slide import open_whole_slide
from tests.pyramids import LEVELS, SIDE_PX, write_pyramid

MOST = 500_000_000


@pytest.fixture(scope="module", params=["SubIFDs", "pages"])
def pyramid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pyramid") / "slide.tif"
    return write_pyramid(path, as_subifds=request.param == "SubIFDs")


def test_each_level_is_read_where_it_lies(pyramid: Path) -> None:
    with pyramid.open("rb") as file:
        assert level_factors(file, 0, MOST) == tuple(LEVELS)
        for factor, colour in LEVELS.items():
            side = -(-SIDE_PX // factor)
            rect = Rect(side - 300, side - 200, 300, 200)
            found = read_level(file, 0, factor, rect, MOST)
            assert found.shape == (200, 300, 3)
            assert (found == colour).all()
        beyond = Rect(side - 100, 0, 300, 200)
        assert read_level(file, 0, factor, beyond, MOST).shape == (200, 100, 3)
        with pytest.raises(ImageError, match="outside the level"):
            read_level(file, 0, factor, Rect(side, 0, 10, 10), MOST)
        with pytest.raises(ImageError, match="changed while"):
            read_level(file, 0, 2, Rect(0, 0, 10, 10), MOST)


def test_levels_are_for_the_eye_and_windows_of_the_slide_are_its_own(pyramid: Path) -> None:
    slide = open_whole_slide(ImageRef(pyramid, "slide.tif", ""), max_pixels=MOST)
    assert slide is not None
    assert slide.size_px == (SIDE_PX, SIDE_PX)
    assert slide.level_factors == tuple(LEVELS)
    own = slide.read(Rect(0, 100, 64, 32))
    assert own.shape == (32, 64, 3)
    assert not any((own == colour).all() for colour in LEVELS.values())


def test_a_level_with_tiles_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "slide.tif", as_subifds=False)
    with tifffile.TiffFile(path) as tif:
        last = tif.pages[len(LEVELS)]
        assert isinstance(last, tifffile.TiffPage)
        place = last.tags["TileByteCounts"].valueoffset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff\xff\xff\x7f")
    with path.open("rb") as file:
        assert level_factors(file, 0, MOST) == tuple(LEVELS)[:-1]


def test_a_page_that_is_not_marked_as_reduced_is_no_level(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as writer:
        for side in (1024, 512):
            field = np.random.default_rng(side).integers(0, 255, (side, side, 3)).astype(np.uint8)
            writer.write(field, tile=(256, 256), photometric="rgb")
    with path.open("rb") as file:
        assert level_factors(file, 0, MOST) == ()


def test_each_page_of_a_file_has_the_levels_that_follow_it(tmp_path: Path) -> None:
    path, colours = tmp_path / "two.tif", {0: (200, 60, 80), 2: (40, 160, 60)}
    with tifffile.TiffWriter(path) as writer:
        for colour in colours.values():
            for side in (1024, 512):
                field = np.full((side, side, 3), colour, np.uint8)
                writer.write(
                    field, tile=(256, 256), photometric="rgb", subfiletype=int(side == 512)
                )
    with path.open("rb") as file:
        for page, colour in colours.items():
            assert level_factors(file, page, MOST) == (2,)
            assert (read_level(file, page, 2, Rect(0, 0, 64, 64), MOST) == colour).all()


@pytest.mark.parametrize(
    ("size", "reduced", "factor"),
    [
        ((1001, 640), (500, 320), 2),
        ((1001, 640), (501, 320), 2),
        ((40_001, 30_003), (2500, 1875), 16),
        ((40_001, 30_003), (2501, 1876), 16),
        ((1000, 640), (500, 300), 0),
        ((1000, 640), (333, 213), 0),
        ((1000, 640), (1000, 640), 0),
        ((1000, 640), (0, 0), 0),
        ((1 << 20, 1 << 20), (4, 4), 0),
    ],
)
def test_only_powers_of_two_are_levels(
    size: tuple[int, int], reduced: tuple[int, int], factor: int
) -> None:
    assert factor_of(size, reduced) == factor
