"""Feature pyramids: none, top-down (FPN), and FPN with an added bottom-up path (seeds/004).

Shapes: N images, L levels from fine to coarse with strides s_i, C pyramid channels;
input (N, C_i, H / s_i, W / s_i) per level, output (N, C, H / s_i, W / s_i) per level.

FPN: Lin et al. 2017, arXiv:1612.03144. Bottom-up path: Liu et al. 2018, arXiv:1803.01534.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from cellcount.errors import UsageError
from cellcount.models.backbone import create_backbone
from cellcount.models.detector_card import Architecture, levels_read


class SingleLevel(nn.Module):
    """No pyramid: one level, as in plain Faster R-CNN."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], out: int) -> None:
        super().__init__()
        (own,) = channels
        self.project = nn.Conv2d(own, out, 1)
        self.strides = tuple(strides)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map at its stride."""
        (own,) = maps
        return [self.project(own)]


class TopDown(nn.Module):
    """A feature pyramid network on torchvision's building block."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], out: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(list(channels), out)
        self.strides = tuple(strides)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of equal channels at every stride."""
        named = OrderedDict((str(i), m) for i, m in enumerate(maps))
        return list(self.fpn(named).values())


class BottomUp(nn.Module):
    """FPN followed by a fusion path from fine to coarse."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], out: int) -> None:
        super().__init__()
        self.top_down = TopDown(channels, strides, out)
        steps = len(strides) - 1
        self.down = nn.ModuleList(nn.Conv2d(out, out, 3, 2, 1) for _ in range(steps))
        self.fuse = nn.ModuleList(nn.Conv2d(out, out, 3, 1, 1) for _ in range(steps))
        self.strides = tuple(strides)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of equal channels at every stride."""
        levels = self.top_down(maps)
        fused = [levels[0]]
        for level, down, fuse in zip(levels[1:], self.down, self.fuse, strict=True):
            fused.append(fuse(nn.functional.relu(down(fused[-1]) + level)))
        return fused


Pyramid = SingleLevel | TopDown | BottomUp
PYRAMIDS: dict[str, type[Pyramid]] = {"none": SingleLevel, "fpn": TopDown, "bottom-up": BottomUp}


def build_pyramid(kind: str, channels: Sequence[int], strides: Sequence[int], out: int) -> Pyramid:
    """The pyramid of that kind; its ``strides`` are those of its output levels."""
    if kind not in PYRAMIDS:
        raise UsageError(f"pyramid is {kind!r}, expected one of {', '.join(PYRAMIDS)}")
    return PYRAMIDS[kind](channels, strides, out)


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
