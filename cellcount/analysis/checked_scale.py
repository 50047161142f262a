"""Detection of an image at a scale that agrees with the size of its red cells.

A scale from a file's metadata may be the camera's pitch, a print resolution or off by ten, and a
folder may hold fields of several magnifications. The red cells that detection finds tell at no
cost whether the scale fits. Only where they do not, or are too few, the image is searched for red
cells at other scales, and where these clearly contradict the scale:

- one that a person gave stays, with a caution;
- one from the file, or of the slide, gives way to the image's own, if the red cells that are found
  at that one bear it out.

Scans are too large to be looked at twice: the red cells on their sample fields are asked first. All
of it depends on the image, its slide's sample and the settings alone.

Shapes: none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cellcount.analysis.load import Loaded
from cellcount.analysis.slide_scales import Scale, SlideScales
from cellcount.engines.field_detector import FieldDetector, Found
from cellcount.engines.red_cells import (
    SMALLEST_FOUND_PX,
    found_diameter_px,
    red_cell_diameter_px,
)
from cellcount.engines.slide_detector import Tell
from cellcount.engines.source_detector import detect
from cellcount.images.scale import RBC_DIAMETER_UM, factor_from_red_cells
from cellcount.images.source import Source

#: Red cells contradict a scale that would make them so many times as large or as small as those
#: of a dried smear: 5 or 11 µm, where microcytes have about 6 and macrocytes about 9, and the
#: detector's median on a field is within a tenth. Wrong tags are off by two or more.
DISAGREEMENT = 1.5
#: Fields of one slide have the same red cells, so that less of a difference is another objective;
#: the medians of single fields of one microscope differ by less than a fifth.
SLIDE_DISAGREEMENT = 1.25
#: Fields that are so large at the model's scale are asked first: it costs them a fortieth.
_LARGE_PX = 4000
#: Red cells that are so many times too large or too small are still found and measured right.
_STILL_FOUND = 2.5

GIVEN_CAUTION = (
    "the given scale is {:.3g} µm/px, but the red cells tell about {:.2g} µm/px: look at "
    "--um-per-px or the manifest"
)
FILE_CAUTION = (
    "the file says {:.3g} µm/px, but the red cells tell about {:.2g} µm/px: measured by red cells"
)
FILE_SLIDE_CAUTION = (
    "the file says {:.3g} µm/px, but the red cells of its slide tell about {:.2g} µm/px: measured "
    "by red cells"
)
OWN_CAUTION = (
    "its red cells are {:.2g} times as large as those of its slide: measured by its own, look "
    "whether it is of another magnification"
)


class Checked(NamedTuple):
    """Detections of an image, and the scale at which they were made."""

    scale: Scale
    found: Found


class CheckedDetector:
    """Detects cells on images, each at its scale or, where that is wrong, at its red cells' own.

    Args:
        detector: the model on fields.
        scales: of all images of the run.
        tell: called within images that take long, with the share that is done.
    """

    def __init__(self, detector: FieldDetector, scales: SlideScales, tell: Tell) -> None:
        self._detector, self._scales, self._tell = detector, scales, tell
        self._rbc_px = detector.engine.card.rbc_diameter_px

    def detect(self, loaded: Loaded, source: Source) -> Checked:
        """Detect the cells of an image at a scale that its red cells do not contradict.

        Args:
            loaded: the image as it was read.
            source: its pixels as the detector is to see them.

        Raises:
            ImageError: it cannot be read.
            DeviceMemoryError: memory is short even for a single tile of the smallest size.
        """
        scale = self._scales.of(loaded)
        if source.picture is None:
            other = self._other(loaded, scale, self._sought_px(source))
            return self._at(other or scale, source)
        if self._would_cost_much(scale, source):
            sought_px = self._sought_px(source)
            other = self._other(loaded, scale, sought_px)
            second = None if other is None else self._at(other, source)
            if second is not None and (
                sought_px is None or self._fits(second, self._seen_px(second, source))
            ):
                return second
        first = self._at(scale, source)
        seen_px = self._seen_px(first, source)
        if self._fits(first, seen_px):
            return first
        expected_px = self._rbc_px / scale.factor
        if seen_px is None or not 1 / _STILL_FOUND <= seen_px / expected_px <= _STILL_FOUND:
            seen_px = self._sought_px(source)
        other = self._other(loaded, scale, seen_px)
        if other is None:
            return first
        if other.factor == scale.factor:
            return Checked(other, first.found)
        second = self._at(other, source)
        bears_out = self._fits(second, self._seen_px(second, source))
        return second if bears_out or seen_px is None else first

    def _would_cost_much(self, scale: Scale, source: Source) -> bool:
        """Return whether to measure red cells first, as a pass at a wrong scale costs far more."""
        if scale.origin == "file" and self._rbc_px / scale.factor < SMALLEST_FOUND_PX:
            return True
        return scale.origin in ("file", "slide") and max(source.size_px) * scale.factor > _LARGE_PX

    def _at(self, scale: Scale, source: Source) -> Checked:
        return Checked(scale, detect(self._detector, source, scale.factor, self._tell))

    def _seen_px(self, checked: Checked, source: Source) -> float | None:
        """Median diameter of the red cells that were found, None where they are too few."""
        return found_diameter_px(self._detector.engine, checked.found.detections, source.size_px)

    def _sought_px(self, source: Source) -> float | None:
        """Median diameter of the image's red cells, sought at all scales."""
        found = [
            red_cell_diameter_px(self._detector.engine, pixels) for pixels in source.sample_fields()
        ]
        known = [diameter for diameter in found if diameter is not None]
        return float(np.median(known)) if known else None

    def _fits(self, checked: Checked, seen_px: float | None) -> bool:
        """Return whether there are red cells, and of about the size that the scale gives them."""
        expected_px = self._rbc_px / checked.scale.factor
        return seen_px is not None and not _contradicts(seen_px, expected_px, checked.scale)

    def _other(self, loaded: Loaded, scale: Scale, own_px: float | None) -> Scale | None:
        """Return the scale to use instead where red cells contradict the given one; else None."""
        if own_px is None:
            return self._of_slide(loaded, scale) if scale.origin == "file" else None
        expected_px = self._rbc_px / scale.factor
        if not _contradicts(own_px, expected_px, scale):
            return None
        told_um = RBC_DIAMETER_UM / own_px
        if scale.origin == "given":
            return replace(scale, caution=GIVEN_CAUTION.format(scale.um_per_px, told_um))
        factor = factor_from_red_cells([own_px], self._rbc_px)
        if scale.origin == "file":
            return Scale(factor, None, FILE_CAUTION.format(scale.um_per_px, told_um))
        if scale.origin == "unknown":
            return Scale(factor)
        return Scale(factor, None, OWN_CAUTION.format(own_px / expected_px))

    def _of_slide(self, loaded: Loaded, scale: Scale) -> Scale | None:
        """Return the slide's scale where it contradicts the one from the file; else None."""
        slide = self._scales.of_slide(loaded)
        told_px = self._rbc_px / slide.factor
        if slide.origin == "unknown" or not _contradicts(
            told_px, self._rbc_px / scale.factor, scale
        ):
            return None
        told_um = RBC_DIAMETER_UM / told_px
        return replace(slide, caution=FILE_SLIDE_CAUTION.format(scale.um_per_px, told_um))


def _contradicts(diameter_px: float, expected_px: float, scale: Scale) -> bool:
    """Return whether red cells are clearly of another size than a scale would have them."""
    most = SLIDE_DISAGREEMENT if scale.origin in ("slide", "unknown") else DISAGREEMENT
    return not 1 / most <= diameter_px / expected_px <= most
