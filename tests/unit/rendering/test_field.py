"""The renderer: reproducible, the truth fits the pixels, windows agree, cells stay apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellcount.rendering.field import (
    LABELS,
    SAMPLE_SEEDS,
    FieldSpec,
    Illumination,
    RedCells,
    Stain,
    random_spec,
    render_field,
    render_window,
    window_truth,
)
from cellcount.rendering.layout import WHITE_KINDS, Plane, RenderedCell
from cellcount.rendering.paint import Brush, Canvas

BUSY = FieldSpec(
    width_px=500,
    height_px=400,
    seed=5,
    rbc_diameter_px=44,
    density=0.5,
    n_wbc=5,
    n_platelets=12,
    illumination=Illumination(vignette=(0.1, 0.2, 0.1), unevenness=0.02, gamma=1.1),
    debris=4,
)


def _mask(cell: RenderedCell, x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
    """The cell's outline filled by Pillow, bool (H, W): an independent rasterizer."""
    image = Image.new("1", (width, height))
    # Pillow counts from pixel centres, we from pixel corners.
    corners = [(px - x - 0.5, py - y - 0.5) for px, py in cell.polygon().tolist()]
    ImageDraw.Draw(image).polygon(corners, fill=1)
    return np.asarray(image)


def test_same_spec_gives_the_same_bytes_and_another_seed_others() -> None:
    one, two = render_field(BUSY), render_field(BUSY)
    assert one.pixels.tobytes() == two.pixels.tobytes()
    assert one.boxes_xyxy.tobytes() == two.boxes_xyxy.tobytes()
    assert (one.labels, one.kinds) == (two.labels, two.kinds)
    other = render_field(replace(BUSY, seed=6))
    assert not np.array_equal(one.pixels, other.pixels)


def test_shapes_dtypes_and_boxes_inside() -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        spec = random_spec(rng, 300, 220)
        field = render_field(spec)
        assert field.pixels.shape == (220, 300, 3)
        assert field.pixels.dtype == np.uint8
        boxes = field.boxes_xyxy
        assert boxes.dtype == np.float32
        assert boxes.shape == (len(field), 4)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (300, 220)).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 1).all()
        assert set(field.labels) <= set(LABELS)
        assert all(
            (k in WHITE_KINDS) == (n == "wbc")
            for k, n in zip(field.kinds, field.labels, strict=True)
        )


def test_an_empty_smear_is_plain_background_and_has_no_boxes() -> None:
    spec = FieldSpec(64, 48, 3, density=0, n_wbc=0, n_platelets=0, debris=0, noise=0)
    field = render_field(spec)
    assert field.boxes_xyxy.shape == (0, 4)
    assert field.labels == ()
    expected = np.round(spec.stain.background)
    assert np.abs(field.pixels.astype(float) - expected).max() <= 1


def test_windows_of_one_slide_agree_in_pixels_and_truth() -> None:
    slide = replace(BUSY, width_px=3000, height_px=2000, n_wbc=100, n_platelets=200)
    whole = render_window(slide, 1200, 700, 420, 360)
    part = render_window(slide, 1333, 811, 150, 170)
    np.testing.assert_array_equal(part.pixels, whole.pixels[111:281, 133:283])
    inner_whole = _wholly_inside(whole.boxes_xyxy - [133, 111, 133, 111], 150, 170)
    inner_part = _wholly_inside(part.boxes_xyxy, 150, 170)
    assert len(inner_part) > 3
    np.testing.assert_allclose(inner_part, inner_whole, atol=1e-3)


def _wholly_inside(boxes_xyxy: NDArray[np.floating], width: int, height: int) -> list[list[float]]:
    inside = (boxes_xyxy[:, :2] > 0).all(1) & (boxes_xyxy[:, 2:] < (width, height)).all(1)
    return sorted(np.asarray(boxes_xyxy[inside], float).tolist())


def test_windows_left_of_and_above_the_origin_work() -> None:
    field = render_window(BUSY, -310, -290, 200, 200)
    again = render_window(BUSY, -300, -280, 100, 100)
    np.testing.assert_array_equal(again.pixels, field.pixels[10:110, 10:110])
    assert len(field) > 3


@pytest.mark.parametrize("label", LABELS)
def test_truth_boxes_are_the_extent_of_what_is_drawn(label: str) -> None:
    look = RedCells(halo=0, pallor=0.2)
    spec = replace(BUSY, rbc_diameter_px=70, n_wbc=20, n_platelets=40, red_cells=look)
    cells = [c for c in Plane(spec).cells_in(0, 0, 900, 900) if c.label == label][:12]
    assert len(cells) >= 8
    brush = Brush(spec)
    for cell in cells:
        half = int(cell.radius * 2)
        canvas = Canvas.blank(cell.x - half, cell.y - half, 2 * half, 2 * half)
        brush.draw(canvas, cell)
        drawn = np.maximum(canvas.red_max, canvas.cover)
        ys, xs = np.nonzero(drawn > 0.5 * np.median(drawn[drawn > 0.1]))
        seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        boxes, labels, _ = window_truth([cell], canvas.x, canvas.y, 2 * half, 2 * half)
        assert labels == (label,)
        # Soft outlines of white cells may be a few pixels wide.
        np.testing.assert_allclose(boxes[0], seen, atol=1.6 + 0.03 * cell.radius)


def test_truth_of_cut_cells_is_the_extent_of_the_visible_part() -> None:
    spec = replace(BUSY, rbc_diameter_px=60, density=0.6)
    window = (37, 21, 160, 140)
    cells = [c for c in Plane(spec).cells_in(*window) if c.label]
    boxes, labels, _ = window_truth(cells, *window)
    expected, cut = [], 0
    for cell in cells:
        half = int(2 * cell.radius)
        area = _mask(cell, cell.x - half, cell.y - half, 2 * half, 2 * half).sum()
        ys, xs = np.nonzero(_mask(cell, *window))
        if len(xs) >= 0.1 * area:
            expected.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            cut += len(xs) < 0.95 * area
    assert cut >= 4
    assert len(labels) == len(expected)
    np.testing.assert_allclose(boxes, expected, atol=1.5)


@pytest.mark.parametrize(("density", "overlap"), [(0.2, 0.1), (0.5, 0.2), (0.8, 0.35)])
def test_red_cells_cover_the_share_asked_for_and_never_hide_each_other(
    density: float, overlap: float
) -> None:
    size = 1400
    look = RedCells(overlap=overlap, stickiness=0.6)
    spec = FieldSpec(size, size, 11, 50, density, 0, 0, red_cells=look)
    cells = [c for c in Plane(spec).cells_in(0, 0, size, size) if c.label == "rbc"]
    inside = [c for c in cells if 0 <= c.x < size and 0 <= c.y < size]
    covered = sum(np.pi * c.radius**2 for c in inside) / size**2
    assert covered == pytest.approx(density, rel=0.2)

    masks = {id(c): _mask(c, 0, 0, size, size) for c in inside[:250]}
    worst = 0.0
    for i, one in enumerate(inside[:250]):
        for two in inside[i + 1 : 250]:
            if np.hypot(one.x - two.x, one.y - two.y) < one.radius + two.radius:
                shared = (masks[id(one)] & masks[id(two)]).sum()
                smaller = min(masks[id(one)].sum(), masks[id(two)].sum())
                worst = max(worst, float(shared / max(smaller, 1)))
    assert 0 < worst < (0.15 if overlap == 0.1 else 0.45)


def test_counts_follow_the_spec() -> None:
    expected = {"rbc": 0.25 * 1500**2 / (np.pi / 4 * 40**2), "wbc": 30.0, "platelet": 90.0}
    spec = FieldSpec(1500, 1500, 21, 40, 0.25, expected["wbc"], expected["platelet"])
    cells = Plane(spec).cells_in(0, 0, 1500, 1500)
    found = Counter(c.label for c in cells if 0 <= c.x < 1500 and 0 <= c.y < 1500)
    for label, number in expected.items():
        # Poisson numbers: four standard deviations, and a little lost where room is short.
        assert abs(found[label] - number) < 4 * number**0.5 + 0.05 * number, label


def test_sizes_are_those_of_blood() -> None:
    spec = FieldSpec(2500, 2500, 3, 50, 0.3, 250, 200, red_cells=RedCells(size_cv=0.1))
    cells = Plane(spec).cells_in(0, 0, 2500, 2500)
    diameters = {n: np.array([2 * c.radius / 50 for c in cells if c.label == n]) for n in LABELS}
    assert diameters["rbc"].mean() == pytest.approx(1, abs=0.02)
    assert diameters["rbc"].std() == pytest.approx(0.1, abs=0.02)
    assert 1.1 <= diameters["wbc"].min() < diameters["wbc"].max() <= 2.5
    assert 0.2 <= diameters["platelet"].min() < diameters["platelet"].max() <= 0.5
    assert {c.kind for c in cells if c.label == "wbc"} == set(WHITE_KINDS)


def test_overlap_is_darker_and_stained_parts_are_darker_than_the_background() -> None:
    spec = replace(BUSY, noise=0, illumination=Illumination(), stain=Stain())
    field = render_field(spec)
    light = field.pixels.astype(float).mean(2)
    background = np.mean(spec.stain.background)
    for box, label in zip(field.boxes_xyxy.astype(int), field.labels, strict=True):
        inside = light[box[1] : box[3], box[0] : box[2]].mean()
        assert inside < background * (0.95 if label == "rbc" else 0.9)


def test_random_specs_differ_and_stay_clear_of_the_sample_seeds() -> None:
    rng = np.random.default_rng(0)
    specs = [random_spec(rng, 480, 480) for _ in range(300)]
    assert len({s.seed for s in specs}) == 300
    assert not any(s.seed in SAMPLE_SEEDS for s in specs)
    diameters = [s.rbc_diameter_px for s in specs]
    assert min(diameters) < 48
    assert max(diameters) > 115
    assert {s.n_wbc > 0 for s in specs} == {True, False}
    narrow = random_spec(rng, 100, 100, rbc_diameter_px=(60, 61), density=(0.4, 0.41))
    assert 60 <= narrow.rbc_diameter_px <= 61
    assert 0.4 <= narrow.density <= 0.41


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width_px": 0}, "at least 1x1"),
        ({"rbc_diameter_px": 2}, "expected 8 to 400"),
        ({"density": 1.5}, "share from 0 to 0.95"),
        ({"seed": -1}, "expected 0 or more"),
    ],
)
def test_wrong_specs_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BUSY, **change)  # type: ignore[arg-type]
