"""Fields that look alike: saved again in another format or size, or planes in files of their own.

Each image's look is kept with its result; which of a run's images look alike is found when its
outputs are written, so that it depends neither on their order nor on what was analysed before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import ImageRef, ImageResult
from cellcount.datasets.near_duplicates import grey_hash, near_duplicates
from cellcount.images.thumbnails import Thumbnails
from cellcount.store.journal import Journal

#: Fields with fewer cells look alike because they show next to nothing.
LEAST_CELLS = 10
_SIDE_PX = 320  # a view that is made anyway
_SHOWN = 3


def look_of(thumbnails: Thumbnails) -> str:
    """Perceptual hash of a field, from its views."""
    words: bytes = grey_hash(thumbnails.grey(_SIDE_PX)).tobytes()
    return words.hex()


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Images of a run that look like others of it.

    Attributes:
        others: image → those that look like it, in the order of the run.
    """

    others: Mapping[str, Sequence[str]]

    @classmethod
    def among(cls, journal: Journal, refs: Sequence[ImageRef]) -> NearCopies:
        """Find the near copies among a run's images, without files that are equal byte for byte."""
        looks = journal.looks()
        images = [ref.image for ref in refs if looks.get(ref.image)]
        if len(images) < 2:
            return cls({})
        words = [_words(looks[image]) for image in images]
        hashes = np.repeat(np.stack(words)[:, None], 8, axis=1)  # (N, 8, 4): as they lie
        shared = {ref.image for ref in refs if ref.caution}
        others: dict[str, list[str]] = defaultdict(list)
        for first, second in near_duplicates(hashes).pairs.tolist():
            one, other = images[first], images[second]
            if one not in shared or other not in shared:
                others[one].append(other)
                others[other].append(one)
        return cls(others)

    def told(
        self, result: ImageResult, image: str = "", name: Callable[[str], str] = str
    ) -> ImageResult:
        """Add a caution to a result whose image looks like another one.

        Args:
            result: as outputs tell it.
            image: its own name, where they call it otherwise.
            name: what outputs call an image.
        """
        others = self.others.get(image or result.ref.image)
        if not others or result.status in ("failed", "outstanding"):
            return result
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        named = ", ".join(map(name, others[:_SHOWN])) + more
        caution = f"nearly the same picture as {named}: counted on each"
        return replace(result, reason="; ".join(filter(None, [result.reason, caution])))


def _words(look: str) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex(look), np.uint64)
