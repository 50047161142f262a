"""Photometric augmentation: changes of a smear by lamps, stains, lenses and cameras.

Every transform is a ``torchvision.transforms.v2`` transform over uint8 RGB tensors.

Shapes: images uint8 (3, H, W).
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # noqa: N812 -- torchvision's own idiom


@dataclass(frozen=True, slots=True)
class ColourSettings:
    """Strength of the photometric augmentation; 0 switches a part off.

    Attributes:
        cast: half range of the log gain per channel (0.45: 0.64–1.57x).
        stain: spread of the mixing between channels in optical density.
        strange: share of slides whose stain is mixed ``STRANGE`` times as much, or turned to any
            hue: red cells become green, violet or brown.
        strength: spread of the logarithm of all optical density: pale slides, and dark red cells.
        grey: share of slides that lose most of their colour, so that red cells are told from
            nuclei by texture and darkness alone.
        hue, saturation, contrast: half ranges as in ``ColorJitter``.
        glare: largest share of veiling glare, which lifts black and flattens contrast.
        gamma: half range of the log exponent.
        light: share of light lost across the field, different per channel.
        light_share: probability of that.
        tint: how much the channels differ in it; from 0.5 on the light may fall from the edge too.
        blur, jpeg, noise: probability of each.
        blur_px: largest standard deviation of the blur.
        sharpen: probability of outlines that the camera has drawn too hard, with haloes.
        fringe: probability of colour fringes: red and blue light in focus beside the green.
    """

    cast: float = 0.45
    stain: float = 0.10
    strange: float = 0.0
    strength: float = 0.0
    grey: float = 0.0
    hue: float = 0.07
    saturation: float = 0.5
    contrast: float = 0.3
    glare: float = 0.5
    gamma: float = 0.35
    light: float = 0.45
    light_share: float = 0.4
    tint: float = 0.4
    blur: float = 0.3
    jpeg: float = 0.3
    noise: float = 0.3
    blur_px: float = 2.6
    sharpen: float = 0.0
    fringe: float = 0.0


def hardened(colour: ColourSettings) -> ColourSettings:
    """Return colour settings of a harder training: worse focus, haze, light of several colours."""
    return replace(
        colour,
        hue=0.09,
        glare=0.6,
        light=0.9,
        light_share=0.6,
        tint=1.0,
        blur=0.45,
        blur_px=1.7 * colour.blur_px,
    )


#: How many times as far a strange stain is from a usual one.
STRANGE = 2.5
#: What a grey slide keeps of its colour at most.
_GREY = 0.4
#: How much of what sharpening finds is added, and the widest fringe in pixels of the crop.
_SHARPEN, _FRINGE_PX = (0.5, 3.0), 1


def uniform(low: float, high: float) -> float:
    """One draw from torch's own generator, so that one seed governs an item."""
    return float(torch.empty(()).uniform_(low, high))


def chance(probability: float) -> bool:
    """True with that probability."""
    return float(torch.rand(())) < probability


class ColourCast(v2.Transform):
    """Lamp and filter: one gain per channel, and sometimes a dark exposure."""

    def __init__(self, cast: float) -> None:
        super().__init__()
        self._cast = cast

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the gains."""
        del flat_inputs
        gains = torch.exp(torch.empty(3).uniform_(-self._cast, self._cast))
        exposure = uniform(0.4, 1.0) if chance(0.25) and self._cast else 1.0
        return {"gains": gains * exposure}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401
        """Applies them to an image, leaves anything else alone."""
        if not isinstance(inpt, Tensor):
            return inpt
        scaled = inpt.float() * params["gains"].view(3, 1, 1)
        return scaled.clamp_(0, 255).to(torch.uint8)


class SmearLook(v2.Transform):
    """Stain mixing in optical density, gamma and uneven light, in one pass over the pixels."""

    def __init__(self, settings: ColourSettings) -> None:
        super().__init__()
        self._settings = settings

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws mixing matrix, exponent and light field."""
        height, width = next(x for x in flat_inputs if isinstance(x, Tensor)).shape[-2:]
        s = self._settings
        strength = uniform(0.6, 1.4) if s.stain else 1.0
        if s.strength:
            strength = math.exp(s.strength * min(max(float(torch.randn(())), -2.0), 2.0))
        # What is switched off draws nothing, so that trainings without it repeat.
        strange = s.strange > 0 and chance(s.strange)
        turned = _turn(uniform(-math.pi, math.pi)) if strange and chance(0.5) else torch.eye(3)
        spread = s.stain * (STRANGE if strange else 1.0)
        mixing = (turned + spread * torch.randn(3, 3)) * strength
        if s.grey and chance(s.grey):
            colour = uniform(0, _GREY)
            mixing = (colour * torch.eye(3) + (1 - colour) / 3) @ mixing
        return {
            "mixing": mixing,
            "gamma": float(torch.exp(torch.tensor(uniform(-s.gamma, s.gamma)))),
            "light": _light_field(height, width, s.light if chance(s.light_share) else 0.0, s.tint),
            "glare": uniform(0, s.glare) if chance(0.3) else 0.0,
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401
        """Applies them to an image, leaves anything else alone."""
        if not isinstance(inpt, Tensor):
            return inpt
        density = -torch.log((inpt.float() + 1) / 256)  # (3, H, W), Beer-Lambert
        mixed = torch.einsum("ij,jhw->ihw", params["mixing"], density).clamp_(min=0)
        light = torch.exp(-mixed * params["gamma"])
        light = (params["glare"] + (1 - params["glare"]) * light) * params["light"]
        return (light * 256 - 1).clamp_(0, 255).to(torch.uint8)


def _turn(angle: float) -> Tensor:
    """Matrix (3, 3) that turns hues by ``angle`` about the axis of grey, in radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    axis = torch.full((3, 3), (1 - cos) / 3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return cos * torch.eye(3) + axis + sin * cross


def _light_field(height: int, width: int, strength: float, tint: float) -> Tensor:
    """Relative light (3, H, W): a vignette around a random centre, or a shadow there, tinted."""
    if strength == 0.0:
        return torch.ones(3, 1, 1)
    y = torch.linspace(-1, 1, height)[:, None] - uniform(-0.6, 0.6)
    x = torch.linspace(-1, 1, width)[None] - uniform(-0.6, 0.6)
    loss = strength * uniform(0, 1) * (1 - tint + tint * torch.rand(3, 1, 1))
    distance = (x**2 + y**2).clamp(max=2) / 2
    if tint >= 0.5 and chance(0.4):
        distance = 1 - distance
    return 1 - loss * distance


class Sharpening(v2.Transform):
    """A camera that draws outlines too hard: an unsharp mask of random width and strength."""

    def __init__(self, largest_px: float) -> None:
        super().__init__()
        self._largest_px = largest_px

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401
        """Sharpens an image, leaves anything else alone."""
        del params
        if not isinstance(inpt, Tensor):
            return inpt
        sigma = uniform(0.5, max(self._largest_px, 0.5))
        soft = F.gaussian_blur(inpt, [2 * math.ceil(2 * sigma) + 1] * 2, [sigma])
        sharp = inpt.float() + uniform(*_SHARPEN) * (inpt.float() - soft.float())
        return sharp.clamp_(0, 255).to(torch.uint8)


class ColourFringes(v2.Transform):
    """A lens that does not bring all colours to one place: red and blue lie beside the green."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401
        """Shifts two channels of an image, leaves anything else alone."""
        del params
        if not isinstance(inpt, Tensor):
            return inpt
        shift = torch.randint(-_FRINGE_PX, _FRINGE_PX + 1, (2,)).tolist()
        red, green, blue = inpt
        return torch.stack([red.roll(shift, (0, 1)), green, blue.roll([-s for s in shift], (0, 1))])


class SensorNoise(v2.Transform):
    """Gaussian noise of up to 3 % of full scale."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401
        """Adds noise to an image, leaves anything else alone."""
        del params
        if not isinstance(inpt, Tensor):
            return inpt
        noise = torch.randn(inpt.shape) * uniform(1, 8)
        return (inpt.float() + noise).clamp_(0, 255).to(torch.uint8)


class JpegCompression(v2.Transform):
    """A camera that stores JPEG, of a quality from ``low`` to ``high``.

    NOTE: the same as ``v2.JPEG``, to the bit, through Pillow: torchvision gives its codecs up.
    """

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self._low, self._high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the quality."""
        del flat_inputs
        return {"quality": int(torch.randint(self._low, self._high + 1, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401
        """Compresses an image, leaves anything else alone."""
        if not isinstance(inpt, Tensor):
            return inpt
        file = io.BytesIO()
        Image.fromarray(inpt.permute(1, 2, 0).numpy()).save(file, "JPEG", **params)
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def camera_transform(settings: ColourSettings | None) -> v2.Transform:
    """Return the changes of one slide before the white balance: its stain, its lamp."""
    if settings is None:
        return v2.Identity()
    return v2.Compose(
        [
            SmearLook(settings),
            v2.ColorJitter(
                contrast=settings.contrast, saturation=settings.saturation, hue=settings.hue
            ),
            ColourCast(settings.cast),
        ]
    )


def _blur(largest_px: float) -> v2.Transform:
    return v2.GaussianBlur(2 * round(1.5 * largest_px) + 1, (0.3, max(largest_px, 0.3)))


def _hard_lens(settings: ColourSettings) -> list[v2.Transform]:
    """Fringes and sharpening; what is switched off draws nothing, so that trainings repeat."""
    parts = []
    if settings.fringe:
        parts.append(v2.RandomApply([ColourFringes()], settings.fringe))
    if settings.sharpen:
        parts.append(v2.RandomApply([Sharpening(settings.blur_px)], settings.sharpen))
    return parts


def lens_transform(settings: ColourSettings | None) -> v2.Transform:
    """Return the changes of a field after it: residual cast, focus, noise, compression."""
    if settings is None:
        return v2.Identity()
    return v2.Compose(
        [
            v2.RandomApply([ColourCast(settings.cast / 4)], 0.5),
            v2.RandomApply([_blur(settings.blur_px)], settings.blur),
            *_hard_lens(settings),
            v2.RandomApply([SensorNoise()], settings.noise),
            v2.RandomApply([JpegCompression(35, 95)], settings.jpeg),
        ]
    )
