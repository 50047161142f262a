"""A whole slide as a whole: white balance, sample fields and quality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellcount.core.records import ImageRef
from cellcount.images.quality import measure_quality, median_quality
from cellcount.images.white_balance import white_balance_gains
from cellcount.images.whole_slide import WholeSlide, open_whole_slide
from cellcount.rendering.field import FieldSpec, Illumination, render_field

RBC_PX = 24.0


def slide_of(path: Path, pixels: NDArray[np.uint8], max_pixels: int = 60_000) -> WholeSlide:
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128), compression="zlib")
    slide = open_whole_slide(ImageRef(path, "a", "s"), max_pixels=max_pixels)
    assert slide is not None
    return slide


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    spec = FieldSpec(700, 520, 4, RBC_PX, 0.3, illumination=Illumination(cast=(1.0, 0.8, 0.6)))
    return render_field(spec).pixels


def test_gains_and_quality_are_those_of_the_whole_picture(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    found = slide_of(tmp_path / "a.tif", pixels)
    np.testing.assert_allclose(
        found.balance(red_cell_hue=False).gains, white_balance_gains(pixels), rtol=0.01
    )
    assert (
        found.balance(red_cell_hue=False).gains[2]
        > found.balance(red_cell_hue=False).gains[1]
        > found.balance(red_cell_hue=False).gains[0]
    )  # the cast is seen
    sampled = median_quality(found.sample_fields(), 1.0, RBC_PX)
    whole = measure_quality(pixels, 1.0, RBC_PX)
    assert sampled.focus == pytest.approx(whole.focus, abs=0.1)
    assert sampled.exposure == pytest.approx(whole.exposure, abs=3)
    assert sampled.stain_balance == pytest.approx(whole.stain_balance, abs=0.02)
    assert sampled.stained_percent == pytest.approx(whole.stained_percent, abs=6)
    assert sampled.clipped_percent == pytest.approx(whole.clipped_percent, abs=1)


def test_sample_fields_lie_where_something_is_stained(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    glass = np.empty((900, 1400, 3), np.uint8)
    glass[:] = np.percentile(pixels, 95, axis=(0, 1)).astype(np.uint8)
    glass[100:300, 1000:1300] = pixels[:200, :300]  # a small island
    found = slide_of(tmp_path / "a.tif", glass)
    assert 1 <= len(found.sample_fields()) <= 9
    assert all((field[..., 1] < glass[0, 0, 1] - 25).any() for field in found.sample_fields())
    assert median_quality(found.sample_fields(), 1.0, RBC_PX).focus is not None


def test_empty_glass_has_fields_but_no_focus(tmp_path: Path) -> None:
    glass = np.full((500, 600, 3), (240, 225, 210), np.uint8)
    found = slide_of(tmp_path / "a.tif", glass)
    assert len(found.sample_fields()) == 9
    quality = median_quality(found.sample_fields(), 1.0, RBC_PX)
    assert (quality.focus, quality.stain_balance, quality.stained_percent) == (None, None, 0.0)
    assert quality.exposure == 225.0


def test_how_it_is_stored_does_not_matter(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    first = slide_of(tmp_path / "a.tif", pixels)
    path = tmp_path / "b.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=9, compression="lzw")
    slide = open_whole_slide(ImageRef(path, "b", "s"), max_pixels=60_000)
    assert slide is not None
    np.testing.assert_array_equal(
        first.balance(red_cell_hue=False).gains, slide.balance(red_cell_hue=False).gains
    )
    for one, other in zip(first.sample_fields(), slide.sample_fields(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_narrow_slide_has_spots_and_fields_too(tmp_path: Path) -> None:
    ribbon = render_field(replace(FieldSpec(2000, 40, 1, RBC_PX, 0.3))).pixels
    found = slide_of(tmp_path / "a.tif", ribbon)
    assert all(field.shape == (40, 244, 3) for field in found.sample_fields())


def test_the_sample_is_read_once(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    slide = slide_of(tmp_path / "a.tif", pixels)
    fields, gains = slide.sample_fields(), slide.balance(red_cell_hue=False).gains
    (tmp_path / "a.tif").unlink()
    assert slide.sample_fields() is fields
    np.testing.assert_array_equal(slide.balance(red_cell_hue=False).gains, gains)
