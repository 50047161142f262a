"""The rule by which samples become RGB uint8, against hand-computed values and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from cellcount.images import pixel_formats


@pytest.mark.parametrize(
    ("value", "bits", "expected"),
    [
        (0, 1, 0),
        (1, 1, 255),
        (2, 2, 170),
        (5, 4, 85),
        (15, 4, 255),
        (21, 5, 173),  # 21 * 255 / 31 = 172.7
        (200, 8, 200),
        (1023, 10, 255),
        (512, 10, 128),
        (4095, 12, 255),
        (2048, 12, 128),
        (65535, 12, 255),  # more than 12 bits can hold counts as white
        (65535, 16, 255),
        (0x8000, 16, 128),
        (0x12FF, 16, 0x12),
    ],
)
def test_samples_keep_their_eight_most_significant_bits(
    value: int, bits: int, expected: int
) -> None:
    dtype = np.uint8 if bits <= 8 else np.uint16
    assert pixel_formats.eight_bits(np.array([value], dtype), bits).tolist() == [expected]


def test_booleans_are_black_and_white() -> None:
    assert pixel_formats.eight_bits(np.array([False, True]), 1).tolist() == [0, 255]


def test_a_dark_16_bit_image_is_not_stretched() -> None:
    dark = np.full((2, 2), 900, np.uint16)
    assert np.unique(pixel_formats.eight_bits(dark, 16)).tolist() == [3]


def test_alpha_is_laid_over_white_as_pillow_does() -> None:
    rng = np.random.default_rng(1)
    rgba = rng.integers(0, 256, (64, 64, 4), np.uint8)
    white = Image.new("RGBA", (64, 64), "white")
    expected = np.asarray(Image.alpha_composite(white, Image.fromarray(rgba)))[:, :, :3]
    actual = pixel_formats.over_white(rgba[:, :, :3], rgba[:, :, 3])
    assert np.abs(actual.astype(int) - expected).max() <= 1


def test_premultiplied_alpha_adds_the_white_that_shines_through() -> None:
    rgb = np.array([[[10, 20, 30], [255, 255, 255]]], np.uint8)
    alpha = np.array([[100, 255]], np.uint8)
    actual = pixel_formats.over_white(rgb, alpha, premultiplied=True)
    assert actual.tolist() == [[[165, 175, 185], [255, 255, 255]]]


def test_cmyk_is_converted_as_pillow_does() -> None:
    cmyk = np.random.default_rng(2).integers(0, 256, (64, 64, 4), np.uint8)
    image = Image.frombytes("CMYK", (64, 64), cmyk.tobytes())
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixel_formats.cmyk_to_rgb(cmyk) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(orientation: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 5, 3), np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(pixel_formats.oriented(pixels, orientation), expected)
    assert pixel_formats.is_turned(orientation) == (expected.shape != pixels.shape)


def test_an_unknown_orientation_changes_nothing() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    assert pixel_formats.oriented(pixels, 99).shape == (2, 3, 3)


def test_palette_of_16_bit_and_of_8_bit_values() -> None:
    indices = np.array([[0, 1, 9]], np.uint8)
    wide = np.array([[0, 0xFF00], [0, 0x8000], [0, 0x0100]], np.uint16)
    expected = [[[0, 0, 0], [255, 128, 1], [255, 128, 1]]]  # 9 lies outside: the last colour
    assert pixel_formats.palette_to_rgb(indices, wide).tolist() == expected
    assert pixel_formats.palette_to_rgb(indices, (wide >> 8).astype(np.uint16)).tolist() == expected
