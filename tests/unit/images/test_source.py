"""One image, held whole or read by windows: the same answers to the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellcount.core.records import ImageRef, Picture
from cellcount.errors import ImageError, UsageError
from cellcount.images.source import Field, Source, open_source
from cellcount.images.tiff_windows import Rect
from cellcount.images.white_balance import white_balance_gains
from cellcount.images.whole_slide import WholeSlide
from cellcount.rendering.field import FieldSpec, render_field

WIDTH, HEIGHT = 700, 520
UM_PER_PX = 0.25
WINDOW = 200_000  # pixels: less than the image has


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return render_field(FieldSpec(WIDTH, HEIGHT, 4, 24, 0.3)).pixels


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, pixels: NDArray[np.uint8]) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.tif"
    scale = {"PhysicalSizeX": UM_PER_PX, "PhysicalSizeY": UM_PER_PX}
    options: dict[str, Any] = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"}
    tifffile.imwrite(path, pixels, ome=True, metadata=scale, **options)
    return path


@pytest.fixture
def field(path: Path) -> Source:
    return open_source(ImageRef(path, "a", "s"), max_pixels=WIDTH * HEIGHT)


@pytest.fixture
def slide(path: Path) -> Source:
    return open_source(ImageRef(path, "a", "s"), max_pixels=WINDOW)


def test_what_fits_is_held_and_the_rest_is_read(field: Source, slide: Source) -> None:
    assert isinstance(field, Field)
    assert isinstance(slide, WholeSlide)
    assert field.picture is not None
    assert slide.picture is None
    assert field.size_px == slide.size_px == (WIDTH, HEIGHT)
    assert field.um_per_px == slide.um_per_px == UM_PER_PX
    assert field.window_px == WIDTH * HEIGHT
    assert slide.window_px == WINDOW


@pytest.mark.parametrize(
    "rect",
    [
        Rect(0, 0, 60, 60),
        Rect(WIDTH - 31, HEIGHT - 21, 31, 21),
        Rect(100, 120, 150, 90),
        Rect(0, 250, WIDTH, 3),
    ],
)
def test_a_rectangle_has_the_same_pixels(
    field: Source, slide: Source, pixels: NDArray[np.uint8], rect: Rect
) -> None:
    expected = pixels[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
    np.testing.assert_array_equal(field.read(rect), expected)
    np.testing.assert_array_equal(slide.read(rect), expected)


def boxes() -> NDArray[np.float32]:
    """Twenty boxes all over the image, with the corners."""
    rng = np.random.default_rng(5)
    centres = rng.uniform((0, 0), (WIDTH, HEIGHT), (20, 2))
    centres[:2] = (3, 2), (WIDTH - 2, HEIGHT - 3)
    return np.concatenate([centres - 9.3, centres + 9.3], axis=1).astype(np.float32)


def test_every_box_is_shown_once_with_what_lies_around(
    field: Source, slide: Source, pixels: NDArray[np.uint8]
) -> None:
    reach = 40
    counts = []
    for source in (field, slide):
        seen, parts = list[int](), 0
        for part in source.around(boxes(), reach):
            parts += 1
            for which, box in zip(part.which.tolist(), part.boxes_xyxy, strict=True):
                seen.append(which)
                x, y = (int((a + b) / 2) for a, b in zip(box[:2], box[2:], strict=True))
                own = boxes()[which]
                left, top = (round(float(a - b)) for a, b in zip(own[:2], box[:2], strict=True))
                around = part.pixels[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
                x, y = x + left, y + top
                expected = pixels[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
                np.testing.assert_array_equal(around, expected)
        assert sorted(seen) == list(range(20))
        counts.append(parts)
    assert counts[0] == 1 < counts[1]


def test_around_no_box_lies_nothing(field: Source, slide: Source) -> None:
    nothing = np.zeros((0, 4), np.float32)
    assert list(field.around(nothing, 40)) == list(slide.around(nothing, 40)) == []


def test_a_slide_is_not_read_around_boxes_larger_than_its_windows(slide: Source) -> None:
    with pytest.raises(UsageError, match="has no core of 1 px left"):
        list(slide.around(boxes(), 300))


def test_a_field_is_its_own_sample_and_a_slide_reads_some(field: Source, slide: Source) -> None:
    (whole,) = field.sample_fields()
    assert field.picture is not None
    assert whole is field.picture.pixels
    parts = slide.sample_fields()
    assert 1 < len(parts) <= 9
    shape = parts[0].shape
    for part in parts:  # each lies in the picture, at one place at least
        assert part.shape == shape
        rows = np.lib.stride_tricks.sliding_window_view(whole[..., 0], shape[1], axis=1)
        starts = np.argwhere((rows == part[0, :, 0]).all(axis=2))
        assert any(
            np.array_equal(whole[y : y + shape[0], x : x + shape[1]], part) for y, x in starts
        )


def test_gains_are_those_of_the_image_as_a_whole(
    field: Source, slide: Source, pixels: NDArray[np.uint8]
) -> None:
    np.testing.assert_array_equal(
        field.balance(red_cell_hue=False).gains, white_balance_gains(pixels)
    )
    np.testing.assert_allclose(
        slide.balance(red_cell_hue=False).gains, field.balance(red_cell_hue=False).gains, rtol=0.02
    )


def test_what_cannot_be_read_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match="empty file"):
        open_source(ImageRef(tmp_path / "a.png", "a", "s"), max_pixels=WINDOW)


def test_a_field_may_be_made_of_pixels() -> None:
    made = Field(Picture(np.zeros((30, 40, 3), np.uint8)))
    assert (made.size_px, made.um_per_px) == ((40, 30), None)
