"""Metadata of a TIFF: significant bits, scale, orientation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellcount.core.records import ImageRef, Picture
from cellcount.images.read import field_pages, probe_size

Read = Callable[..., Picture]
TWELVE_BITS = (281, "H", 1, 4095, True)
BRIGHTEST_PIXEL = (281, "H", 1, 3100, True)


def test_significant_bits_come_from_statements_never_from_content(
    tmp_path: Path, read: Read
) -> None:
    grey = np.full((4, 4), 2048, np.uint16)
    path = tmp_path / "a.tif"
    for tags, expected in (([], 8), ([TWELVE_BITS], 128), ([BRIGHTEST_PIXEL], 8)):
        tifffile.imwrite(path, grey, photometric="minisblack", extratags=tags)
        assert np.unique(read(path).pixels).tolist() == [expected]


def test_ome_significant_bits(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.ome.tif"
    grey = np.full((4, 4), 2048, np.uint16)
    tifffile.imwrite(path, grey, photometric="minisblack", metadata={"SignificantBits": 12})
    assert np.unique(read(path).pixels).tolist() == [128]


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (0.0645, "µm", 0.0645),
        (64.5, "nm", 0.0645),
        (0.0000645, "mm", 0.0000645 * 1000),
        (1.0, "pixel", None),
        (264.58, "µm", None),  # 96 dpi that a converter wrote down
        (0.0, "µm", None),
    ],
)
def test_ome_scale(
    size: float, unit: str, expected: float | None, tmp_path: Path, read: Read
) -> None:
    metadata = {
        "PhysicalSizeX": size, "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": size, "PhysicalSizeYUnit": unit,
    }  # fmt: skip
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb", metadata=metadata)
    assert read(path).um_per_px == pytest.approx(expected)


def test_ome_scale_without_unit_is_in_micrometres(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb", metadata=metadata)
    assert read(path).um_per_px == 0.1


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((72, 72), "INCH", None),
        ((96, 96), "INCH", None),
        ((300, 300), "INCH", None),
        ((254_000, 254_000), "INCH", 0.1),
        ((100_000, 100_000), "CENTIMETER", 0.1),
        ((100_000, 50_000), "CENTIMETER", None),  # pixels that are not square
        ((100_000, 100_000), "NONE", None),
        ((0, 0), "CENTIMETER", None),
    ],
)
def test_resolution_tags_are_believed_only_where_plausible(
    resolution: tuple[int, int], unit: str, expected: float | None, tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.zeros((8, 8, 3), np.uint8),
        photometric="rgb",
        resolution=resolution,
        resolutionunit=unit,
        metadata=None,
    )
    assert read(path).um_per_px == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [("micron", 10.0, 0.1), ("um", 15.5, 1 / 15.5), ("inch", 72.0, None), ("pixel", 1.0, None)],
)
def test_imagej_scale(
    unit: str, per_unit: float, expected: float | None, tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.zeros((8, 8, 3), np.uint8),
        imagej=True,
        resolution=(per_unit, per_unit),
        metadata={"unit": unit},
    )
    assert read(path).um_per_px == (expected and pytest.approx(expected, rel=1e-5))


def test_aperio_scale_and_levels(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.svs"
    rgb = np.zeros((64, 64, 3), np.uint8)
    with tifffile.TiffWriter(path) as tif:
        text = "Aperio Image Library v1\r\n64x64 (16x16) J2K|AppMag = 40|MPP = 0.2525"
        tif.write(rgb, photometric="rgb", tile=(16, 16), description=text, metadata=None)
        tif.write(rgb[::3, ::3], photometric="rgb", metadata=None)
    assert field_pages(path) == (0,)
    assert read(path).um_per_px == 0.2525


def test_broken_ome_xml_costs_the_scale_only(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb", metadata=metadata)
    path.write_bytes(path.read_bytes().replace(b"<Pixels ", b"<Pixels <"))
    picture = read(path)
    assert picture.pixels.shape == (8, 8, 3)
    assert picture.um_per_px is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tag_is_honoured(
    orientation: int, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "a.tif"
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(path, rgb, photometric="rgb", extratags=[tag])
    turned = {
        1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1],
        5: rgb.transpose(1, 0, 2), 6: np.rot90(rgb, -1), 7: np.rot90(rgb, -1)[::-1],
        8: np.rot90(rgb),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(read(path).pixels, turned)
    size = probe_size(ImageRef(path, "a", "s"), max_pixels=10_000)
    assert size == (turned.shape[1], turned.shape[0])
