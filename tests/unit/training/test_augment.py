"""Photometric augmentation: shapes stay, strength is what was asked for, zero is nothing."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torchvision.transforms import v2

from cellcount.training.augment import (
    ColourCast,
    ColourFringes,
    ColourSettings,
    JpegCompression,
    SensorNoise,
    Sharpening,
    SmearLook,
    camera_transform,
    chance,
    lens_transform,
    uniform,
)

NOTHING = ColourSettings(**dict.fromkeys((f.name for f in fields(ColourSettings)), 0.0))


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    coarse = torch.randint(60, 230, (1, 3, 6, 8)).float()
    return torch.nn.functional.interpolate(coarse, scale_factor=8.0)[0].to(torch.uint8)


@pytest.mark.parametrize("make", [camera_transform, lens_transform])
@pytest.mark.parametrize("settings", [ColourSettings(), NOTHING, None], ids=["full", "0", "none"])
def test_shape_and_type_stay(
    make: type, settings: ColourSettings | None, image: torch.Tensor
) -> None:
    transform = make(settings)
    for seed in range(12):
        torch.manual_seed(seed)
        changed = transform(image)
        assert (changed.shape, changed.dtype) == (image.shape, torch.uint8)


@pytest.mark.parametrize("make", [camera_transform, lens_transform])
def test_none_is_the_very_image(make: type, image: torch.Tensor) -> None:
    assert torch.equal(make(None)(image), image)


@pytest.mark.parametrize("make", [camera_transform, lens_transform])
def test_zero_switches_everything_off_but_rounding(make: type, image: torch.Tensor) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        difference = (make(NOTHING)(image).int() - image.int()).abs()
        assert difference.max() <= 2


def test_the_seed_decides(image: torch.Tensor) -> None:
    transform = v2.Compose([camera_transform(ColourSettings()), lens_transform(ColourSettings())])
    results = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        results.append(transform(image))
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


def test_a_cast_multiplies_each_channel(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    ratios = []
    for _ in range(60):
        changed = ColourCast(0.45)(image // 2)
        ratios.append(changed.float().mean((1, 2)) / (image // 2).float().mean((1, 2)))
    spread = torch.stack(ratios)
    assert spread.max() < 1.57 * 1.01
    assert 0.4 * 0.64 * 0.95 < spread.min() < 0.7
    assert (spread.max(1).values / spread.min(1).values).max() > 1.5, "channels differ"


def test_stain_and_light_change_the_look(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    means = torch.stack([SmearLook(ColourSettings())(image).float().mean() for _ in range(40)])
    assert means.std() > 10


def test_noise_is_small_and_has_no_bias(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    noisy = torch.stack([SensorNoise()(image).float() for _ in range(30)]) - image.float()
    assert 0.5 < noisy.std() < 9
    assert noisy.mean().abs() < 1


@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
def test_jpeg_is_that_of_torchvision(image: torch.Tensor) -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        expected = v2.JPEG((35, 95))(image)
        torch.manual_seed(seed)
        assert torch.equal(JpegCompression(35, 95)(image), expected)


@pytest.mark.parametrize("transform", [SensorNoise(), ColourCast(0.4), JpegCompression(35, 95)])
def test_things_that_are_no_image_pass(transform: v2.Transform) -> None:
    assert transform({"a": 1}) == {"a": 1}


def test_draws() -> None:
    torch.manual_seed(0)
    values = [uniform(2, 3) for _ in range(200)]
    assert 2 <= min(values) < 2.1
    assert 2.9 < max(values) < 3
    assert sum(chance(0.25) for _ in range(1000)) == pytest.approx(250, abs=60)
    assert not any(chance(0.0) for _ in range(50))


def test_grey_slides_lose_their_colour_and_strange_ones_get_another(image: torch.Tensor) -> None:
    coloured = image.clone()
    coloured[1] = coloured[1] // 2

    def spread(settings: ColourSettings) -> float:
        torch.manual_seed(3)
        looks = [SmearLook(settings)(coloured).float() for _ in range(20)]
        return sum(float((look[0] - look[1]).abs().mean()) for look in looks) / len(looks)

    usual = spread(NOTHING)
    assert spread(replace(NOTHING, grey=1.0)) < usual / 2
    torch.manual_seed(4)
    far = replace(NOTHING, stain=0.1, strange=1.0)
    near = replace(NOTHING, stain=0.1)
    moved = {
        name: sum(
            float((SmearLook(s)(coloured).float() - coloured.float()).abs().mean())
            for _ in range(30)
        )
        for name, s in (("far", far), ("near", near))
    }
    assert moved["far"] > 1.3 * moved["near"]


def test_strength_makes_pale_and_dark_slides(image: torch.Tensor) -> None:
    torch.manual_seed(5)
    look = SmearLook(replace(NOTHING, strength=0.4))
    means = torch.stack([look(image).float().mean() for _ in range(40)])
    assert means.min() < image.float().mean() - 15
    assert means.max() > image.float().mean() + 15


def test_sharpening_draws_edges_harder_and_leaves_flat_parts(image: torch.Tensor) -> None:
    torch.manual_seed(3)
    sharp = Sharpening(2.0)(image)
    edges = [(one.float().diff(dim=-1)).abs().max() for one in (image, sharp)]
    assert edges[1] > edges[0]
    flat = torch.full((3, 20, 20), 90, dtype=torch.uint8)
    assert torch.equal(Sharpening(2.0)(flat), flat)


def test_fringes_move_red_and_blue_against_each_other_and_keep_green(image: torch.Tensor) -> None:
    moved = set()
    for seed in range(20):
        torch.manual_seed(seed)
        fringed = ColourFringes()(image)
        assert torch.equal(fringed[1], image[1])
        (shift,) = [
            (y, x)
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
            if torch.equal(fringed[0], image[0].roll((y, x), (0, 1)))
        ]
        back = (-shift[0], -shift[1])
        assert torch.equal(fringed[2], image[2].roll(back, (0, 1)))
        moved.add(shift)
    assert len(moved) > 4


@pytest.mark.parametrize("part", ["sharpen", "fringe"])
def test_the_lens_does_what_was_asked_for_and_nothing_else(part: str, image: torch.Tensor) -> None:
    torch.manual_seed(1)
    assert not torch.equal(lens_transform(replace(NOTHING, **{part: 1.0}))(image), image)
