"""Augmentation of single cells: place and size of the window, and effects of a camera.

Cells have no orientation, so any angle will do. One resampling does all of the geometry. Colours
are those of ``augment``; the white balance comes after stain and lamp, as in analysis.

Shapes: canvas uint8 (3, C, C), larger than the window; window uint8 (3, H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # noqa: N812 -- torchvision's own idiom

from cellcount.images.white_balance import GLASS_WHITE, apply_gains, white_balance_gains
from cellcount.training.augment import (
    ColourSettings,
    camera_transform,
    chance,
    lens_transform,
    uniform,
)

# Rows of the whole canvas, coarsely sampled, that go through the camera below the window: the
# white balance needs background even where the window shows nothing but cell.
_BACKDROP_ROWS = 16
_POOLED_ABOVE = 1.6  # canvas pixels per window pixel from which sampling would alias


_MILD_COLOUR = ColourSettings(
    cast=0.15, stain=0.05, hue=0.03, saturation=0.25, contrast=0.2, glare=0.2, gamma=0.2,
    light=0.2, blur=0.1, jpeg=0.1, noise=0.1,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CropAugment:
    """Geometry and colour of training windows.

    Attributes:
        rotation_deg: half range of the rotation.
        flip_x, flip_y: whether windows are mirrored left to right, top to bottom.
        scale_core: magnification of most windows.
        scale_wide: magnification of the others: another objective, or resized pictures.
        wide_share: share of the others.
        shift: half range of the shift, in sides of the window.
        shear: half range of the shear, as a slope.
        aspect: half range of the log stretch along each axis.
        reflect: probability that what lies outside the canvas is its mirror image, not white.
        resolution: probability that detail is lost, as in a picture of fewer pixels.
        colour: photometric strength, None leaves colours as they are.
        calm: strength for ``calm_share`` of the windows: like the training pictures, so that
            there is something to learn from early on.
        calm_share: that share.
        first_plain: the first showing of a cell in an epoch is left as it is.
    """

    rotation_deg: float = 180.0
    flip_x: bool = True
    flip_y: bool = True
    scale_core: tuple[float, float] = (0.8, 1.25)
    scale_wide: tuple[float, float] = (0.45, 2.2)
    wide_share: float = 0.3
    shift: float = 0.08
    shear: float = 0.08
    aspect: float = 0.06
    reflect: float = 0.5
    resolution: float = 0.3
    colour: ColourSettings | None = field(default_factory=ColourSettings)
    calm: ColourSettings = field(default_factory=lambda: _MILD_COLOUR)
    calm_share: float = 0.5
    first_plain: bool = False


_STILL = CropAugment(
    rotation_deg=0.0, flip_x=False, flip_y=False, scale_core=(1.0, 1.0), wide_share=0.0, shift=0.0,
    shear=0.0, aspect=0.0, reflect=0.0, resolution=0.0, colour=None,
)  # fmt: skip

#: Named strengths. ``none`` shows every cell as it is.
CROP_AUGMENTS: dict[str, CropAugment | None] = {
    "full": CropAugment(),
    "mild": CropAugment(wide_share=0.1, scale_wide=(0.6, 1.7), resolution=0.1, colour=_MILD_COLOUR),
    # "rotation by random continuous angle, vertical and horizontal flips, shifts up to 25 % of the
    # image width and height and shears by 5 % of the image size", for up-sampled cells alone.
    "seed-002": CropAugment(
        scale_core=(1.0, 1.0), wide_share=0.0, shift=0.25, shear=0.05, aspect=0.0, resolution=0.0,
        colour=None, first_plain=True,
    ),
    # "random rotations, flipping, and zooming", of which the paper states no ranges.
    "seed-003": CropAugment(
        flip_y=False, scale_core=(0.8, 1.2), wide_share=0.0, shift=0.0, shear=0.0, aspect=0.0,
        resolution=0.0, colour=None,
    ),
    "flips": CropAugment(
        rotation_deg=0.0, scale_core=(1.0, 1.0), wide_share=0.0, shift=0.0, shear=0.0, aspect=0.0,
        reflect=0.0, resolution=0.0, colour=None,
    ),
    "none": None,
}  # fmt: skip


class CropTransform:
    """Transform from the canvas about a cell to the network's input.

    Args:
        augment: strength, None for the window as it is.
        size_px: height and width of the input.
        white_balance: bring the background to a fixed white after stain and lamp.
    """

    def __init__(
        self, augment: CropAugment | None, size_px: tuple[int, int], *, white_balance: bool
    ) -> None:
        self._augment = augment or _STILL
        self._size = size_px
        self._white_balance = white_balance and self._augment.colour is not None
        self._strong, self._calm = (
            (camera_transform(colour), lens_transform(colour))
            for colour in (self._augment.colour, self._augment.calm)
        )

    def __call__(self, canvas: Tensor, side_px: float, *, plain: bool = False) -> Tensor:
        """One window uint8 (3, H, W); draws from torch's generator.

        Args:
            canvas: the cell in its middle, with surroundings; white-balanced if asked for.
            side_px: side of the window in pixels of the canvas.
            plain: the window as it is, whatever the strength.
        """
        if plain:
            return _sampled(canvas, _theta(_STILL, side_px / canvas.shape[-1], 1.0), self._size)
        a = self._augment
        low, high = a.scale_wide if chance(a.wide_share) else a.scale_core
        zoom = math.exp(uniform(math.log(low), math.log(high)))
        theta = _theta(a, side_px / canvas.shape[-1], zoom)
        window = _sampled(canvas, theta, self._size, reflect=chance(a.reflect))
        if a.colour is not None:
            camera, lens = self._calm if chance(a.calm_share) else self._strong
            window = lens(self._photographed(window, canvas, camera))
        return _coarsened(window) if chance(a.resolution) else window

    def _photographed(self, window: Tensor, canvas: Tensor, camera: v2.Transform) -> Tensor:
        """Change stain and lamp, then apply the white balance of the whole picture."""
        height, width = self._size
        rows = torch.linspace(0, canvas.shape[1] - 1, _BACKDROP_ROWS).long()
        columns = torch.linspace(0, canvas.shape[2] - 1, width).long()
        backdrop = canvas[:, rows[:, None], columns[None]]
        photograph = camera(torch.cat([window, backdrop], dim=1))
        pixels = photograph[:, :height].permute(1, 2, 0).numpy()
        if self._white_balance:
            gains = white_balance_gains(photograph[:, height:].permute(1, 2, 0).numpy())
            pixels = apply_gains(pixels, gains)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _theta(a: CropAugment, share: float, zoom: float) -> Tensor:
    """Affine matrix (2, 3) from window to canvas, both from -1 to 1.

    Args:
        a: ranges to draw from.
        share: side of the window / side of the canvas.
        zoom: magnification of the cell.
    """
    angle = math.radians(uniform(-a.rotation_deg, a.rotation_deg))
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, -sin], [sin, cos]])
    skew = torch.tensor([[1.0, uniform(-a.shear, a.shear)], [0.0, 1.0]])
    stretch = [math.exp(uniform(-a.aspect, a.aspect)) / zoom for _ in range(2)]
    mirror = [-1.0 if flip and chance(0.5) else 1.0 for flip in (a.flip_x, a.flip_y)]
    scale = torch.diag(torch.tensor([s * m for s, m in zip(stretch, mirror, strict=True)]))
    shift = torch.tensor([[2 * uniform(-a.shift, a.shift)] for _ in range(2)])
    return torch.cat([turn @ skew @ scale, shift], dim=1) * share


def _sampled(
    canvas: Tensor, theta: Tensor, size: tuple[int, int], *, reflect: bool = False
) -> Tensor:
    """The window that ``theta`` describes; outside the canvas its mirror image, or white."""
    image = canvas[None].float() - GLASS_WHITE
    density = float(theta[:, :2].norm(dim=0).max()) * canvas.shape[-1] / min(size)
    if density > _POOLED_ABOVE:
        image = functional.avg_pool2d(image, round(density), ceil_mode=True)
    grid = functional.affine_grid(theta[None], [1, 3, *size], align_corners=False)
    padding = "reflection" if reflect else "zeros"
    window = functional.grid_sample(
        image, grid, mode="bilinear", padding_mode=padding, align_corners=False
    )
    return (window[0] + GLASS_WHITE + 0.5).clamp_(0, 255).to(torch.uint8)


def _coarsened(window: Tensor) -> Tensor:
    """Blur the window as if its picture had fewer pixels."""
    factor = uniform(1.2, 3.0)
    small = [max(8, round(side / factor)) for side in window.shape[-2:]]
    lost = F.resize(window, small, antialias=True)
    return torch.as_tensor(F.resize(lost, list(window.shape[-2:]), antialias=False))
