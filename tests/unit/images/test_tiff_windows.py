"""Windows of TIFF pages: the pixels of the whole page, read piece by piece and within bounds."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellcount.core.records import ImageRef
from cellcount.errors import ImageError
from cellcount.images import tiff_windows
from cellcount.images.read import field_pages, read_image
from cellcount.images.tiff_windows import Rect
from cellcount.images.whole_slide import WholeSlide, open_whole_slide

Array = NDArray[Any]
WIDTH, HEIGHT = 203, 157
SMALL = 20_000  # pixels: less than the picture has, more than any of its strips and tiles
RGB: dict[str, Any] = {"photometric": "rgb"}
PALETTE = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2]).astype(np.uint16)

FORMS: dict[str, dict[str, Any]] = {
    "one strip, as it is": RGB,
    "big-endian 16 bit": {**RGB, "byteorder": ">", "wide": True},
    "strips": {**RGB, "rowsperstrip": 13, "compression": "lzw", "predictor": True},
    "strips, 16 bit": {**RGB, "rowsperstrip": 7, "compression": "zlib", "wide": True},
    "tiles": {**RGB, "tile": (32, 48), "compression": "zstd"},
    "tiles, as they are": {**RGB, "tile": (64, 32)},
    "BigTIFF, JPEG tiles": {**RGB, "tile": (48, 48), "compression": "jpeg", "bigtiff": True},
    "JPEG 2000 tiles": {**RGB, "tile": (64, 64), "compression": "jpeg2000"},
    "separate planes": {**RGB, "planarconfig": "separate", "planes": True, "rowsperstrip": 20,
                        "compression": "zlib"},
    "separate planes, as they are": {**RGB, "planarconfig": "separate", "planes": True},
    "separate planes in tiles": {**RGB, "planarconfig": "separate", "planes": True,
                                 "tile": (32, 32)},
    "grey": {"photometric": "minisblack", "grey": True, "tile": (16, 16)},
    "white is zero": {"photometric": "miniswhite", "grey": True, "rowsperstrip": 10,
                      "compression": "packbits"},
    "palette": {"photometric": "palette", "colormap": PALETTE * 257, "grey": True,
                "tile": (32, 32)},
    "OME": {**RGB, "tile": (32, 32), "ome": True,
            "metadata": {"PhysicalSizeX": 0.11, "PhysicalSizeXUnit": "µm",
                         "PhysicalSizeY": 0.11, "PhysicalSizeYUnit": "µm"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def picture() -> Array:
    """Smooth, so that JPEG keeps it; no two places alike."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    channels = [60 + x / 2 + y / 3, 200 - x / 3 - y / 4, 120 + 40 * np.sin(x / 17) * np.cos(y / 23)]
    return np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)


def write(path: Path, picture: Array, form: dict[str, Any]) -> ImageRef:
    options = dict(form)
    stored = picture.astype(np.uint16) * 257 if options.pop("wide", False) else picture
    if options.pop("planes", False):
        stored = np.moveaxis(stored, 2, 0)
    if options.pop("grey", False):
        stored = picture[:, :, 0]
    tifffile.imwrite(path, stored, **options)
    return ImageRef(path, path.name, "s")


def slide_of(ref: ImageRef, max_pixels: int = SMALL) -> WholeSlide:
    slide = open_whole_slide(ref, max_pixels=max_pixels)
    assert slide is not None
    return slide


def rects(count: int = 12) -> list[Rect]:
    rng = np.random.default_rng(3)
    found = [Rect(0, 0, 60, 60), Rect(WIDTH - 30, HEIGHT - 20, 30, 20), Rect(0, 90, WIDTH, 3)]
    for _ in range(count):
        width, height = (int(v) for v in rng.integers(1, 130, 2))
        x, y = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
        found.append(Rect(x, y, width, height))
    return found


@pytest.mark.parametrize("name", FORMS)
def test_windows_are_parts_of_the_whole(tmp_path: Path, picture: Array, name: str) -> None:
    ref = write(tmp_path / "a.tif", picture, FORMS[name])
    whole = read_image(ref, max_pixels=10**6)
    slide = slide_of(ref)
    assert (slide.width_px, slide.height_px) == (WIDTH, HEIGHT)
    assert slide.um_per_px == whole.um_per_px == (0.11 if name == "OME" else None)
    wanted = rects()
    for rect, window in zip(wanted, slide.read_all(wanted), strict=True):
        expected = whole.pixels[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
        np.testing.assert_array_equal(window, expected)
        np.testing.assert_array_equal(slide.read(rect), expected)  # also without what was before


@pytest.mark.parametrize("subifds", [True, False])
def test_of_a_pyramid_the_finest_level_is_the_one_field(
    tmp_path: Path, picture: Array, subifds: bool
) -> None:
    path = tmp_path / "pyramid.tif"
    options: dict[str, Any] = {**RGB, "tile": (32, 32), "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=subifds) as file:
        file.write(picture, subifds=2 if subifds else 0, **options)
        for level in (2, 4):
            small = np.ascontiguousarray(picture[::level, ::level])
            file.write(small, subfiletype=1, **options)
    assert field_pages(path) == (0,)
    slide = slide_of(ImageRef(path, "a", "s"))
    assert (slide.width_px, slide.height_px) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(slide.read(Rect(50, 60, 40, 30)), picture[60:90, 50:90])


def test_an_aperio_slide_is_one_field_with_its_scale(tmp_path: Path, picture: Array) -> None:
    """SVS as the scanner writes it: tiled JPEG, thumbnail, level, label, macro."""
    path = tmp_path / "a.svs"
    text = "Aperio Image Library v11.2.1\r\n203x157 (48x48) JPEG/RGB Q=90|AppMag = 40|MPP = 0.2525"
    jpeg: dict[str, Any] = {**RGB, "compression": "jpeg", "compressionargs": {"level": 95}}
    with tifffile.TiffWriter(path) as file:
        file.write(picture, tile=(48, 48), description=text, metadata=None, **jpeg)
        file.write(picture[::4, ::4].copy(), description=text, metadata=None, **jpeg)
        file.write(picture[::2, ::2].copy(), tile=(48, 48), description=text, metadata=None, **jpeg)
        for name in ("label", "macro"):
            about = f"Aperio Image Library v11.2.1\r\n{name} 40x40"
            file.write(
                picture[:40, :40].copy(), description=about, metadata=None, subfiletype=9, **jpeg
            )
    assert field_pages(path) == (0,)
    slide = slide_of(ImageRef(path, "a", "s"))
    assert slide.um_per_px == 0.2525
    window = slide.read(Rect(40, 30, 100, 90)).astype(int)
    assert np.abs(window - picture[30:120, 40:140]).max() < 12  # JPEG
    tiffslide = pytest.importorskip("tiffslide", reason="tiffslide is not installed")
    with tiffslide.TiffSlide(path) as slide:
        other = np.asarray(slide.read_region((40, 30), 0, (100, 90)))
    np.testing.assert_array_equal(other[:, :, :3], window)


def test_what_is_small_enough_is_read_whole(tmp_path: Path, picture: Array) -> None:
    ref = write(tmp_path / "a.tif", picture, FORMS["tiles"])
    assert open_whole_slide(ref, max_pixels=WIDTH * HEIGHT) is None
    assert open_whole_slide(ref, max_pixels=WIDTH * HEIGHT - 1) is not None


def test_a_whole_slide_has_the_cautions_of_its_samples_and_planes(
    tmp_path: Path, picture: Array
) -> None:
    form: dict[str, Any] = {**RGB, "tile": (32, 32), "compression": "zlib"}
    twelve_bits = picture.astype(np.uint16) << 4
    tifffile.imwrite(tmp_path / "bits.tif", twelve_bits, **form)
    planes = np.stack([picture, picture])
    tifffile.imwrite(tmp_path / "z.ome.tif", planes, metadata={"axes": "ZYXS"}, ome=True, **form)
    found = {
        name: slide_of(ImageRef(tmp_path / name, name, "s")).cautions
        for name in ("bits.tif", "z.ome.tif")
    }
    assert "as in a picture of 12 bits" in found["bits.tif"][0]
    assert found["z.ome.tif"] == (
        "2 planes (z-stack or time series), of which this one is counted",
    )
    assert slide_of(write(tmp_path / "a.tif", picture, FORMS["tiles"])).cautions == ()


def test_what_cannot_be_read_by_windows_is_bounded_as_a_whole(
    tmp_path: Path, picture: Array
) -> None:
    one_strip = write(tmp_path / "a.tif", picture, {**RGB, "compression": "zlib"})
    turned = write(
        tmp_path / "b.tif", picture, {**FORMS["tiles"], "extratags": [(274, 3, 1, 6, True)]}
    )
    for ref in (one_strip, turned):
        assert open_whole_slide(ref, max_pixels=SMALL) is None
        with pytest.raises(ImageError, match="the limit is 20000; raise --max-pixels"):
            read_image(ref, max_pixels=SMALL)


def test_a_window_above_the_limit_is_refused(tmp_path: Path, picture: Array) -> None:
    slide = slide_of(write(tmp_path / "a.tif", picture, FORMS["tiles"]))
    with pytest.raises(ImageError, match="window of 24500 pixels is needed, the limit is 20000"):
        slide.read(Rect(0, 0, 175, 140))


def test_tiles_that_share_their_bytes_are_no_slide(tmp_path: Path, picture: Array) -> None:
    """A small file that would be work for days: all its tiles are one and the same."""
    path = tmp_path / "a.tif"
    ref = write(path, picture, {**RGB, "tile": (16, 16), "compression": "zlib"})
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages.first.tags
        count = len(tags["TileOffsets"].value)
        largest = int(np.argmax(tags["TileByteCounts"].value))
        offset, size = (tags[n].value[largest] for n in ("TileOffsets", "TileByteCounts"))
        tags["TileOffsets"].overwrite([offset] * count)
        tags["TileByteCounts"].overwrite([size] * count)
    with pytest.raises(ImageError, match="overlap in the file"):
        open_whole_slide(ref, max_pixels=SMALL)


def test_few_bytes_that_would_be_work_for_hours_are_no_slide(tmp_path: Path) -> None:
    """Each of the tiles is small, and none lies over another."""
    nothing = np.full((1024, 1024, 3), 255, np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, nothing, tile=(256, 256), compression="zstd", **RGB)
    assert path.stat().st_size < 8_000
    with pytest.raises(ImageError, match=r"MB would be 0.00315 GB of pixels, more than 500 times"):
        open_whole_slide(ImageRef(path, "a", "s"), max_pixels=SMALL * 10)


def test_of_a_page_wider_than_memory_only_the_window_is_read(tmp_path: Path) -> None:
    path, width, height = tmp_path / "a.tif", 400_000, 1_100
    tifffile.imwrite(path, shape=(height, width, 3), dtype=np.uint8, **RGB)
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.dataoffsets[0]
    with path.open("r+b") as data:  # holes elsewhere
        data.seek(offset + (700 * width + 300_000) * 3)
        data.write(b"\x07\x08\x09")
    slide = open_whole_slide(ImageRef(path, "a", "s"), max_pixels=2_000_000)
    assert slide is not None
    tracemalloc.start()
    window = slide.read(Rect(299_990, 600, 900, 500))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert window[100, 10].tolist() == [7, 8, 9]
    assert window.sum() == 24
    assert most < 6 * window.nbytes  # a row of the page alone is 1.2 MB, its window's rows 600


def test_damage_is_told_from_headers_or_at_the_window(tmp_path: Path, picture: Array) -> None:
    path = tmp_path / "a.tif"
    for form in ("tiles", "strips", "one strip, as it is", "JPEG 2000 tiles"):
        ref = write(path, picture, FORMS[form])
        whole = path.read_bytes()
        with tifffile.TiffFile(path) as file:
            last = max(file.pages[0].dataoffsets)
        path.write_bytes(whole[: last + 5])
        with pytest.raises(ImageError, match="truncated TIFF|damaged TIFF"):
            list(slide_of(ref).read_all([Rect(0, 0, 50, 50), Rect(150, 140, 50, 17)]))
    ref = write(path, picture, FORMS["tiles"])
    slide = slide_of(ref)
    write(path, np.ascontiguousarray(picture[:80]), FORMS["tiles"])
    with pytest.raises(ImageError, match="changed while it was read"):
        slide.read(Rect(0, 60, 40, 40))
    path.unlink()
    with pytest.raises(ImageError, match="file is gone"):
        slide.read(Rect(0, 60, 40, 40))


def test_few_strips_and_tiles_are_remembered(
    tmp_path: Path, picture: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = slide_of(write(tmp_path / "a.tif", picture, FORMS["strips"]))
    wanted = rects()
    before = list(slide.read_all(wanted))
    monkeypatch.setattr(tiff_windows, "_MEMO_BYTES", 1)
    for one, other in zip(before, slide.read_all(wanted), strict=True):
        np.testing.assert_array_equal(one, other)
