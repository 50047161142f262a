"""Views of a picture: each is made once, and what is found with them is found without."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull

from cellcount.datasets.near_duplicates import BITS, grey_hash, perceptual_hash
from cellcount.images.lit_field import _hull, find_lit_field
from cellcount.images.overlays import find_overlay
from cellcount.images.quality import measure_quality
from cellcount.images.thumbnails import Thumbnails
from cellcount.images.white_balance import percentiles
from cellcount.rendering.field import FieldSpec, render_field


@pytest.fixture(scope="module")
def disc() -> Image.Image:
    """A field in a black surround with a scale bar."""
    field = Image.fromarray(render_field(FieldSpec(320, 240, 7, 22, 0.25)).pixels)
    lit = Image.new("L", field.size)
    ImageDraw.Draw(lit).ellipse([45, 5, 275, 235], fill=255)
    around = Image.composite(field, Image.new("RGB", field.size), lit)
    ImageDraw.Draw(around).rectangle([130, 110, 200, 114], fill=(255, 0, 0))
    return around


def test_a_view_is_made_once_and_is_as_long_as_asked(disc: Image.Image) -> None:
    views = Thumbnails(np.asarray(disc))
    assert views.grey(160).shape == (120, 160)
    assert views.grey(160) is views.grey(150)  # the same whole divisor
    assert views.colour(80).shape == (60, 80, 3)
    assert views.grey(5000).shape == (240, 320)
    np.testing.assert_array_equal(views.grey(5000), np.asarray(disc.convert("L")))


def test_views_change_nothing_that_is_found(disc: Image.Image) -> None:
    pixels = np.asarray(disc)
    views = Thumbnails(pixels)
    alone, shared = find_lit_field(pixels), find_lit_field(pixels, views)
    assert alone is not None
    assert shared is not None
    assert np.array_equal(alone.outside, shared.outside)
    assert np.array_equal(alone.glass, shared.glass)
    ink, shared_ink = find_overlay(pixels), find_overlay(pixels, views)
    assert ink is not None
    assert shared_ink is not None
    assert (ink.has_bar, ink.has_lines) == (shared_ink.has_bar, shared_ink.has_lines)
    assert ink.ink is not None
    assert shared_ink.ink is not None
    assert np.array_equal(ink.ink, shared_ink.ink)
    assert measure_quality(pixels, 0.5, 24, views) == measure_quality(pixels, 0.5, 24)


def test_a_grey_view_tells_a_picture_as_its_colours_do(disc: Image.Image) -> None:
    pixels = np.asarray(disc)
    first = perceptual_hash(pixels)[0].view(np.uint8)
    second = grey_hash(Thumbnails(pixels).grey(320)).view(np.uint8)
    assert np.unpackbits(first ^ second).sum() <= 3
    turned = grey_hash(Thumbnails(pixels[::-1].copy()).grey(320)).view(np.uint8)
    assert np.unpackbits(first ^ turned).sum() > BITS / 4


@pytest.mark.parametrize("seed", range(6))
def test_the_convex_hull_is_that_of_its_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 60), np.bool_)
    count = int(rng.integers(3, 40))
    mask[rng.integers(3, 37, count), rng.integers(2, 58, count)] = True
    y, x = np.indices(mask.shape)
    inside = np.ones(mask.shape, np.bool_)
    for a, b, c in ConvexHull(np.argwhere(mask)[:, ::-1]).equations:
        inside &= a * x + b * y + c <= 1e-6
    np.testing.assert_array_equal(_hull(mask), inside)


@pytest.mark.parametrize("count", [1, 2, 19, 20, 777])
@pytest.mark.parametrize("percent", [0, 50, 95, 100])
def test_percentiles_by_counting_are_numpys_to_the_last_bit(count: int, percent: float) -> None:
    colours = np.random.default_rng(count).integers(0, 256, (count, 3), np.uint8)
    expected = np.percentile(colours, percent, axis=0)
    assert percentiles(colours, percent).tolist() == expected.tolist()
