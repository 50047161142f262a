"""Changes of training windows, a batch at a time: place, size, angle, stain, lamp, lens, camera.

Shapes: canvases uint8 (B, C, C, 3) with rims float32 (B, 4); windows float32 (B, 3, P, P) in 0–1.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tools.types.windows import CANVAS_DENSITY, CANVAS_SIDES

_GLASS = 235 / 255
_DARKEST = 1 / 256
_POOLED_ABOVE = 1.6  # canvas pixels per window pixel from which sampling would alias
_BLUR_RADIUS = 6
_LUMA = (0.299, 0.587, 0.114)
_TO_YIQ = (_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
#: Mixing of optical densities under which red cells look grey, dark or green.
_STRANGE = (
    ((0.45, 0.4, 0.35), (0.45, 0.4, 0.35), (0.45, 0.4, 0.35)),
    ((1.9, 0.2, 0.0), (0.0, 1.8, 0.0), (0.0, 0.2, 1.6)),
    ((0.6, 0.7, 0.0), (0.0, 0.5, 0.1), (0.0, 0.6, 0.6)),
)


@dataclass(frozen=True, slots=True)
class Augment:
    """Strengths of the changes; see ``settings.toml`` for the values in use.

    Attributes:
        scale: magnification of most windows.
        wide_scale, wide_share: magnification of the others, and their share.
        shift: half range of the shift, in sides of the window.
        stain_mix: standard deviation of the mixing of optical densities.
        stain_strength: standard deviation of the log of their strength.
        strange_stain: share whose red cells look grey, dark or green.
        hue_deg, hue_share: half range of a turn of hue, and its share.
        saturation: standard deviation of the log of the saturation.
        haze_share, haze: share behind a veil of light, and how dense it is at most.
        gains, gamma: standard deviation of the log of channel gains and of the exponent.
        grey_share: share that loses most of its colour.
        blur_share, blur_px: share that is blurred, and the range of sigma.
        jpeg_share: share that is compressed.
        noise_share, noise: share with noise, and its largest standard deviation.
        reflect: share whose outside is the mirror image of the picture, not white.
        mixup_share, mixup_alpha: share of the batches that are mixed, and how.
    """

    scale: tuple[float, float]
    wide_scale: tuple[float, float]
    wide_share: float
    shift: float
    stain_mix: float
    stain_strength: float
    strange_stain: float
    hue_deg: float
    hue_share: float
    saturation: float
    haze_share: float
    haze: float
    gains: float
    gamma: float
    grey_share: float
    blur_share: float
    blur_px: tuple[float, float]
    jpeg_share: float
    noise_share: float
    noise: float
    reflect: float
    mixup_share: float
    mixup_alpha: float


def augmented(
    canvases: NDArray[np.uint8],
    rims: NDArray[np.float32],
    px: int,
    how: Augment,
    rng: np.random.Generator,
) -> Tensor:
    """Windows of the canvases, each changed in its own way."""
    images = torch.tensor(canvases).float().div_(255).sub_(_GLASS).permute(0, 3, 1, 2)
    windows = _placed(images, torch.tensor(rims), px, how, rng)
    windows = _coloured(windows, how, rng)
    windows = _photographed(windows, how, rng)
    return windows.clamp_(0, 1)


def _placed(
    images: Tensor, rims: Tensor, px: int, how: Augment, rng: np.random.Generator
) -> Tensor:
    """Rotation, mirror image, size and shift by one resampling; the images are glass-free.

    Args:
        images: values less those of empty glass, which lies where neither cell nor mirror is.
        rims, px, how, rng: as in ``augmented``.
    """
    size = len(images)
    wide = rng.random(size) < how.wide_share
    low = np.where(wide, how.wide_scale[0], how.scale[0])
    high = np.where(wide, how.wide_scale[1], how.scale[1])
    zoom = np.exp(rng.uniform(np.log(low), np.log(high)))
    angle = rng.uniform(0, 2 * math.pi, size)
    mirror = rng.choice([-1.0, 1.0], size)
    reach = 1 / (zoom * CANVAS_SIDES)  # of the canvas's half side
    theta = np.empty((size, 2, 3), np.float32)
    theta[:, 0] = np.stack([np.cos(angle) * mirror * reach, -np.sin(angle) * reach, angle], 1)
    theta[:, 1] = np.stack([np.sin(angle) * mirror * reach, np.cos(angle) * reach, angle], 1)
    theta[:, :, 2] = rng.uniform(-how.shift, how.shift, (size, 2)) * 2 / CANVAS_SIDES
    grid = functional.affine_grid(torch.from_numpy(theta), [size, 3, px, px], align_corners=False)
    reflect = torch.from_numpy(rng.random(size) < how.reflect)
    low_rim, high_rim = rims[:, None, None, :2] * 2 - 1, rims[:, None, None, 2:] * 2 - 1
    span = (high_rim - low_rim).clamp(min=1e-3)
    folded = (grid - low_rim).remainder(2 * span)
    folded = low_rim + torch.where(folded > span, 2 * span - folded, folded)
    grid = torch.where(reflect[:, None, None, None], folded, grid)
    coarse = torch.from_numpy(CANVAS_DENSITY / zoom > _POOLED_ABOVE)
    out = functional.grid_sample(images, grid, align_corners=False)
    rows = torch.nonzero(coarse)[:, 0]
    if len(rows):
        pooled = functional.avg_pool2d(images[rows], 2)
        out[rows] = functional.grid_sample(pooled, grid[rows], align_corners=False)
    return out.add_(_GLASS).contiguous()


def _coloured(windows: Tensor, how: Augment, rng: np.random.Generator) -> Tensor:
    """Stain, hue, saturation and lamp."""
    size = len(windows)
    mix = np.eye(3) + how.stain_mix * rng.standard_normal((size, 3, 3))
    mix *= np.exp(how.stain_strength * rng.standard_normal((size, 1, 1)))
    for i in np.flatnonzero(rng.random(size) < how.strange_stain):
        mix[i] = mix[i] @ np.asarray(_STRANGE[int(rng.integers(len(_STRANGE)))])
    density = math.log(_GLASS) - windows.clamp(min=_DARKEST).log()
    density = _mixed(density, mix).clamp_(max=6)
    windows = _GLASS * torch.exp(-density)
    turn = how.hue_deg * rng.uniform(-1, 1, size) * (rng.random(size) < how.hue_share)
    saturation = np.exp(how.saturation * rng.standard_normal(size))
    grey = rng.random(size) < how.grey_share
    saturation[grey] *= rng.uniform(0, 0.4, int(grey.sum()))
    windows = _mixed(windows, _hue_matrices(np.radians(turn), saturation)).clamp_(_DARKEST, 2)
    gamma = torch.from_numpy(np.exp(how.gamma * rng.standard_normal((size, 1, 1, 1)))).float()
    gains = torch.from_numpy(np.exp(how.gains * rng.standard_normal((size, 3, 1, 1)))).float()
    return (windows / _GLASS).pow(gamma) * _GLASS * gains


def _mixed(windows: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """The channels of each window times its matrix (B, 3, 3)."""
    flat = torch.from_numpy(matrices).float() @ windows.flatten(2)
    return flat.view_as(windows)


def _hue_matrices(
    turn: NDArray[np.float64], saturation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Matrices that turn the hue by an angle and scale the saturation."""
    to = np.asarray(_TO_YIQ)
    middle = np.zeros((len(turn), 3, 3))
    middle[:, 0, 0] = 1
    middle[:, 1, 1] = middle[:, 2, 2] = np.cos(turn) * saturation
    middle[:, 1, 2], middle[:, 2, 1] = -np.sin(turn) * saturation, np.sin(turn) * saturation
    return np.asarray(np.linalg.inv(to) @ middle @ to)


def _photographed(windows: Tensor, how: Augment, rng: np.random.Generator) -> Tensor:
    """Veil of light, focus, compression and noise."""
    size = len(windows)
    hazy = np.flatnonzero(rng.random(size) < how.haze_share)
    if len(hazy):
        rows = torch.from_numpy(hazy)
        windows[rows] = _veiled(windows[rows], how.haze, rng)
    blurred = np.flatnonzero(rng.random(size) < how.blur_share)
    if len(blurred):
        rows = torch.from_numpy(blurred)
        windows[rows] = _blurred(windows[rows], rng.uniform(*how.blur_px, len(blurred)))
    for i in np.flatnonzero(rng.random(size) < how.jpeg_share):
        windows[i] = _compressed(windows[i], int(rng.integers(15, 70)))
    level = rng.uniform(0, how.noise, size) * (rng.random(size) < how.noise_share)
    noisy = np.flatnonzero(level)
    if len(noisy):
        rows = torch.from_numpy(noisy)
        noise = rng.standard_normal((len(noisy), *windows.shape[1:]), np.float32)
        windows[rows] += torch.from_numpy(noise * level[noisy, None, None, None].astype(np.float32))
    return windows


def _veiled(windows: Tensor, most: float, rng: np.random.Generator) -> Tensor:
    """Stray light of some tint, denser to one side."""
    size, px = len(windows), windows.shape[-1]
    line = torch.linspace(-1, 1, px)
    angle = torch.from_numpy(rng.uniform(0, 2 * math.pi, (size, 1, 1))).float()
    slope = (line[None, :, None] * angle.sin() + line[None, None, :] * angle.cos()) / 2
    dense = torch.from_numpy(rng.uniform(0, most, (size, 1, 1))).float()
    veil = (dense * (1 + slope))[:, None]
    tint = torch.from_numpy(1 + 0.12 * rng.standard_normal((size, 3, 1, 1))).float()
    return windows * (1 - veil) + _GLASS * tint * veil


def _blurred(windows: Tensor, sigma: NDArray[np.float64]) -> Tensor:
    places = np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    kernel = np.exp(-(places[None] ** 2) / (2 * sigma[:, None] ** 2))
    kernel /= kernel.sum(1, keepdims=True)
    weights = torch.from_numpy(kernel).float().repeat_interleave(3, 0)  # (B * 3, K)
    count, width = len(weights), weights.shape[1]
    flat = windows.reshape(1, count, *windows.shape[2:])
    flat = functional.pad(flat, (_BLUR_RADIUS,) * 4, mode="reflect")
    flat = functional.conv2d(flat, weights.view(count, 1, width, 1), groups=count)
    flat = functional.conv2d(flat, weights.view(count, 1, 1, width), groups=count)
    return flat.view_as(windows)


def _compressed(window: Tensor, quality: int) -> Tensor:
    pixels = (window.clamp(0, 1).permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    back = np.asarray(Image.open(buffer).convert("RGB"), np.float32) / 255
    return torch.from_numpy(back).permute(2, 0, 1)
