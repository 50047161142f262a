"""Typing crops of single cells on OpenVINO, with the same weight file and the same types.

Shapes: N crops uint8 (h, w, 3) RGB of the card's input size, K types; logits and probabilities
float32 (N, K).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from cellcount.core.processors import threads
from cellcount.core.side_by_side import SideBySide
from cellcount.engines.base import EngineOptions
from cellcount.engines.openvino import layers, networks
from cellcount.engines.openvino.layers import Tensors
from cellcount.engines.openvino.runtime import Graph, check_options
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.weights import read_arrays, read_classifier_card


class OpenVinoClassifier:
    """A loaded classifier.

    Args:
        card: of the model.
        tensors: of its weight file.
        options: device, precision, plugins; each crop is computed by one thread.

    Attributes:
        card: what it says about itself.
        device, precision, batch_size, batches_at_once: where and how it computes.

    Raises:
        UsageError: it does not compute on the device or in the precision asked for.
        WeightsError: the tensors do not fit the card.
    """

    def __init__(self, card: ClassifierCard, tensors: Tensors, options: EngineOptions) -> None:
        self.card = card
        self.device, self.precision = check_options(options)
        self.batch_size, self.batches_at_once = options.batch_size or 1, threads()
        self._threads = SideBySide(self.batches_at_once)
        before = card.preprocessing
        pixels = layers.image(*before.input_px)
        normalised = layers.normalised(pixels, before.mean, before.std)
        with tensors.shapes_checked():
            logits = networks.classifier(normalised, card, tensors, options.plugin_folder)
        tensors.check_all_taken()
        self._graph = Graph([logits], [pixels], self.precision)
        self._prior_shift = np.log(np.array(card.prior_ratios, np.float32))

    def logits(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Logits (N, K)."""
        rows = self._threads.map(self._row, crops)
        return np.concatenate(rows) if rows else np.zeros((0, len(self.card.types)), np.float32)

    def _row(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (1, K) of a crop."""
        return self._graph(np.ascontiguousarray(crop)[None])[0]

    def probs(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Calibrated probabilities (N, K) at the card's prior, each row with a sum of 1."""
        scaled = self.logits(crops) / np.float32(self.card.temperature) + self._prior_shift
        return np.asarray(softmax(scaled, axis=1), np.float32)


def load_classifier(weights: Path, options: EngineOptions) -> OpenVinoClassifier:
    """Load the classifier of a weight file.

    Raises:
        UsageError: OpenVINO does not compute on the device or in the precision asked for.
        WeightsError: the file is unusable, or does not fit its card.
    """
    card = read_classifier_card(weights)
    return OpenVinoClassifier(card, Tensors(read_arrays(weights), weights), options)
