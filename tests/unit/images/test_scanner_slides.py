"""Slides of scanners are read through the same windows as TIFF, or told in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cellcount.analysis.inputs import plan_of
from cellcount.core.records import ImageRef
from cellcount.errors import CellcountError, ImageError
from cellcount.images import scanner_slides, whole_slide
from cellcount.images.find import find_images
from cellcount.images.read import probe_size, read_image
from cellcount.images.scanner_slides import has_openslide
from cellcount.images.source import open_source
from cellcount.images.tiff_windows import Rect
from cellcount.images.whole_slide import WholeSlide
from cellcount.rendering.field import FieldSpec, render_field
from tests.dicom_slides import write_dicom_slide

needs_openslide = pytest.mark.skipif(
    not has_openslide(), reason="needs openslide-python and openslide-bin (extra: slides)"
)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return render_field(FieldSpec(500, 300, 4, 24.0, 0.3)).pixels


@pytest.fixture
def dicom(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    """The folder of a DICOM slide of two levels."""
    pytest.importorskip("pydicom", reason="needs pydicom")
    folder = tmp_path / "slides"
    folder.mkdir()
    write_dicom_slide(folder, pixels, 0.25)
    return folder


@needs_openslide
def test_windows_of_a_dicom_slide_are_the_pixels_that_were_written(
    dicom: Path, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_slide, "WHOLE_PIXELS", 10_000)
    for path in sorted(dicom.iterdir()):  # any file of it tells all levels
        slide = open_source(ImageRef(path, "a", "s"), max_pixels=60_000)
        assert isinstance(slide, WholeSlide)
        assert slide.size_px == (500, 300)
        assert slide.um_per_px == pytest.approx(0.25)
        for rect in (Rect(0, 0, 100, 90), Rect(120, 100, 30, 60), Rect(400, 200, 100, 100)):
            expected = pixels[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
            found = slide.read(rect).astype(int)
            assert found.shape == expected.shape
            assert np.abs(found - expected).mean() < 3  # JPEG
        assert slide.balance(red_cell_hue=False).gains.shape == (3,)
        assert slide.sample_fields()


@needs_openslide
def test_a_small_slide_is_read_whole(dicom: Path, pixels: NDArray[np.uint8]) -> None:
    ref = ImageRef(dicom / "level-1.dcm", "a", "s")
    assert probe_size(ref, max_pixels=1_000_000) == (500, 300)
    picture = read_image(ref, max_pixels=1_000_000)
    assert picture.um_per_px == pytest.approx(0.25)
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 3
    for read in (read_image, probe_size):
        with pytest.raises(ImageError, match="the limit is 1000"):
            read(ref, max_pixels=1000)


@needs_openslide
def test_the_files_of_one_slide_are_one_image(dicom: Path) -> None:
    plan = find_images([str(dicom)])
    assert [ref.path.name for ref in plan.refs] == ["level-1.dcm"]
    assert [(p.path.name, p.reason) for p in plan.passed_over] == [
        ("level-2.dcm", f"another file of the slide in {dicom / 'level-1.dcm'}")
    ]


@needs_openslide
def test_what_a_scanner_left_out_is_white(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSlide gives places that were not scanned as transparent black."""

    class Sparse:
        def __enter__(self) -> Sparse:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read_region(self, *_: object) -> NDArray[np.uint8]:
            region = np.zeros((4, 6, 4), np.uint8)
            region[:, :3] = (10, 20, 30, 255)
            return region

    monkeypatch.setattr("openslide.OpenSlide", lambda _path: Sparse())
    (window,) = scanner_slides.read_slide_windows(tmp_path / "a.mrxs", [Rect(0, 0, 6, 4)])
    assert (window[:, :3] == (10, 20, 30)).all()
    assert (window[:, 3:] == 255).all()


@pytest.mark.parametrize("name", ["a.mrxs", "a.czi", "a.dcm", "a.vms", "a.svslide"])
def test_without_openslide_a_sentence_says_what_to_install(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner_slides, "has_openslide", lambda: False)
    path = tmp_path / name
    path.write_bytes(b"\xff\xd8\xff" + bytes(200))
    for text in (str(tmp_path), str(path)):
        with pytest.raises(CellcountError, match="no image found") as caught:
            plan_of([text], [])
        assert "pip install 'cellcount[slides]'" in str(caught.value)
    with pytest.raises(ImageError, match=r"pip install 'cellcount\[slides\]'"):
        open_source(ImageRef(path, "a", "s"), max_pixels=1000)


@needs_openslide
def test_a_file_that_only_has_a_slide_s_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff" + bytes(200))
    plan = find_images([str(tmp_path)])
    assert [p.reason for p in plan.passed_over] == ["not a slide that OpenSlide knows, or damaged"]


def test_the_data_of_a_slide_are_no_images_of_their_own(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m.mrxs").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "v.vms").write_text("[Virtual Microscope Specimen]\nImageFile=v-0.jpg\n")
    for name in ("m/0.jpg", "v-0.jpg", "own.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
    plan = find_images([str(tmp_path)])
    assert [ref.path.name for ref in plan.refs] == ["own.jpg"]
    said = {p.path.name: p.reason for p in plan.passed_over}
    assert said["m"] == "a part of the slide m.mrxs"
    assert said["v-0.jpg"] == "a part of the slide v.vms"


def test_overlapping_tiles_are_never_counted_as_they_lie(
    tmp_path: Path, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner_slides, "has_openslide", lambda: False)
    path = tmp_path / "a.bif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128))
    ref = ImageRef(path, "a", "s")
    for max_pixels in (1000, 1_000_000):  # as a whole slide, and small enough to be read whole
        with pytest.raises(ImageError, match="which is read by OpenSlide"):
            open_source(ref, max_pixels=max_pixels)
        with pytest.raises(ImageError, match="which is read by OpenSlide"):
            probe_size(ref, max_pixels=max_pixels)


def test_a_picture_that_is_only_called_like_a_scanner_s_tiff_is_read(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    path = tmp_path / "a.bif"
    Image.fromarray(pixels).save(path, "PNG")
    np.testing.assert_array_equal(
        read_image(ImageRef(path, "a", "s"), max_pixels=1_000_000).pixels, pixels
    )


def test_the_module_without_its_library_is_as_if_it_were_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openslide.py").write_text("raise ModuleNotFoundError('no library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openslide", raising=False)
    assert not has_openslide()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.mrxs").write_bytes(b"\xff\xd8\xff" + bytes(200))
    plan = find_images([str(tmp_path / "s")])
    assert [p.reason for p in plan.passed_over] == [scanner_slides.NEEDS_OPENSLIDE]


@needs_openslide
def test_a_tiled_tiff_is_left_to_tifffile_whether_or_not_openslide_is_there(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128), compression="zlib")
    slide = open_source(ImageRef(path, "a", "s"), max_pixels=60_000)
    assert isinstance(slide, WholeSlide)
    assert not slide.by_openslide
    import openslide

    with openslide.OpenSlide(path) as other:
        region = np.asarray(other.read_region((40, 30), 0, (200, 90)))
    np.testing.assert_array_equal(slide.read(Rect(40, 30, 200, 90)), region[:, :, :3])


def test_a_nikon_file_says_how_to_export_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"\xda\xce\xbe\x0a" + bytes(300))
    with pytest.raises(ImageError, match="a Nikon ND2 file; save it in NIS-Elements as TIFF"):
        read_image(ImageRef(path, "a", "s"), max_pixels=1000)


@needs_openslide
def test_a_czi_that_cannot_be_read_says_how_to_export_it(tmp_path: Path) -> None:
    path = tmp_path / "a.czi"
    path.write_bytes(b"ZISRAWFILE" + bytes(300))
    with pytest.raises(ImageError, match="OpenSlide can read: .*; export it in ZEN as TIFF$"):
        read_image(ImageRef(path, "a", "s"), max_pixels=1000)
    path.write_bytes(b"nothing" + bytes(300))
    (item,) = find_images([str(path)]).passed_over
    assert item.reason.endswith("or damaged; export it in ZEN as TIFF")
