"""Marks drawn on a picture: ink that cells were found on, and lines that cross it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellcount.images.overlays import find_overlay
from cellcount.rendering.field import FieldSpec, render_field

Draw = ImageDraw.ImageDraw
WIDTH, HEIGHT = 640, 480


@pytest.fixture(scope="module")
def smear() -> Image.Image:
    return Image.fromarray(render_field(FieldSpec(WIDTH, HEIGHT, 7, 44, 0.25)).pixels)


def marked(smear: Image.Image, mark: Callable[[Draw], None]) -> NDArray[np.uint8]:
    picture = smear.copy()
    mark(ImageDraw.Draw(picture))
    return np.asarray(picture)


def graticule(draw: Draw) -> None:
    for k in range(0, WIDTH, 64):
        draw.line([k, 0, k, HEIGHT], fill=(40, 40, 40))
        draw.line([0, k, WIDTH, k], fill=(40, 40, 40))


def cross(draw: Draw) -> None:
    draw.line([320, 0, 320, HEIGHT], fill=(70, 60, 60))
    draw.line([0, 240, WIDTH, 240], fill=(70, 60, 60))


def turned_pointer(draw: Draw) -> None:
    draw.line([0, 90, WIDTH, 350], fill=(50, 50, 50), width=2)


def ruler(draw: Draw) -> None:
    draw.line([60, 240, 580, 240], fill=(30, 30, 30), width=2)
    for k in range(53):
        draw.line([60 + 10 * k, 240, 60 + 10 * k, 230 - 9 * (k % 5 == 0)], fill=(30, 30, 30))


@pytest.mark.parametrize("mark", [graticule, cross, turned_pointer, ruler])
def test_lines_that_cross_the_picture_are_told(
    smear: Image.Image, mark: Callable[[Draw], None]
) -> None:
    for turn in (None, Image.Transpose.ROTATE_90):
        picture = Image.fromarray(marked(smear, mark))
        overlay = find_overlay(np.asarray(picture if turn is None else picture.transpose(turn)))
        assert overlay is not None
        assert overlay.has_lines


@pytest.mark.parametrize("ink", ["black", "white", "red", "yellow", "lime", "blue"])
def test_a_scale_bar_is_told_in_any_ink(smear: Image.Image, ink: str, tmp_path: Path) -> None:
    dimmed = smear.point(lambda value: round(0.9 * value))
    pixels = marked(dimmed, lambda draw: draw.rectangle([480, 440, 620, 447], fill=ink))
    for suffix in ("png", "jpg"):
        Image.fromarray(pixels).save(tmp_path / f"f.{suffix}", quality=92, subsampling=0)
        overlay = find_overlay(np.asarray(Image.open(tmp_path / f"f.{suffix}")))
        assert overlay is not None
        assert (overlay.has_bar, overlay.has_lines) == (True, False)


def test_what_is_found_on_a_caption_is_under_ink(smear: Image.Image) -> None:
    pixels = marked(smear, lambda draw: draw.text((300, 20), "m", fill="black", font_size=48))
    overlay = find_overlay(pixels)
    assert overlay is not None
    letter = np.argwhere((pixels == 0).all(axis=2))
    (top, left), (bottom, right) = letter.min(axis=0), letter.max(axis=0) + 1
    boxes = np.array([[left, top, right, bottom], [100, 100, 150, 150]], np.float32)
    assert overlay.under(boxes).tolist() == [True, False]
    crossed = np.array([[left - 30, top - 30, right + 30, bottom + 30]], np.float32)
    assert not overlay.under(crossed).any()  # a cell that ink lies on is counted


def test_a_smear_without_marks_has_none(smear: Image.Image) -> None:
    pixels = np.asarray(smear)
    for light in (1.0, 0.6, 0.3, 0.06, 1.6):
        assert find_overlay(np.clip(pixels * light, 0, 255).astype(np.uint8)) is None
    assert find_overlay(np.full((480, 640, 3), 235, np.uint8)) is None
    assert find_overlay(pixels[:7, :9]) is None


@pytest.mark.parametrize(("name", "step"), [("bccd", 20), ("draaslan", 10), ("wbc-fields", 6)])
def test_real_smears_have_no_marks(shared_data: Path, name: str, step: int) -> None:
    paths = sorted(p for p in (shared_data / name).rglob("*") if p.suffix in (".jpg", ".png"))
    assert len(paths[::step]) > 5
    for path in paths[::step]:
        overlay = find_overlay(np.asarray(Image.open(path).convert("RGB")))
        assert overlay is None, path
