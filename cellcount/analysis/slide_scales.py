"""The scale of every image: from its µm/px where they are known, else from its slide's red cells.

An image's own µm/px come first, as its manifest, the option or its file gives them. Where there are
none, the red cells on some of the slide's fields tell one factor for the whole slide; slides of two
specimens may share a name, and are two slides. Either scale is held against the image's own red
cells in ``cellcount.analysis.checked_scale``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellcount.analysis.load import Loaded, load
from cellcount.core.records import ImageRef
from cellcount.core.side_by_side import SideBySide
from cellcount.engines.field_detector import FieldDetector
from cellcount.engines.red_cells import red_cell_diameter_px
from cellcount.errors import CellcountError
from cellcount.images.lit_field import lit_part
from cellcount.images.scale import factor_from_red_cells, factor_from_um_per_px, sample_evenly
from cellcount.images.source import Source
from cellcount.store.changed_settings import Json
from cellcount.store.file_key import FileKey, still_holds

logger = logging.getLogger(__name__)

SCALE_CAUTION = "scale unknown: too few red cells seen, analysed as it is"
#: Before the name of a slide: where its factor is kept.
SCALE_PREFIX = "scale:"
_OF = "\x1f"  # between specimen and slide: no name has it
#: Who says what the scale of an image is: a person, its file, its slide's red cells, or nobody.
Origin: TypeAlias = Literal["given", "file", "slide", "unknown"]
#: A slide as no other: its specimen, "" where it has none, and its name.
_SlideKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale at which an image is analysed.

    Attributes:
        factor: original pixels times this are the model's pixels.
        um_per_px: of the original pixels; None where only red cells tell the scale, since an
            estimate is no measurement.
        caution: why a person should look at it, else "".
        origin: who says so.
    """

    factor: float
    um_per_px: float | None = None
    caution: str = ""
    origin: Origin = "slide"


def known_um_per_px(ref: ImageRef, source: Source) -> float | None:
    """µm/px of an image, those that a person gave before the file's own; None where unknown."""
    return ref.um_per_px or source.um_per_px


class ScaleStore(Protocol):
    """Store of measured scales; the journal is one."""

    def get_value(self, name: str) -> Json:
        """The value of that name, or None."""
        ...

    def set_value(self, name: str, value: Json, forget: Iterable[str] = ()) -> None:
        """Keeps a value, and drops the results of images that do not hold with it."""
        ...


@dataclass
class ScalesInMemory:
    """Keeps measured scales for as long as nothing is written to a journal."""

    values: dict[str, Json] = field(default_factory=dict)

    def get_value(self, name: str) -> Json:
        """The value of that name, or None."""
        return self.values.get(name)

    def set_value(self, name: str, value: Json, forget: Iterable[str] = ()) -> None:
        """Keeps a value; there are no results to forget."""
        self.values[name] = value


@dataclass(frozen=True, slots=True)
class _Measured:
    """A slide's scale factor, None for too few red cells, and the fields it was measured on."""

    factor: float | None
    sample: Mapping[str, FileKey]

    def as_json(self) -> Json:
        keys = {image: [k.given, k.state, k.sha256] for image, k in self.sample.items()}
        return {"factor": self.factor, "sample": keys}

    @classmethod
    def of_json(cls, stored: Json) -> _Measured | None:
        if not isinstance(stored, dict):
            return None
        return cls(stored["factor"], {i: FileKey(*key) for i, key in stored["sample"].items()})


class SlideScales:
    """The scale of every image; that of slides without known µm/px is measured once and kept.

    The fields that it is measured on are a matter of the whole slide, so it does not depend on
    what is done already, nor on the shard that asks. A slide that grows keeps the factor it has,
    so that all its images are treated alike; where none could be measured, the slide is looked at
    again. A slide whose sampled files have changed is measured anew.

    Args:
        refs: all images of the run, those of other shards too.
        detector: measures red cells.
        store: keeps the factors for a continued run.
        max_pixels: largest image that is read.
    """

    def __init__(
        self,
        refs: Sequence[ImageRef],
        detector: FieldDetector,
        store: ScaleStore,
        max_pixels: int,
    ) -> None:
        self._by_slide: dict[_SlideKey, list[ImageRef]] = {}
        for ref in refs:
            if ref.um_per_px is None:
                self._by_slide.setdefault(_key(ref), []).append(ref)
        self._detector, self._store, self._max_pixels = detector, store, max_pixels
        self._known: dict[_SlideKey, float | None] = {}
        self._locking, self._locks = threading.Lock(), dict[_SlideKey, threading.Lock]()

    def refresh(self) -> list[str]:
        """Measures again what was measured on files that have changed.

        Results of a slide whose factor is another now are dropped, in the same commit.

        Returns:
            The slides with another factor.
        """
        changed = []
        for slide, refs in self._by_slide.items():
            stored = _Measured.of_json(self._store.get_value(_name(slide)))
            if stored is None or self._holds(stored, slide):
                continue
            measured = self._measure(slide, None)
            is_other = measured.factor != stored.factor
            gone = [ref.image for ref in refs] if is_other else []
            self._store.set_value(_name(slide), measured.as_json(), forget=gone)
            if is_other:
                changed.append(slide_in_words(_name(slide).removeprefix(SCALE_PREFIX)))
        return changed

    def known(self) -> dict[str, Json]:
        """Return the stored scales of the slides, by the names that they are stored under."""
        kept = {name: self._store.get_value(name) for name in map(_name, self._by_slide)}
        return {name: value for name, value in kept.items() if value is not None}

    def of(self, loaded: Loaded) -> Scale:
        """The scale of one image that could be read."""
        assert loaded.source is not None, f"{loaded.ref.image} could not be read"
        um_per_px = known_um_per_px(loaded.ref, loaded.source)
        if um_per_px is not None:
            target = self._detector.engine.card.rbc_diameter_px
            origin: Origin = "file" if loaded.ref.um_per_px is None else "given"
            return Scale(factor_from_um_per_px(um_per_px, target), um_per_px, "", origin)
        return self.of_slide(loaded)

    def of_slide(self, loaded: Loaded) -> Scale:
        """The scale that its slide's red cells tell of an image, whatever µm/px it has."""
        factor = self._factor(_key(loaded.ref), loaded)
        if factor is None:
            return Scale(1.0, caution=SCALE_CAUTION, origin="unknown")
        return Scale(factor)

    def _factor(self, slide: _SlideKey, at_hand: Loaded) -> float | None:
        """The slide's factor, None where its sampled fields show too few red cells.

        ``at_hand`` is one of the slide's images, not read again if it is sampled.
        """
        with self._lock_of(slide):
            if slide not in self._known:
                measured = _Measured.of_json(self._store.get_value(_name(slide)))
                if measured is None:
                    measured = self._measure(slide, at_hand)
                    self._store.set_value(_name(slide), measured.as_json())
                self._known[slide] = measured.factor
            return self._known[slide]

    def _lock_of(self, slide: _SlideKey) -> threading.Lock:
        """Lock of a slide, so that it is measured once where its images are analysed at once."""
        with self._locking:
            return self._locks.setdefault(slide, threading.Lock())

    def _holds(self, measured: _Measured, slide: _SlideKey) -> bool:
        by_image = {ref.image: ref for ref in self._by_slide[slide]}
        if measured.factor is None and measured.sample.keys() != {
            ref.image for ref in self._sample(slide)
        }:
            return False
        return all(
            image in by_image and still_holds(key, by_image[image])
            for image, key in measured.sample.items()
        )

    def _sample(self, slide: _SlideKey) -> list[ImageRef]:
        refs = self._by_slide[slide]
        return [refs[index] for index in sample_evenly(len(refs))]

    def _measure(self, slide: _SlideKey, at_hand: Loaded | None) -> _Measured:
        engine = self._detector.engine

        def look(ref: ImageRef) -> tuple[FileKey, list[float]]:
            same = at_hand is not None and ref.image == at_hand.ref.image
            loaded = at_hand if same and at_hand is not None else load(ref, self._max_pixels)
            fields = _sample_fields(loaded.source)
            seen = [red_cell_diameter_px(engine, pixels) for pixels in fields]
            return loaded.file_key, [diameter for diameter in seen if diameter is not None]

        refs = self._sample(slide)
        looked = SideBySide(self._detector.images_at_once).map(look, refs)
        sample = {ref.image: key for ref, (key, _) in zip(refs, looked, strict=True)}
        diameters = [diameter for _, found in looked for diameter in found]
        logger.debug("slide %s/%s: red cells of %s px", *slide, diameters)
        if not diameters:
            return _Measured(None, sample)
        factor = factor_from_red_cells(diameters, engine.card.rbc_diameter_px)
        return _Measured(factor, sample)


def _key(ref: ImageRef) -> _SlideKey:
    return ref.specimen, ref.slide


def _name(slide: _SlideKey) -> str:
    """Key under which a slide's factor is stored; two specimens may share a slide name."""
    specimen, name = slide
    return f"{SCALE_PREFIX}{specimen}{_OF}{name}" if specimen else f"{SCALE_PREFIX}{name}"


def slide_in_words(name: str) -> str:
    """Call a slide by the name that its scale is kept under, for people."""
    specimen, _, slide = name.rpartition(_OF)
    return f"{slide} of specimen {specimen}" if specimen else slide


def _sample_fields(source: Source | None) -> Sequence[NDArray[np.uint8]]:
    """The fields of an image on which red cells are measured; none where it cannot be read."""
    if source is None:
        return ()
    try:
        return lit_part(source)[0].sample_fields()
    except CellcountError:  # its own row will say so
        return ()
