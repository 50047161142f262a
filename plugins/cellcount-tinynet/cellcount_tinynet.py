"""A very small backbone: shows all that a cellcount plugin needs.

Shapes: N images, H and W multiples of 32; input (N, 3, H, W), output three maps
(N, width, H/8, W/8), (N, 2 width, H/16, W/16), (N, 4 width, H/32, W/32).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

ALL_STRIDES = (8, 16, 32)


class TinyNet(nn.Module):
    """Five halvings of the image, the last three of which are handed on.

    Args:
        width: channels at stride 8; doubled at each further level.
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)
    strides = ALL_STRIDES

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width)
        self.stem = nn.Sequential(_halve(3, width // 2), _halve(width // 2, width))
        self.levels = nn.ModuleList(
            [_halve(width, width), _halve(width, 2 * width), _halve(2 * width, 4 * width)]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse."""
        features = self.stem(images)  # (N, width, H/4, W/4)
        maps = []
        for level in self.levels:
            features = level(features)
            maps.append(features)
        return maps


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def build(strides: Sequence[int] = ALL_STRIDES, width: int = 32) -> TinyNet:
    """Build the backbone from its options; the entry point names this function.

    Raises:
        ValueError: other strides than the three it has.
    """
    if tuple(strides) != ALL_STRIDES:
        raise ValueError(f"tinynet has strides {ALL_STRIDES}, not {tuple(strides)}")
    return TinyNet(width)
