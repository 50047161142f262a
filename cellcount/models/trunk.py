"""The trunk both engines share: backbone and pyramid, built from the card's architecture alone.

Shapes: N images (N, 3, H, W) normalised float in; L maps (N, C, H / s_i, W / s_i) out.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from cellcount.models.backbone import create_backbone
from cellcount.models.detector_card import Architecture
from cellcount.models.pyramid import build_pyramid, levels_read


class Trunk(nn.Module):
    """Backbone and pyramid.

    Attributes:
        strides: strides of the maps that come out.
        channels: channels of each of them.
    """

    def __init__(self, architecture: Architecture, plugin_folder: Path | None = None) -> None:
        super().__init__()
        # A stage that nothing reads would cost time and get no gradient.
        strides = levels_read(architecture.pyramid, architecture.strides)
        self.backbone = create_backbone(
            architecture.backbone,
            strides=strides,
            plugin_folder=plugin_folder,
            **architecture.backbone_options,
        )
        channels: tuple[int, ...] = tuple(self.backbone.channels)  # type: ignore[arg-type]
        self.pyramid = build_pyramid(
            architecture.pyramid, channels, strides, architecture.pyramid_channels
        )
        self.strides = self.pyramid.strides
        self.channels = architecture.pyramid_channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse."""
        maps: list[Tensor] = self.pyramid(self.backbone(images))
        return maps
