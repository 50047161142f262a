"""Mapping from the types of a classifier to those that are reported.

Shapes: N cells, K types of the classifier, M reported types; probabilities float32 (N, K), (N, M).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import CellClass
from cellcount.errors import UsageError
from cellcount.models.classifier_card import ClassifierCard, types_of
from cellcount.models.taxonomy import TypeMapping, load_taxonomy, mapping


@dataclass(frozen=True, eq=False)
class TypeMap:
    """Mapping from the types of a classifier to those that are reported.

    Attributes:
        types: reported types, M.
        sums: float32 (K, M), 1 where a source type becomes the reported one.
    """

    types: tuple[CellClass, ...]
    sums: NDArray[np.float32]

    @classmethod
    def unchanged(cls, card: ClassifierCard) -> TypeMap:
        """The classifier's own types."""
        return cls(card.types, np.eye(len(card.types), dtype=np.float32))

    def apply(self, probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (N, M) of reported types from those of the classifier's (N, K).

        What a dropped type had is left out and the rest not raised, so that a cell which is most
        likely none of the reported types stays below the threshold.
        """
        return probs @ self.sums

    def least_probs(self, card: ClassifierCard) -> NDArray[np.float32]:
        """Least probability (M,) at which a cell is counted as each reported type.

        A type joined from several needs the highest of theirs.
        """
        of_card = np.array(card.least_probs, np.float32)
        return np.asarray((self.sums * of_card[:, None]).max(axis=0))


def type_map(card: ClassifierCard, map_name: str | None) -> TypeMap:
    """The map of that name (``SOURCE:TARGET``) for a classifier; None changes nothing.

    Raises:
        UsageError: no such mapping, or it does not start from the classifier's types.
    """
    if map_name is None:
        return TypeMap.unchanged(card)
    chosen = mapping(map_name)
    _check_source(card, chosen)
    reached = {chosen.target_of[t.id] for t in card.types}
    types = tuple(t for t in types_of(load_taxonomy(chosen.target)) if t.id in reached)
    sums = [[float(chosen.target_of[s.id] == t.id) for t in types] for s in card.types]
    return TypeMap(types, np.array(sums, np.float32))


def _check_source(card: ClassifierCard, chosen: TypeMapping) -> None:
    unknown = [t.id for t in card.types if t.id not in chosen.target_of]
    if unknown:
        raise UsageError(
            f"--map {chosen.name} starts from the types of {chosen.source}, but the classifier "
            f"{card.name!r} ({card.taxonomy or 'its own types'}) also knows {', '.join(unknown)}; "
            f"name a mapping from its own taxonomy"
        )
