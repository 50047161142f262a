"""Batching of tiles to a fixed size, which every engine does around its model.

Shapes: tiles uint8 (H, W, 3) RGB; batches uint8 (N, 3, H, W), padded right and below; boxes
(R, 4) xyxy in pixels of the tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellcount.core.records import Detections
from cellcount.core.side_by_side import SideBySide
from cellcount.engines.attention_refinement import with_steps
from cellcount.engines.base import EngineOptions
from cellcount.engines.detector_model import Detector
from cellcount.engines.devices import (
    DEFAULT_BATCH,
    choose_device,
    choose_precision,
    in_batches,
)
from cellcount.engines.lone_threads import lone_threads
from cellcount.engines.padding import padded, padded_shape
from cellcount.models.attention import AttentionRefinement
from cellcount.models.detector_card import DetectorCard
from cellcount.models.fixed_padding import fix_padding_in
from cellcount.models.folding import fold_in, folded
from cellcount.models.fused_activation import fuse_in
from cellcount.models.pyramid import Trunk
from cellcount.models.same_output import Change, with_changes
from cellcount.models.weights import read_weights, sized_like

#: Least height and width of the images that a network and its faster copy are compared on.
_LEAST_SIDE_PX = 64


class BatchedEngine:
    """An engine around a detector; a subclass names itself and the class of its model.

    Attributes:
        card, device, precision, batch_size, tiles_at_once: as those of any engine.
    """

    name = ""
    #: Whether the parts around the backbone keep nothing between calls.
    is_stateless: ClassVar[bool] = False
    model_class: ClassVar[type[Any]]  # a Detector, made from card, plugin folder and trunk

    def __init__(self, model: Detector, card: DetectorCard, options: EngineOptions) -> None:
        device = choose_device(options.device)
        self.card = card
        self.device = str(device)
        self.precision, self._dtype = choose_precision(options.precision, device)
        self.batch_size = options.batch_size or DEFAULT_BATCH[device.type]
        is_ours = card.architecture.backbone.startswith("timm/")  # a plugin's may keep something
        side_by_side = device.type == "cpu" and self.is_stateless and is_ours
        self.tiles_at_once = torch.get_num_threads() if side_by_side else 1
        self._threads = SideBySide(self.tiles_at_once, lone_threads)
        self._device = device
        self._model = model.to(device).to(memory_format=torch.channels_last).eval()

    @classmethod
    def build_model(
        cls, card: DetectorCard, plugin_folder: Path | None = None, trunk: Trunk | None = None
    ) -> Detector:
        """Build the model of a card, untrained, around ``trunk`` if one is given."""
        model: Detector = cls.model_class(card, plugin_folder, trunk)
        return model

    @classmethod
    def load(cls, weights: Path, options: EngineOptions) -> Self:
        """Load the engine of a weight file."""
        card, state = with_steps(*read_weights(weights), options.refine_steps)
        with sized_like(state, weights):
            model = cls.build_model(card, options.plugin_folder)
        model.take_file(state, weights)
        trunk = model.eval().parts().trunk
        if choose_device(options.device).type == "cpu":
            _suit_processors(model, card)
        else:
            trunk.backbone = folded(trunk.backbone)
        return cls(model, card, options)

    @property
    def refinement(self) -> AttentionRefinement | None:
        """The module of attention refinement, None where the model has none."""
        return self._model.parts().refinement

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """One ``Detections`` per tile; tiles of equal padded shape share batches of fixed size.

        Raises:
            DeviceMemoryError: memory is short even for a batch of one tile.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for index, tile in enumerate(tiles):
            shape = padded_shape(tile.shape, self.card.preprocessing)
            groups.setdefault(shape, []).append(index)
        results: list[Detections | None] = [None] * len(tiles)
        size = self.batch_size
        batches = [m[i : i + size] for m in groups.values() for i in range(0, len(m), size)]

        def compute(batch: Sequence[int]) -> list[Detections]:
            return in_batches([tiles[i] for i in batch], size, self._detect_batch, self._device)

        for batch, found in zip(batches, self._threads.map(compute, batches), strict=True):
            for index, detections in zip(batch, found, strict=True):
                results[index] = detections
        return [r for r in results if r is not None]

    def _detect_batch(self, tiles: Sequence[NDArray[np.uint8]], size: int) -> list[Detections]:
        batch = padded(tiles, size, self.card.preprocessing)
        images = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
        shapes = [(t.shape[0], t.shape[1]) for t in tiles]
        half = self._dtype != torch.float32
        # cuDNN would compute float32 convolutions with TF32's ten bits, and pick algorithms that do
        # not repeat their result.
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, self._dtype, enabled=half),
            exact if self._device.type == "cuda" else nullcontext(),  # flags are the process's
        ):
            found = self._model.detect(images, shapes)
        return [_to_detections(f) for f in found]


def _suit_processors(model: Detector, card: DetectorCard) -> None:
    """Make the model faster on processors, with the same output."""
    trunk, heads, _ = model.parts()
    multiple, strides = card.preprocessing.pad_multiple, card.architecture.strides
    # At an odd multiple a stride would show that the card does not name. Small multiples would make
    # images of a few pixels, which some networks cannot take.
    even = 2 * multiple * -(-_LEAST_SIDE_PX // (2 * multiple))
    even_px, odd_px = (even, even), (even + multiple, even + multiple)
    changes: list[Change] = [fold_in, fuse_in]
    if multiple % max(strides) == 0:  # every stride divides its input
        changes.insert(1, partial(fix_padding_in, side_px=even_px))
    trunk.backbone = with_changes(trunk.backbone, changes, [even_px, odd_px])
    for part in (trunk.pyramid, *heads):
        fuse_in(part)


def _to_detections(found: dict[str, Tensor]) -> Detections:
    return Detections(
        found["boxes"].float().cpu().numpy(),
        found["scores"].float().cpu().numpy(),
        found["labels"].cpu().numpy().astype(np.int64) - 1,
    )
