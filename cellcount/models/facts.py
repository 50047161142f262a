"""What a weight file says of itself without being loaded: card, size, digest, parameters.

Shapes: none; tensors are only looked at by name and shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from cellcount.errors import WeightsError
from cellcount.models.weights import AnyCard, read_any_card, sha256_of

#: Batch normalisation keeps these beside what it has learned.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """A weight file at a glance.

    Attributes:
        path: where it lies.
        card: what it says about itself.
        size_bytes: of the file.
        sha256: of the file.
        parameters: learned numbers; statistics of batch normalisation are left out.
    """

    path: Path
    card: AnyCard
    size_bytes: int
    sha256: str
    parameters: int


def facts_of(path: Path) -> WeightFacts:
    """The facts of a weight file.

    Raises:
        WeightsError: it is no weight file, or its card is unusable.
    """
    card = read_any_card(path)
    return WeightFacts(path, card, path.stat().st_size, sha256_of(path), _parameters(path))


def _parameters(path: Path) -> int:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            return sum(
                math.prod(part.get_shape())
                for key, part in slices.items()
                if part.get_dtype().startswith(("F", "BF")) and not key.endswith(_STATISTICS)
            )
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None
