"""Features of cells that a classifier learned from, kept beside its weights.

They stand for the types of which a laboratory has no cells when its last layer is refitted. The
features belong to all of the network but its last layer, so they hold for refitted ones, too. Where
an adaptation re-estimated statistics of normalisation, they are those of the packaged statistics,
to which the laboratory's cells were brought (see ``cellcount.adapt.norm_statistics``).

Shapes: N cells, F features, K types; features float32 (N, F), allowed bool (N, K).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from cellcount.errors import WeightsError
from cellcount.files.atomic import atomic_write

SUFFIX = ".features"


@dataclass(frozen=True, eq=False, slots=True)
class KeptFeatures:
    """Features of training cells, as the input of the classifier's last layer.

    Attributes:
        features: float32 (N, F).
        allowed: bool (N, K), the types that the label of each may mean.
    """

    features: NDArray[np.float32]
    allowed: NDArray[np.bool_]

    @classmethod
    def none(cls, features: int, types: int) -> KeptFeatures:
        """No cells."""
        return cls(np.zeros((0, features), np.float32), np.zeros((0, types), np.bool_))


def features_path(weights: Path) -> Path:
    """Path of the features of a classifier's training, if they were kept."""
    return weights.with_suffix(SUFFIX)


def write_kept_features(path: Path, kept: KeptFeatures) -> None:
    """Write the features beside the weights.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {
        "features": torch.from_numpy(kept.features).half(),
        "allowed": torch.from_numpy(kept.allowed.astype(np.uint8)),
    }
    with atomic_write(path) as file:
        file.write(save(tensors))


def read_kept_features(weights: Path, features: int, types: int) -> KeptFeatures:
    """Read the features beside a weight file; an empty set where none were kept.

    Args:
        weights: of the classifier.
        features, types: what its last layer takes and gives.

    Raises:
        WeightsError: the file is broken, or that of another network.
    """
    path = features_path(weights)
    if not path.is_file():
        return KeptFeatures.none(features, types)
    try:
        tensors = load(path.read_bytes())
        found = KeptFeatures(
            tensors["features"].float().numpy(), tensors["allowed"].numpy().astype(np.bool_)
        )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}; take it away, or restore it") from None
    shapes = (found.features.shape[1:], found.allowed.shape[1:])
    if shapes != ((features,), (types,)) or len(found.features) != len(found.allowed):
        raise WeightsError(
            f"{path} holds features {found.features.shape} of types {found.allowed.shape}, but "
            f"the classifier beside it takes {features} and gives {types}; take the file away"
        )
    return found
