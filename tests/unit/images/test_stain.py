"""Stain normalization: known dyes are found, other stains are undone, glass and noise are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount.errors import UsageError
from cellcount.evaluation.perturbations import SHIFTS
from cellcount.images.stain import (
    LARGEST_GAIN,
    Dyes,
    Pixels,
    Values,
    density_change,
    measure_dyes,
    with_dyes,
)
from cellcount.images.stain_reference import load_stain_reference, stain_references
from cellcount.rendering.field import FieldSpec, render_field

GLASS = np.array([232.0, 228.0, 236.0])
NUCLEAR = np.array([0.55, 0.80, 0.24])
PINK = np.array([0.15, 0.55, 0.82])


def unit(*vectors: Values) -> Values:
    stacked = np.stack(vectors)
    return np.asarray(stacked / np.linalg.norm(stacked, axis=1, keepdims=True))


def painted(vectors: Values, strengths: tuple[float, float], seed: int = 1) -> Pixels:
    """A field whose densities are exactly amounts of two dyes: glass, red cells, some nuclei."""
    rng = np.random.default_rng(seed)
    amounts = np.zeros((240, 320, 2))
    amounts[40:200, 20:160, 1] = strengths[1] * rng.uniform(0.4, 1, (160, 140))
    amounts[60:150, 200:280, 0] = strengths[0] * rng.uniform(0.4, 1, (90, 80))
    light = (GLASS + 1) * 10 ** -(amounts @ vectors) - 1
    return np.clip(light + rng.normal(0, 0.5, light.shape) + 0.5, 0, 255).astype(np.uint8)


def test_the_dyes_that_were_painted_are_found() -> None:
    vectors = unit(NUCLEAR, PINK)
    found = measure_dyes(painted(vectors, (0.9, 0.5)))
    assert found is not None
    angles = np.degrees(np.arccos(np.clip((found.vectors * vectors).sum(axis=1), -1, 1)))
    assert angles.max() < 3
    assert found.strengths == pytest.approx([0.9, 0.5], rel=0.06)


def test_another_stain_becomes_the_reference() -> None:
    """Ground truth: the same cells painted with the dyes of the reference."""
    wanted = Dyes(unit(NUCLEAR, PINK), np.array([0.9, 0.5]))
    truth = painted(wanted.vectors, (0.9, 0.5))
    other = painted(unit(np.array([0.7, 0.6, 0.35]), np.array([0.28, 0.6, 0.6])), (0.6, 0.75))
    done, changed = with_dyes(other, wanted)
    assert changed
    before, after = (np.abs(p.astype(float) - truth).mean() for p in (other, done))
    assert after < before / 3
    assert after < 4


def test_rendered_fields_come_nearer_to_each_other() -> None:
    field = render_field(FieldSpec(320, 240, 5, 40, 0.35, 4, 3, debris=0)).pixels
    dyes = measure_dyes(field)
    assert dyes is not None
    for name in ("pale stain", "strong stain", "hue +20"):
        shifted = SHIFTS[name](field)
        undone, changed = with_dyes(shifted, dyes)
        assert changed, name
        before, after = (np.abs(p.astype(float) - field) for p in (shifted, undone))
        stained = field.min(axis=2) < 150
        assert after[stained].mean() < 0.7 * before[stained].mean(), name


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((64, 64, 3), 231, np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.full((1, 1, 3), 90, np.uint8),
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8),
        np.random.default_rng(0).normal(225, 4, (128, 128, 3)).clip(0, 255).astype(np.uint8),
        np.linspace(60, 230, 256)[:, None, None].repeat(256, 1).repeat(3, 2).astype(np.uint8),
    ],
    ids=["glass", "black", "a pixel", "noise", "noisy glass", "a shadow"],
)
def test_what_shows_no_stain_stays_as_it_is(pixels: Pixels) -> None:
    reference = load_stain_reference("bccd")
    assert reference is not None
    assert reference.apply(pixels) is pixels


def test_one_colour_is_no_pair_of_dyes() -> None:
    pixels = painted(unit(PINK, PINK + 0.01), (0.5, 0.5))
    assert measure_dyes(pixels) is None


def test_glass_and_its_noise_are_left_alone() -> None:
    pixels = painted(unit(NUCLEAR, PINK), (0.3, 0.2))
    glass = np.zeros(pixels.shape[:2], bool)
    glass[:35], glass[210:] = True, True
    strong = Dyes(unit(NUCLEAR, PINK), np.array([1.5, 1.5]))
    done, changed = with_dyes(pixels, strong)
    assert changed
    assert (done[glass] == pixels[glass]).all()


def test_the_change_is_bounded() -> None:
    rng = np.random.default_rng(3)

    def drawn() -> Dyes:
        low, high = rng.uniform(0, 0.5, (2, 2))
        vectors = unit(np.array([1.0, *low]), np.array([*high, 1.0]))
        return Dyes(vectors, rng.uniform(0.01, 3, 2))

    for _ in range(200):
        one, other = drawn(), drawn()
        stretched = np.linalg.svd(density_change(one, other), compute_uv=False)
        assert stretched.max() <= LARGEST_GAIN + 1e-9
        assert stretched.min() >= 1 / LARGEST_GAIN - 1e-9


def test_its_own_dyes_change_nothing() -> None:
    pixels = painted(unit(NUCLEAR, PINK), (0.9, 0.5))
    dyes = measure_dyes(pixels)
    assert dyes is not None
    done, _ = with_dyes(pixels, dyes)
    assert np.abs(done.astype(int) - pixels).max() <= 1


def test_large_fields_are_done_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = painted(unit(NUCLEAR, PINK), (0.9, 0.5))
    reference = load_stain_reference("pbc")
    assert reference is not None
    whole = reference.apply(pixels)
    monkeypatch.setattr("cellcount.images.stain._STRIP_PIXELS", 1000)
    assert (reference.apply(pixels) == whole).all()


def test_references_by_name_file_and_picture(tmp_path: Path) -> None:
    assert load_stain_reference("none") is None
    assert stain_references() == ("bccd", "pbc")
    for name in stain_references():
        packaged = load_stain_reference(name)
        assert packaged is not None
        assert packaged.source
    picture = tmp_path / "mine.png"
    Image.fromarray(painted(unit(NUCLEAR, PINK), (0.9, 0.5))).save(picture)
    mine = load_stain_reference(str(picture))
    assert mine is not None
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(mine.facts()), "utf-8")  # as run.json tells it
    again = load_stain_reference(str(file))
    assert again is not None
    assert again.dyes.vectors == pytest.approx(mine.dyes.vectors, abs=1e-3)
    assert again.dyes.strengths == pytest.approx(mine.dyes.strengths, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file, and no packaged reference"),
        ("[]", "is no reference of stain"),
        ('{"vectors": [[1, 0, 0], [1, 0.01, 0]], "strengths": [1, 1]}', "degrees apart"),
        ('{"vectors": [[1, 0, 0], [0, 1, 0]], "strengths": [1, 0]}', "above 0"),
        ('{"vectors": [[1, 0], [0, 1]], "strengths": [1, 1]}', "expected vectors"),
    ],
)
def test_what_is_no_reference_is_said(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(UsageError, match=message):
        load_stain_reference(str(path))


def test_an_empty_picture_is_no_reference(tmp_path: Path) -> None:
    path = tmp_path / "glass.png"
    Image.fromarray(np.full((50, 50, 3), 230, np.uint8)).save(path)
    with pytest.raises(UsageError, match="too little stain"):
        load_stain_reference(str(path))
