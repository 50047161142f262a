"""The pipeline: image → scale → tiles → detections → cells → types, one image at a time.

Runners decide where it runs and in which order; a result depends on the image, its slide's scale
and the settings alone.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in original pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellcount import __version__
from cellcount.core.cells import cells_from_detections
from cellcount.core.records import CellClass, Cells, ImageRef, ImageResult, Picture, Quality
from cellcount.engines.cell_typer import CellTyper
from cellcount.engines.field_detector import FieldDetector, Found
from cellcount.engines.red_cells import red_cell_diameter_px
from cellcount.engines.slide_detector import Tell, detect_on_scan
from cellcount.errors import CellcountError
from cellcount.images.quality import measure_quality
from cellcount.images.read import read_image
from cellcount.images.scale import factor_from_red_cells, factor_from_um_per_px, sample_evenly
from cellcount.images.stain import with_dyes
from cellcount.images.stain_reference import load_stain_reference
from cellcount.images.survey import survey, survey_quality
from cellcount.images.whole_slide import Scan, open_scan
from cellcount.models.detector_card import Card
from cellcount.settings import AnalyzeSettings
from cellcount.store.file_key import FileKey, key_of, still_holds, with_content
from cellcount.store.journal import Json

logger = logging.getLogger(__name__)

#: Cautions: the ``reason`` of a done image that a person should look at.
SCALE_CAUTION = "scale unknown: too few red cells seen, analysed as it is"
CAP_CAUTION = "more cells than the model's limit in one tile: counts may be too low"
MEMORY_CAUTION = "too little memory: analysed in tiles of {} px"
EMPTY_CAUTION = "no cells found"
STAIN_CAUTION = "stain not normalized: too little or too much of it, one colour, or uneven light"
SCAN_STAIN_CAUTION = "stain not normalized: a scan is taken as it is"
#: Before the name of a slide: where its factor is kept.
SCALE_PREFIX = "scale:"


@dataclass(frozen=True, eq=False, slots=True)
class Loaded:
    """One image read from disk, or the reason why it could not be.

    Attributes:
        ref: who it is.
        file_key: of the file just before it was read.
        picture: its pixels, None when reading failed, and for a scan.
        reason: why reading failed, else "".
        scan: what is read window by window instead, else None.
    """

    ref: ImageRef
    file_key: FileKey
    picture: Picture | None
    reason: str = ""
    scan: Scan | None = None


def load(ref: ImageRef, max_pixels: int) -> Loaded:
    """Reads one image, in any thread; a failure becomes its reason."""
    file_key = key_of(ref)
    try:
        picture = read_image(ref, max_pixels=max_pixels)
        return Loaded(ref, with_content(file_key, ref), picture)
    except Exception as error:  # noqa: BLE001 -- one image never ends a batch
        return Loaded(ref, file_key, None, reason_of(error, ref))


def load_any(ref: ImageRef, max_pixels: int) -> Loaded:
    """As ``load``, but of an image that is too large for memory only the header is read."""
    file_key = key_of(ref)
    try:
        scan = open_scan(ref, max_pixels=max_pixels)
        if scan is not None:
            return Loaded(ref, with_content(file_key, ref), None, scan=scan)
    except Exception as error:  # noqa: BLE001 -- one image never ends a batch
        return Loaded(ref, file_key, None, reason_of(error, ref))
    return load(ref, max_pixels)


def reason_of(error: Exception, ref: ImageRef) -> str:
    """Why an image failed: our own words, or a defect of ours or of the machine."""
    if isinstance(error, CellcountError):
        return str(error)
    logger.debug("%s", ref.image, exc_info=error)
    first_line = (str(error).splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first_line}"


def thresholds_of(card: Card, min_score: float | None) -> dict[str, float]:
    """Score from which each class is counted: the card's, or one for all."""
    return {c.id: card.threshold_of(c.id) if min_score is None else min_score for c in card.classes}


def fingerprint(
    settings: AnalyzeSettings,
    detector: FieldDetector,
    weights_sha256: str,
    classifier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that decides the numbers, for the journal.

    Args:
        settings: as asked.
        detector: as loaded.
        weights_sha256: of the detector's weight file.
        classifier: all that decides the types, JSON-ready, None where cells stay untyped.
    """
    engine = detector.engine
    fields = settings.fingerprint_fields()
    fields.update(
        detector=engine.card.name,
        detector_sha256=weights_sha256,
        engine=engine.name,
        device=engine.device.partition(":")[0],
        precision=engine.precision,
        batch_size=engine.batch_size,
        refine_steps=engine.card.refinement.steps,
        classes=[c.id for c in engine.card.classes],
        thresholds=thresholds_of(engine.card, settings.min_score),
        version=__version__,
    )
    stain = load_stain_reference(settings.stain_reference)
    fields["stain_reference"] = None if stain is None else stain.facts()  # not a path
    if classifier is not None:
        fields["classifier"] = dict(classifier)  # not the name or path that was asked for
    return fields


class Store(Protocol):
    """Where measured scales are kept; the journal is one."""

    def get_value(self, name: str) -> Json:
        """The value of that name, or None."""
        ...

    def set_value(self, name: str, value: Json, forget: Iterable[str] = ()) -> None:
        """Keeps a value, and drops the results of images that do not hold with it."""
        ...


@dataclass(frozen=True, slots=True)
class _Measured:
    """A slide's scale factor, None for too few red cells, and the fields that tell it."""

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
    """The scale factor of every slide without known µm/px, measured once and kept.

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
        store: Store,
        max_pixels: int,
    ) -> None:
        self._by_slide: dict[str, list[ImageRef]] = {}
        for ref in refs:
            if ref.um_per_px is None:
                self._by_slide.setdefault(ref.slide, []).append(ref)
        self._detector, self._store, self._max_pixels = detector, store, max_pixels
        self._known: dict[str, float | None] = {}

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
                changed.append(slide)
        return changed

    def known(self) -> dict[str, Json]:
        """What is kept of the slides, by the names it is kept under."""
        kept = {name: self._store.get_value(name) for name in map(_name, self._by_slide)}
        return {name: value for name, value in kept.items() if value is not None}

    def factor(self, slide: str, at_hand: Loaded) -> float | None:
        """The slide's factor, None where its sampled fields show too few red cells.

        ``at_hand`` is one of the slide's images, not read again if it is sampled.
        """
        if slide not in self._known:
            measured = _Measured.of_json(self._store.get_value(_name(slide)))
            if measured is None:
                measured = self._measure(slide, at_hand)
                self._store.set_value(_name(slide), measured.as_json())
            self._known[slide] = measured.factor
        return self._known[slide]

    def _holds(self, measured: _Measured, slide: str) -> bool:
        by_image = {ref.image: ref for ref in self._by_slide[slide]}
        if measured.factor is None and measured.sample.keys() != {
            ref.image for ref in self._sample(slide)
        }:
            return False
        return all(
            image in by_image and still_holds(key, by_image[image])
            for image, key in measured.sample.items()
        )

    def _sample(self, slide: str) -> list[ImageRef]:
        refs = self._by_slide[slide]
        return [refs[index] for index in sample_evenly(len(refs))]

    def _measure(self, slide: str, at_hand: Loaded | None) -> _Measured:
        sample, diameters = {}, []
        for ref in self._sample(slide):
            same = at_hand is not None and ref.image == at_hand.ref.image
            loaded = at_hand if same and at_hand is not None else load_any(ref, self._max_pixels)
            sample[ref.image] = loaded.file_key
            for pixels in _sample_fields(loaded):
                diameter = red_cell_diameter_px(self._detector.engine, pixels)
                if diameter is not None:
                    diameters.append(diameter)
        logger.debug("slide %s: red cells of %s px", slide, diameters)
        if not diameters:
            return _Measured(None, sample)
        rbc_diameter_px = self._detector.engine.card.rbc_diameter_px
        return _Measured(factor_from_red_cells(diameters, rbc_diameter_px), sample)


def _name(slide: str) -> str:
    return f"{SCALE_PREFIX}{slide}"


def _sample_fields(loaded: Loaded) -> Sequence[NDArray[np.uint8]]:
    """What red cells are measured on: a field, the sample fields of a scan, or nothing."""
    if loaded.scan is None:
        return () if loaded.picture is None else (loaded.picture.pixels,)
    try:
        return survey(loaded.scan).fields
    except CellcountError:  # its own row will say so
        return ()


class Pipeline:
    """Turns a loaded image into its result.

    Args:
        detector: the model on whole fields.
        settings: what decides the numbers.
        scales: factors of slides without known µm/px.
        typer: gives the cells their types, None where they stay untyped.
        tell: called within images that take long, between the windows of a scan, with the share
            that is done; ends the work by raising what is no ``Exception``.
    """

    def __init__(
        self,
        detector: FieldDetector,
        settings: AnalyzeSettings,
        scales: SlideScales,
        typer: CellTyper | None = None,
        tell: Tell = lambda share: None,
    ) -> None:
        self._detector, self._settings, self._scales = detector, settings, scales
        self._typer, self._tell = typer, tell
        self._stain = load_stain_reference(settings.stain_reference)
        card = detector.engine.card
        chosen = thresholds_of(card, settings.min_score)
        self.classes: tuple[CellClass, ...] = card.classes
        self._thresholds: NDArray[np.float32] = np.array(
            [chosen[c.id] for c in card.classes], np.float32
        )

    def analyze(self, loaded: Loaded) -> ImageResult:
        """The result of one image, a failed one included."""
        ref, source = loaded.ref, loaded.scan or loaded.picture
        if source is None:
            return ImageResult(ref, "failed", loaded.reason)
        um_per_px = ref.um_per_px or source.um_per_px
        size = (source.width_px, source.height_px)
        try:
            factor = self.factor(loaded)
            stained, stain_caution = self._restained(source)
            by = self._settings.stain_for
            found = self._detect(source if by == "classifier" else stained, factor or 1.0)
            quality = self._quality(source, factor or 1.0)
            cells = cells_from_detections(
                found.detections,
                *size,
                thresholds=self._thresholds,
                edge_rule=self._settings.edge_rule,
            )
            cells = self._typed(source if by == "detector" else stained, cells, factor or 1.0)
        except Exception as error:  # noqa: BLE001 -- one image never ends a batch
            return ImageResult(ref, "failed", reason_of(error, ref), *size, um_per_px)
        cautions = [SCALE_CAUTION] if factor is None else []
        cautions += [CAP_CAUTION] if found.capped else []
        if found.short_of_memory:
            cautions.append(MEMORY_CAUTION.format(found.short_of_memory))
        cautions += [] if len(cells) else [EMPTY_CAUTION]
        cautions += [stain_caution] if stain_caution else []
        facts = (*size, um_per_px, factor or 1.0)
        return ImageResult(ref, "done", "; ".join(cautions), *facts, cells, quality)

    def _restained(self, source: Picture | Scan) -> tuple[Picture | Scan, str]:
        """A field with the dyes of the reference where one was asked for, and why not if not."""
        if self._stain is None:
            return source, ""
        if not isinstance(source, Picture):
            return source, SCAN_STAIN_CAUTION
        pixels, done = with_dyes(source.pixels, self._stain.dyes)
        return replace(source, pixels=pixels), "" if done else STAIN_CAUTION

    def _detect(self, source: Picture | Scan, factor: float) -> Found:
        """What is detected on a field or a scan."""
        if isinstance(source, Picture):
            return self._detector.detect(source.pixels, factor)
        gains = survey(source).gains
        return detect_on_scan(self._detector, source, factor, gains, tell=self._tell)

    def _quality(self, source: Picture | Scan, factor: float) -> Quality:
        """How good a field or a scan is, as it was read."""
        target = self._detector.engine.card.rbc_diameter_px
        if isinstance(source, Picture):
            return measure_quality(source.pixels, factor, target)
        return survey_quality(survey(source).fields, factor, target)

    def _typed(self, source: Picture | Scan, cells: Cells, factor: float) -> Cells:
        """The cells with their types, where a classifier runs."""
        if self._typer is None:
            return cells
        if isinstance(source, Picture):
            types = self._typer.type_cells(source.pixels, cells, factor)
        else:
            types = self._typer.type_on_scan(source, cells, factor)
        return replace(cells, types=types)

    def factor(self, loaded: Loaded) -> float | None:
        """What the image's pixels are multiplied by before detection, None where unknown."""
        source = loaded.scan or loaded.picture
        assert source is not None, f"{loaded.ref.image} could not be read"
        um_per_px = loaded.ref.um_per_px or source.um_per_px
        if um_per_px is not None:
            target = self._detector.engine.card.rbc_diameter_px
            return factor_from_um_per_px(um_per_px, target)
        return self._scales.factor(loaded.ref.slide, loaded)
