"""Interface of the detector model of every engine.

Shapes: N images uint8 (N, 3, H, W); R boxes (R, 4) xyxy, labels (R,) from 1 on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self, cast

from torch import Tensor, nn

from cellcount.errors import UsageError
from cellcount.models.attention import AttentionRefinement
from cellcount.models.detector_card import DetectorCard
from cellcount.models.pyramid import Trunk
from cellcount.models.weights import check_state


class Parts(NamedTuple):
    """Backbone with pyramid, the heads on it, and attention refinement where the model has it."""

    trunk: Trunk
    heads: tuple[nn.Module, ...]
    refinement: AttentionRefinement | None


class Detector(nn.Module, ABC):
    """Detector model: returns losses in training, detections otherwise.

    Args:
        card: states everything that decides the model.
    """

    def __init__(self, card: DetectorCard) -> None:
        super().__init__()
        self.card = card
        self._frozen: list[nn.Module] = []

    @abstractmethod
    def parts(self) -> Parts:
        """The parts that can be frozen or watched."""

    @abstractmethod
    def losses(self, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Named losses; their sum is minimised.

        Args:
            images: uint8 (N, 3, H, W).
            targets: per image ``boxes`` (R, 4) xyxy and ``labels`` (R,) from 1 on.
        """

    @abstractmethod
    def detect(self, images: Tensor, shapes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """``boxes``, ``scores`` and ``labels`` of the first ``len(shapes)`` images.

        The others only fill the batch; ``shapes`` are (height, width) without padding.
        """

    @abstractmethod
    def learn_by_rewards(self) -> None:
        """Train attention refinement by rewards from now on."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return all tensors of a weight file, under its names."""

    @abstractmethod
    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load tensors under the names of a weight file; those not given stay unchanged."""

    def take_file(self, weights: Mapping[str, Tensor], source: Path) -> None:
        """Loads all tensors of a weight file, every name and shape checked."""
        check_state(self.weights(), weights, source=source)
        self.take_weights(weights)

    def freeze_trunk(self) -> None:
        """Freeze backbone and pyramid, their statistics of normalisation included."""
        self._freeze(self.parts().trunk)

    def freeze_backbone_parts(self, names: Sequence[str]) -> None:
        """Freeze these parts of the backbone, their statistics of normalisation included.

        Args:
            names: of modules within the backbone, like ``body.blocks.0``.

        Raises:
            UsageError: the backbone has no part of that name.
        """
        parts = dict(self.parts().trunk.backbone.named_modules())
        for name in names:
            if name not in parts:
                known = ", ".join(sorted(part for part in parts if part.count(".") in (1, 2))[:12])
                raise UsageError(
                    f"frozen names {name!r}, which the backbone does not have; it has {known}, …"
                )
            self._freeze(parts[name])

    def _freeze(self, part: nn.Module) -> None:
        part.requires_grad_(requires_grad=False)
        self._frozen.append(part)
        self.train(self.training)

    def freeze_first_look(self) -> None:
        """Freeze proposals and region heads, so that attention refinement alone learns."""
        for part in self.parts().heads:
            part.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 -- torch's own form
        """Training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def forward(
        self, images: Tensor, shapes: list[tuple[int, int]] | list[dict[str, Tensor]]
    ) -> list[dict[str, Tensor]] | dict[str, Tensor]:
        """Losses in training mode (``shapes`` are targets), detections in evaluation mode."""
        if self.training:
            return self.losses(images, cast(list[dict[str, Tensor]], shapes))
        return self.detect(images, cast(list[tuple[int, int]], shapes))
