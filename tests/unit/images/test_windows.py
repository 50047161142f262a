"""Cutting cells out: the window against slicing and torch, the contour against a known disc."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cellcount.images.windows import Interpolation, contour_crop, window

WHITE = 235


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_discs(*discs: tuple[float, float, float], side: int = 250) -> NDArray[np.uint8]:
    """Purple discs (x, y, radius) on a light ground."""
    y, x = np.mgrid[:side, :side] + 0.5
    pixels = np.full((side, side, 3), 230, np.uint8)
    for cx, cy, radius in discs:
        pixels[np.hypot(x - cx, y - cy) < radius] = (110, 60, 150)
    return pixels


def test_a_window_of_whole_pixels_is_a_slice() -> None:
    pixels = picture(40, 50)
    assert np.array_equal(window(pixels, (21, 16), 12, (12, 12)), pixels[10:22, 15:27])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("out", [8, 18, 48, 96])
def test_resampling_agrees_with_torch_away_from_the_border(
    out: int, interpolation: Interpolation
) -> None:
    pixels = picture(96, 96) // 2 + 64  # bicubic overshoots, and PIL clips between its passes
    # A window of 48 px of which only the middle is compared: torch knows nothing beyond its edge.
    own = window(pixels, (48, 48), 48, (out, out), interpolation).astype(float)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(
        tensor, (2 * out, 2 * out), mode=interpolation, antialias=True, align_corners=False
    )
    middle = theirs[0].permute(1, 2, 0).numpy()[out // 2 : -out // 2, out // 2 : -out // 2]
    assert np.abs(own - middle.clip(0, 255)).max() <= 1.5  # PIL rounds twice


def test_half_a_pixel_aside_is_the_mean_of_neighbours() -> None:
    pixels = picture(20, 20)
    shifted = window(pixels, (10.5, 10), 8, (8, 8)).astype(float)
    a, b = pixels[6:14, 6:14].astype(float), pixels[6:14, 7:15].astype(float)
    assert np.abs(shifted - (a + b) / 2).max() <= 1


def test_what_lies_outside_is_white() -> None:
    pixels = np.full((10, 10, 3), 90, np.uint8)
    corner = window(pixels, (0, 0), 8, (8, 8))
    assert (corner[4:, 4:] == 90).all()
    assert (corner[:4] == WHITE).all()
    assert (corner[:, :4] == WHITE).all()
    assert (window(pixels, (-50, 200), 8, (4, 4)) == WHITE).all()


def test_height_and_width_may_differ() -> None:
    pixels = picture(40, 40)
    assert window(pixels, (20, 20), 16, (8, 24)).shape == (8, 24, 3)


def test_a_reduced_cell_does_not_alias() -> None:
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::2] = 200  # a nearest pixel would give 0 or 200
    small = window(stripes, (100, 100), 160, (20, 20))
    assert abs(small.astype(float) - 100).max() <= 2


def test_a_huge_window_costs_no_huge_memory_and_keeps_its_place() -> None:
    pixels = np.full((400, 800, 3), 30, np.uint8)
    seen = window(pixels, (400, 200), 16_000, (100, 100)).astype(float)  # 160 px a pixel
    dark = np.argwhere(seen[..., 0] < 200)
    assert np.allclose(dark.mean(0), 49.5, atol=0.6)
    # The area that is dark is that of the picture, 800 x 400 px.
    area = ((WHITE - seen[..., 0]) / (WHITE - 30)).sum() * 160**2
    assert area == pytest.approx(400 * 800, rel=0.1)


def test_the_contour_nearest_the_centre_is_cropped() -> None:
    pixels = with_discs((60, 60, 30), (150, 140, 36), (215, 215, 25))
    cropped = contour_crop(pixels)
    height, width = cropped.shape[:2]
    assert height == width
    assert 72 <= width <= 72 + 14  # its diameter, and the blur of the edge on both sides
    dark = np.argwhere(cropped[..., 1] < 120)
    assert np.allclose(dark.mean(0), (width - 1) / 2, atol=1)
    assert len(dark) == pytest.approx(np.pi * 36**2, rel=0.02)


def test_the_contour_grows_with_the_picture() -> None:
    cropped = contour_crop(with_discs((250, 250, 72), side=500))
    assert 144 <= cropped.shape[0] <= 144 + 28


def test_small_contours_are_no_cells() -> None:
    # A disc of 10 px has a contour of about 60 px, less than the 100 asked for.
    cropped = contour_crop(with_discs((125, 125, 6), (60, 60, 40)))
    assert 80 <= cropped.shape[0] <= 94
    assert contour_crop(with_discs((125, 125, 6))).shape == (250, 250, 3)


@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_without_contour_stays_whole(value: int) -> None:
    pixels = np.full((60, 80, 3), value, np.uint8)
    assert np.array_equal(contour_crop(pixels), pixels)


def test_a_contour_at_the_border_is_filled_up_with_white() -> None:
    pixels = with_discs((125, 0, 50))  # half of it is outside
    cropped = contour_crop(pixels)
    assert cropped.shape[0] == cropped.shape[1]
    assert (cropped[0] == WHITE).all()
