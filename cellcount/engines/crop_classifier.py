"""Typing crops of single cells: pixels in, probability of each type out.

Shapes: N crops uint8 (h, w, 3) RGB of the card's input size, K types of the classifier; logits and
probabilities float32 (N, K); features float32 (N, F).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellcount.core.side_by_side import SideBySide
from cellcount.engines.base import EngineOptions
from cellcount.engines.devices import choose_device, choose_precision, in_batches
from cellcount.engines.lone_threads import lone_threads
from cellcount.errors import UsageError
from cellcount.models.classifier import build_classifier
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.fixed_padding import fix_padding_in
from cellcount.models.folding import fold_in
from cellcount.models.fused_activation import fuse_in
from cellcount.models.same_output import Change, with_changes
from cellcount.models.weights import load_state, read_classifier_weights, sized_like

#: One on a CPU: a field has few white cells, and the rest of a batch would be padding, which costs
#: more than larger batches save.
_DEFAULT_BATCH = {"cpu": 1, "cuda": 64, "mps": 32}


class CropClassifier:
    """A loaded classifier. Stateless between calls.

    Attributes:
        card: what it says about itself.
        device, precision, batch_size: where and how it computes.
        batches_at_once: so many are computed side by side: one per processor, but one after the
            other on a GPU, which does more at once by itself, and by a plugin's network, which may
            keep something between calls.
    """

    def __init__(self, model: nn.Module, card: ClassifierCard, options: EngineOptions) -> None:
        device = choose_device(options.device)
        self.card = card
        self.device = str(device)
        self.precision, self._dtype = choose_precision(options.precision, device)
        self.batch_size = options.batch_size or _DEFAULT_BATCH[device.type]
        self._device = device
        is_ours = card.architecture.name.startswith("timm/")
        alone = device.type != "cpu" or not is_ours
        self.batches_at_once = 1 if alone else torch.get_num_threads()
        self._threads = SideBySide(self.batches_at_once, lone_threads)
        self._model = model.to(device).to(memory_format=torch.channels_last).eval()
        mean, std = (
            torch.tensor(rgb, dtype=torch.float32, device=device).view(1, 3, 1, 1)
            for rgb in (card.preprocessing.mean, card.preprocessing.std)
        )
        self._mean, self._std = mean, std
        self._prior_shift = prior_shift(card)

    def logits(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Logits (N, K); a crop's depend on its pixels alone, not on the others of the call."""
        size = self.batch_size

        def compute(batch: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
            return in_batches(batch, size, self._batch_logits, self._device)

        batches = [crops[i : i + size] for i in range(0, len(crops), size)]
        rows = [row for found in self._threads.map(compute, batches) for row in found]
        return np.stack(rows) if rows else np.zeros((0, len(self.card.types)), np.float32)

    @property
    def network(self) -> nn.Module:
        """The network itself, which takes normalised images."""
        return self._model

    @property
    def last_layer(self) -> tuple[str, nn.Linear]:
        """The layer that makes logits of features, with its name among the tensors.

        Raises:
            UsageError: the network has none, such as one network per type.
        """
        fitting = [
            (name, module)
            for name, module in self._model.named_modules()
            if isinstance(module, nn.Linear) and module.out_features == len(self.card.types)
        ]
        if self.card.architecture.scheme != "softmax" or not fitting:
            raise UsageError(
                f"the classifier {self.card.name!r} ({self.card.architecture.name}, "
                f"{self.card.architecture.scheme}) has no last linear layer with an output per "
                "type, which is what is refitted; choose one network for all types"
            )
        return fitting[-1]

    def features(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the features (N, F) that the last layer makes its logits of.

        Raises:
            UsageError: the network has no last linear layer.
        """
        (_, last), seen = self.last_layer, list[Tensor]()
        hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

        def of_batch(part: Sequence[NDArray[np.uint8]], size: int) -> list[NDArray[np.float32]]:
            seen.clear()
            self._batch_logits(part, size)
            values: NDArray[np.float32] = seen[-1].float().cpu().numpy()[: len(part)]
            return list(values)

        try:
            rows = in_batches(crops, self.batch_size, of_batch, self._device)
        finally:
            hook.remove()
        return np.stack(rows) if rows else np.zeros((0, last.in_features), np.float32)

    def whole_batch(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Logits (N, K) of crops that pass the network together, with nothing to fill up."""
        return np.stack(self._batch_logits(crops, len(crops)))

    def probs(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Calibrated probabilities (N, K) at the card's prior, each row with a sum of 1."""
        scaled = torch.from_numpy(self.logits(crops)) / self.card.temperature
        return (scaled + self._prior_shift).softmax(dim=1).numpy()

    def _batch_logits(
        self, crops: Sequence[NDArray[np.uint8]], size: int
    ) -> list[NDArray[np.float32]]:
        """Logits of at most ``size`` crops; the batch is always computed in full size."""
        shape = (*self.card.preprocessing.input_px, 3)
        batch = np.zeros((size, *shape), np.uint8)
        for i, crop in enumerate(crops):
            if crop.shape != shape or crop.dtype != np.uint8:
                raise ValueError(f"a crop must be uint8 {shape}, got {crop.dtype} {crop.shape}")
            batch[i] = crop
        images = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
        # As in the detector: no ten-bit products in float32, and results that repeat.
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32),
            exact if self._device.type == "cuda" else nullcontext(),  # flags are the process's
        ):
            logits: Tensor = self._model((images.float() / 255 - self._mean) / self._std)
        values: NDArray[np.float32] = logits.float().cpu().numpy()[: len(crops)]
        return list(values)


def prior_shift(card: ClassifierCard) -> Tensor:
    """Return the shift of log probabilities (K,) from the mixture trained on to that stated."""
    return torch.tensor(card.prior_ratios).log()


def load_classifier(
    weights: Path,
    options: EngineOptions,
    changed: Mapping[str, Tensor] | None = None,
    *,
    fold: bool = True,
) -> CropClassifier:
    """The classifier of a weight file.

    Args:
        weights: the file.
        options: how it computes.
        changed: tensors that it has in place of the file's.
        fold: fold batch norms into the convolutions before them, and make the other changes for
            speed that keep the output.
    """
    card, state = read_classifier_weights(weights)
    with sized_like(state, weights):
        model = build_classifier(card, options.plugin_folder)
    load_state(model, {**state, **(changed or {})}, source=weights)
    model, side_px = model.eval(), card.preprocessing.input_px
    if fold:
        changes: list[Change] = [fold_in, partial(fix_padding_in, side_px=side_px)]
        if choose_device(options.device).type == "cpu":
            changes.append(fuse_in)
        model = with_changes(model, changes, [side_px])
    return CropClassifier(model, card, options)
