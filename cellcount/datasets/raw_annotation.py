"""Raw annotations: one picture's boxes as the source states them, unchecked.

Shapes: none; plain numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Size = tuple[int, int]


class RawBox(NamedTuple):
    """One box as a source states it.

    Attributes:
        label: its class.
        xyxy: corners in pixels, if the numbers are meant as the format says.
        drawn: whether it goes around a drawn shape, so that these are corners for certain.
    """

    label: str
    xyxy: tuple[float, float, float, float]
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class Annotation:
    """Annotation of one picture as its source states it.

    Attributes:
        image: the picture's file.
        boxes: its boxes.
        source: the annotation file.
        where: file that broken boxes are reported in, the image by default.
        broken: a text for each thing annotated there that is no box.
        stated_px: width and height that the source states, (0, 0) for none.
        split: the split that the source names; "" leaves it to the folder's name, None means that
            the picture has none.
        sure: False where something speaks against the picture, such as another name. Of several
            annotations of a picture, the sure one counts.
    """

    image: Path
    boxes: Sequence[RawBox]
    source: Path
    where: Path | None = None
    broken: Sequence[str] = ()
    stated_px: Size = (0, 0)
    split: str | None = ""
    sure: bool = True

    @property
    def reported(self) -> Path:
        """The file that its broken boxes are reported in."""
        return self.where or self.image

    def says_the_same(self, other: Annotation) -> bool:
        """Return whether two annotations have the same boxes, in any order."""
        mine, others = sorted(map(str, self.boxes)), sorted(map(str, other.boxes))
        return mine == others and self.stated_px == other.stated_px


def stated_pixels(value: object) -> int:
    """A side in pixels from a number or its text, 0 where it is missing or nonsense."""
    if isinstance(value, list) and len(value) == 1:  # R writes a single value as a list
        value = value[0]
    try:
        number = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0
    return round(number) if 0 < number < 2**31 else 0
