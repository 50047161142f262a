"""The pipeline: image → scale → tiles → detections → cells → types, one image at a time.

Runners decide where it runs and in which order; a result depends on the image, its slide's scale
and the settings alone.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in original pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellcount import __version__
from cellcount.cells import cells_from_detections
from cellcount.engines.cell_types import CellTyper
from cellcount.engines.field import FieldDetector
from cellcount.engines.red_cells import red_cell_diameter_px
from cellcount.errors import CellcountError
from cellcount.images.quality import measure_quality
from cellcount.images.read import read_image
from cellcount.images.scale import factor_from_red_cells, factor_from_um_per_px, sample_evenly
from cellcount.journal import Json, key_of
from cellcount.models.card import Card
from cellcount.records import CellClass, ImageRef, ImageResult, Picture
from cellcount.settings import AnalyzeSettings

logger = logging.getLogger(__name__)

#: Cautions: the ``reason`` of a done image that a person should look at.
SCALE_CAUTION = "scale unknown: too few red cells seen, analysed as it is"
CAP_CAUTION = "more cells than the model's limit in one tile: counts may be too low"
EMPTY_CAUTION = "no cells found"


@dataclass(frozen=True, eq=False, slots=True)
class Loaded:
    """One image read from disk, or the reason why it could not be.

    Attributes:
        ref: who it is.
        file_key: state of the file just before it was read.
        picture: its pixels, None when reading failed.
        reason: why reading failed, else "".
    """

    ref: ImageRef
    file_key: str
    picture: Picture | None
    reason: str = ""


def load(ref: ImageRef, max_pixels: int) -> Loaded:
    """Reads one image, in any thread; a failure becomes its reason."""
    file_key = key_of(ref)
    try:
        return Loaded(ref, file_key, read_image(ref, max_pixels=max_pixels))
    except Exception as error:  # noqa: BLE001 -- one image never ends a batch
        return Loaded(ref, file_key, None, reason_of(error, ref))


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
    if classifier is not None:
        fields["classifier"] = dict(classifier)  # not the name or path that was asked for
    return fields


class Store(Protocol):
    """Where measured scales are kept; the journal is one."""

    def get_value(self, name: str) -> Json:
        """The value of that name, or None."""
        ...

    def set_value(self, name: str, value: Json) -> None:
        """Keeps a value."""
        ...


class SlideScales:
    """The scale factor of every slide without known µm/px, measured once and kept.

    A slide that grows keeps the factor it has, so that all its images are treated alike; only a
    slide where none could be measured is looked at again.

    Args:
        refs: all images of the run, so that a slide's sample never depends on what is done.
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
            self._by_slide.setdefault(ref.slide, []).append(ref)
        self._detector, self._store, self._max_pixels = detector, store, max_pixels
        self._known: dict[str, float | None] = {}

    def factor(self, slide: str, at_hand: Loaded) -> float | None:
        """The slide's factor, None where its sampled fields show too few red cells.

        ``at_hand`` is one of the slide's images, not read again if it is sampled.
        """
        if slide not in self._known:
            stored = self._store.get_value(f"scale:{slide}")
            factor = float(stored) if isinstance(stored, int | float) else None
            if factor is None:
                factor = self._measure(slide, at_hand)
                if factor is not None:
                    self._store.set_value(f"scale:{slide}", factor)
            self._known[slide] = factor
        return self._known[slide]

    def _measure(self, slide: str, at_hand: Loaded) -> float | None:
        refs = [r for r in self._by_slide[slide] if r.um_per_px is None]
        diameters = []
        for index in sample_evenly(len(refs)):
            same = refs[index].image == at_hand.ref.image
            loaded = at_hand if same else load(refs[index], self._max_pixels)
            if loaded.picture is None:
                continue
            diameter = red_cell_diameter_px(self._detector.engine, loaded.picture.pixels)
            if diameter is not None:
                diameters.append(diameter)
        logger.debug("slide %s: red cells of %s px", slide, diameters)
        if not diameters:
            return None
        return factor_from_red_cells(diameters, self._detector.engine.card.rbc_diameter_px)


class Pipeline:
    """Turns a loaded image into its result.

    Args:
        detector: the model on whole fields.
        settings: what decides the numbers.
        scales: factors of slides without known µm/px.
        typer: gives the cells their types, None where they stay untyped.
    """

    def __init__(
        self,
        detector: FieldDetector,
        settings: AnalyzeSettings,
        scales: SlideScales,
        typer: CellTyper | None = None,
    ) -> None:
        self._detector, self._settings, self._scales = detector, settings, scales
        self._typer = typer
        card = detector.engine.card
        chosen = thresholds_of(card, settings.min_score)
        self.classes: tuple[CellClass, ...] = card.classes
        self._thresholds: NDArray[np.float32] = np.array(
            [chosen[c.id] for c in card.classes], np.float32
        )

    def analyze(self, loaded: Loaded) -> ImageResult:
        """The result of one image, a failed one included."""
        ref, picture = loaded.ref, loaded.picture
        if picture is None:
            return ImageResult(ref, "failed", loaded.reason)
        um_per_px = ref.um_per_px or picture.um_per_px
        size = (picture.width_px, picture.height_px)
        try:
            factor = self.factor(loaded)
            found = self._detector.detect(picture.pixels, factor or 1.0)
            cells = cells_from_detections(
                found.detections,
                *size,
                thresholds=self._thresholds,
                edge_rule=self._settings.edge_rule,
            )
            if self._typer is not None:
                types = self._typer.type_cells(picture.pixels, cells, factor or 1.0)
                cells = replace(cells, types=types)
            target = self._detector.engine.card.rbc_diameter_px
            quality = measure_quality(picture.pixels, factor or 1.0, target)
        except Exception as error:  # noqa: BLE001 -- one image never ends a batch
            return ImageResult(ref, "failed", reason_of(error, ref), *size, um_per_px)
        cautions = [SCALE_CAUTION] if factor is None else []
        cautions += [CAP_CAUTION] if found.capped else []
        cautions += [] if len(cells) else [EMPTY_CAUTION]
        facts = (*size, um_per_px, factor or 1.0)
        return ImageResult(ref, "done", "; ".join(cautions), *facts, cells, quality)

    def factor(self, loaded: Loaded) -> float | None:
        """What the image's pixels are multiplied by before detection, None where unknown."""
        assert loaded.picture is not None, f"{loaded.ref.image} could not be read"
        um_per_px = loaded.ref.um_per_px or loaded.picture.um_per_px
        if um_per_px is not None:
            target = self._detector.engine.card.rbc_diameter_px
            return factor_from_um_per_px(um_per_px, target)
        return self._scales.factor(loaded.ref.slide, loaded)
