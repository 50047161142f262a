"""The pipeline: image → lit field → scale → tiles → detections → cells → types, one at a time.

Runners decide where it runs and in which order; a result depends on the image, its slide's scale
and the settings alone.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in original pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellcount.analysis.checked_scale import CheckedDetector
from cellcount.analysis.fingerprint import thresholds_of
from cellcount.analysis.load import Loaded, reason_of
from cellcount.analysis.near_copies import LEAST_CELLS, look_of
from cellcount.analysis.slide_scales import SlideScales, known_um_per_px
from cellcount.core.cells import cells_from_detections
from cellcount.core.records import CellClass, Cells, ImageResult, Picture, Quality
from cellcount.engines.cell_typer import CellTyper
from cellcount.engines.field_detector import FieldDetector, Found
from cellcount.engines.slide_detector import Tell
from cellcount.images.lit_field import LitField, lit_part
from cellcount.images.overlays import Overlay, find_overlay
from cellcount.images.quality import median_quality
from cellcount.images.source import Field, Source
from cellcount.images.stain import with_dyes
from cellcount.images.stain_reference import load_stain_reference
from cellcount.images.thumbnails import Thumbnails
from cellcount.settings import AnalyzeSettings

#: Cautions: the ``reason`` of a done image that a person should look at.
CAP_CAUTION = "more cells than the model's limit in one tile: counts may be too low"
MEMORY_CAUTION = "too little memory: analysed in tiles of {} px"
EMPTY_CAUTION = "no cells found"
INK_CAUTION = "a scale bar, caption or mark is drawn into the picture: nothing is counted on it"
LINES_CAUTION = "straight lines cross the picture (graticule, ruler): counts may be wrong"
STAIN_CAUTION = "stain not normalized: too little or too much of it, one colour, or uneven light"
SLIDE_STAIN_CAUTION = "stain not normalized: a scan is taken as it is"


class _Views(NamedTuple):
    """An image as each model gets it: as it was read, or with the dyes of the stain reference."""

    detector: Source
    classifier: Source
    caution: str = ""


class Pipeline:
    """Turns a loaded image into its result.

    Args:
        detector: the model on whole fields.
        settings: what decides the numbers.
        scales: of all images of the run.
        typer: gives the cells their types, None where they stay untyped.
        tell: called within images that take long, between the windows of a whole slide, with the
            share that is done; ends the work by raising what is no ``Exception``.
    """

    def __init__(
        self,
        detector: FieldDetector,
        settings: AnalyzeSettings,
        scales: SlideScales,
        typer: CellTyper | None = None,
        tell: Tell = lambda share: None,
    ) -> None:
        self._settings, self._typer = settings, typer
        self._detector = CheckedDetector(detector, scales, tell)
        self._stain = load_stain_reference(settings.stain_reference)
        card = detector.engine.card
        chosen = thresholds_of(card, settings.min_score)
        self.classes: tuple[CellClass, ...] = card.classes
        self._rbc_diameter_px = card.rbc_diameter_px
        self._thresholds: NDArray[np.float32] = np.array(
            [chosen[c.id] for c in card.classes], np.float32
        )

    def analyze(self, loaded: Loaded) -> ImageResult:
        """The result of one image, a failed one included."""
        ref, source = loaded.ref, loaded.source
        if source is None:
            return ImageResult(ref, "failed", loaded.reason)
        try:
            small = None if source.picture is None else Thumbnails(source.picture.pixels)
            seen, field = lit_part(source, small)
            views = self._views(seen)
            scale, found = self._detector.detect(loaded, views.detector)
            seen_small = small if field is None else None
            quality = self._quality(seen, field, scale.factor, seen_small)
            cells = self._counted(found, source.size_px, field)
            overlay = None
            if seen.picture is not None:
                overlay = find_overlay(seen.picture.pixels, seen_small)
            cells, on_ink = _without_ink(cells, overlay)
            cells = self._typed(views.classifier, cells, scale.factor)
        except Exception as error:  # noqa: BLE001 -- one image never ends a batch
            facts = (*source.size_px, known_um_per_px(ref, source))
            return ImageResult(ref, "failed", reason_of(error, ref), *facts)
        told = (*_cautions(found, cells), *_drawn(overlay, on_ink), views.caution, *source.cautions)
        cautions = (scale.caution, *told)
        reason = "; ".join(caution for caution in cautions if caution)
        facts = (*source.size_px, scale.um_per_px)
        look = look_of(small) if small is not None and len(cells) >= LEAST_CELLS else ""
        return ImageResult(ref, "done", reason, *facts, scale.factor, cells, quality, look=look)

    def _views(self, source: Source) -> _Views:
        """The image as each model sees it; only what is held whole can be given other dyes."""
        if self._stain is None:
            return _Views(source, source)
        if source.picture is None:
            return _Views(source, source, SLIDE_STAIN_CAUTION)
        pixels, done = with_dyes(source.picture.pixels, self._stain.dyes)
        restained, wanted_by = Field(Picture(pixels)), self._settings.stain_for
        return _Views(
            source if wanted_by == "classifier" else restained,
            source if wanted_by == "detector" else restained,
            "" if done else STAIN_CAUTION,
        )

    def _quality(
        self, seen: Source, field: LitField | None, factor: float, small: Thumbnails | None
    ) -> Quality:
        """The quality of what is lit of an image."""
        fields = seen.sample_fields()
        quality = median_quality(fields, factor, self._rbc_diameter_px, small)
        if field is None:
            return quality
        return replace(
            quality,
            stained_percent=min(100.0, quality.stained_percent / field.lit_share),
            clipped_percent=min(100.0, quality.clipped_percent / field.lit_share),
        )

    def _counted(self, found: Found, size_px: tuple[int, int], field: LitField | None) -> Cells:
        """The detections that are counted: by score, in the lit field, by the rule for its edge."""
        edge_rule = self._settings.edge_rule
        cells = cells_from_detections(
            found.detections, *size_px, thresholds=self._thresholds, edge_rule=edge_rule
        )
        if field is None:
            return cells
        boxes_xyxy = cells.detections.boxes_xyxy
        kept, (cut, cut_late) = field.holds(boxes_xyxy), field.cut(boxes_xyxy)
        if edge_rule == "two-sides":
            kept = kept & ~cut_late
        return Cells(cells.detections[kept], (cells.edge | cut)[kept])

    def _typed(self, source: Source, cells: Cells, factor: float) -> Cells:
        """The cells with their types, where a classifier runs."""
        if self._typer is None:
            return cells
        return replace(cells, types=self._typer.type_cells(source, cells, factor))


def _without_ink(cells: Cells, overlay: Overlay | None) -> tuple[Cells, int]:
    """Leave out detections on drawn overlays; return the others, and how many were left out."""
    if overlay is None:
        return cells, 0
    kept = ~overlay.under(cells.detections.boxes_xyxy)
    return Cells(cells.detections[kept], cells.edge[kept]), int((~kept).sum())


def _drawn(overlay: Overlay | None, on_ink: int) -> Iterator[str]:
    """Cautions about scale bars, captions and lines that are drawn on the picture."""
    if overlay is not None and (overlay.has_bar or on_ink):
        yield INK_CAUTION
    if overlay is not None and overlay.has_lines:
        yield LINES_CAUTION


def _cautions(found: Found, cells: Cells) -> Iterator[str]:
    """Cautions about the cells found."""
    if found.capped:
        yield CAP_CAUTION
    if found.short_of_memory:
        yield MEMORY_CAUTION.format(found.short_of_memory)
    if not len(cells):
        yield EMPTY_CAUTION
