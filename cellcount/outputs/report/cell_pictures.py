"""Choice of the cells and fields that the report shows, and their pictures within a budget.

Nothing but the least sure cells of each type is kept while results stream by; the images that
hold them are read again one at a time. One that is gone or has changed leaves a placeholder.

Shapes: N cells of one image; boxes are float32 ``(N, 4)`` xyxy in pixels of the original image.
"""

from __future__ import annotations

import heapq
import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import ImageResult, Status
from cellcount.differential.field_quality import measures_of
from cellcount.errors import ImageError
from cellcount.files.html import data_url
from cellcount.images.source import Source, open_source
from cellcount.images.tiff_windows import Rect
from cellcount.images.windows import window
from cellcount.outputs.pictures.annotate import annotate
from cellcount.outputs.run_content import Labels

_MOST_CELLS, _CELLS_PER_TYPE, _LEAST_PER_TYPE = 240, 12, 4
_CELL_PX, _CELL_QUALITY = 96, 85
_AROUND = 1.4  # side of a crop over that of the cell's box
_MARGIN_PX = 16  # what resampling may look at beyond a crop
_MOST_FIELDS, _FIELD_PX, _FIELD_QUALITY = 20, 720, 78
_FIELDS_BYTES = 6_000_000
_MEASURED = re.compile(r"(\w+) \S+ (is below|is above) the profile's")


@dataclass(frozen=True, slots=True)
class ShownCell:
    """A cell of the gallery: where it is and how sure the model was.

    Attributes:
        image: identity of its image.
        cell: its place among the cells that count, from 0.
        prob: of its type, or the detector's score where no classifier ran.
        second: index of the next likely type, -1 where there is none.
        second_prob: of that one.
        reviewer: who gave it its type, "" where the model did.
        number: its rank in cells.csv.
    """

    image: str
    cell: int
    prob: float
    second: int = -1
    second_prob: float = 0.0
    reviewer: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Flagged:
    """A field that a person should look at."""

    image: str
    status: Status
    reason: str

    @property
    def kind(self) -> str:
        """The reason without the number measured on this very field."""
        return _MEASURED.sub(r"\1 \2 the profile's", self.reason)


@dataclass
class ReportSelection:
    """Cells and fields worth showing, of the results added so far.

    Attributes:
        groups: number of types with, last, the unclassified; of the detector's classes where no
            classifier ran.
        typed: cells are grouped by type.
        flagged: failed and excluded fields, and those with a caution.
        counts: cells of each group.
        densest: most cells on one field.
        measures: of the quality of fields, as far as they are known.
    """

    groups: int
    typed: bool
    flagged: list[Flagged] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    densest: int = 0
    measures: dict[str, list[float]] = field(default_factory=dict)
    _least: dict[int, list[tuple[float, int, ShownCell]]] = field(default_factory=dict)
    _seen: int = 0

    def add(self, result: ImageResult) -> None:
        """One more result."""
        if result.status == "outstanding":  # nothing is known of it
            return
        if result.reason or result.status != "done":
            self.flagged.append(Flagged(result.ref.image, result.status, result.reason))
        for name, value in measures_of(result).items():
            if value is not None:
                self.measures.setdefault(name, []).append(value)
        self.densest = max(self.densest, len(result.cells))
        group, sureness = self._grouped(result)
        said = result.cells.types
        for number in np.unique(group[group >= 0]).tolist():
            members = np.flatnonzero(group == number)
            self.counts[number] += len(members)
            order = np.argsort(sureness[members], kind="stable")[: self.per_group]
            for cell in members[order].tolist():
                second = (-1, 0.0)
                if self.typed and said is not None:
                    second = (int(said.second[cell]), float(said.second_prob[cell]))
                reviewer = result.reviewed[cell].reviewer if cell in result.reviewed else ""
                number_there = result.cells.number_of(cell)
                facts = (float(sureness[cell]), *second, reviewer, number_there)
                self._keep(number, ShownCell(result.ref.image, cell, *facts))

    @property
    def per_group(self) -> int:
        """Cells shown of each group."""
        return min(_CELLS_PER_TYPE, max(_LEAST_PER_TYPE, _MOST_CELLS // max(1, self.groups)))

    def least_sure(self) -> dict[int, list[ShownCell]]:
        """Group → its cells to show, least sure first."""
        return {
            number: [cell for _, _, cell in sorted(kept, key=lambda k: (-k[0], -k[1]))]
            for number, kept in sorted(self._least.items())
        }

    def fields(self) -> list[Flagged]:
        """Flagged fields to draw: of every reason the first, then the second, and so on."""
        ranks, ranked = Counter[tuple[Status, str]](), list[tuple[int, int, Flagged]]()
        for order, one in enumerate(self.flagged):
            if one.status != "failed":  # there is no picture of these
                ranked.append((ranks[one.status, one.kind], order, one))
                ranks[one.status, one.kind] += 1
        chosen = heapq.nsmallest(_MOST_FIELDS, ranked, key=lambda r: r[:2])
        return [one for _, _, one in sorted(chosen, key=lambda r: r[1])]

    def _grouped(self, result: ImageResult) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Group of each of the N cells, -1 for none, and how sure the model was."""
        cells = result.cells
        if not self.typed:
            scores = cells.detections.scores
            return cells.detections.labels, np.where(np.isnan(scores), np.float32(1), scores)
        if cells.types is None:
            return np.full(len(cells), -1, np.int64), np.zeros(len(cells), np.float32)
        doubtful = (cells.types.best >= 0) & ~cells.types.accepted
        prob = np.where(np.isnan(cells.types.prob), np.float32(1), cells.types.prob)  # reviewed
        return np.where(doubtful, self.groups - 1, cells.types.best), prob

    def _keep(self, number: int, cell: ShownCell) -> None:
        """Keep a cell as long as it is among the least sure; of equal ones the first seen."""
        kept, self._seen = self._least.setdefault(number, []), self._seen + 1
        entry = (-cell.prob, -self._seen, cell)
        if len(kept) < self.per_group:
            heapq.heappush(kept, entry)
        elif entry[:2] > kept[0][:2]:
            heapq.heapreplace(kept, entry)


@dataclass
class Pictures:
    """Addresses of the cell and field pictures that could be made.

    Attributes:
        cells: image and rank of a cell → its crop.
        fields: image → the field with its cells outlined.
    """

    cells: dict[tuple[str, int], str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


def make_pictures(
    results: Iterable[ImageResult],
    selection: ReportSelection,
    labels: Labels,
    max_pixels: int,
) -> Pictures:
    """Read each image with selected cells once, and cut and draw their pictures.

    Args:
        results: of the run, that was selected from.
        selection: what to show.
        labels: what cells may be called.
        max_pixels: largest image that is read.
    """
    crops: dict[str, list[int]] = {}
    for shown in selection.least_sure().values():
        for cell in shown:
            crops.setdefault(cell.image, []).append(cell.cell)
    fields = {one.image for one in selection.fields()}
    made, left = Pictures(), _FIELDS_BYTES
    for result in results:
        image = result.ref.image
        if image not in crops and image not in fields:
            continue
        source = _source_of(result, max_pixels)
        if source is None:
            continue
        for rank in crops.get(image, ()):
            made.cells[image, rank] = _crop(source, result.cells.detections.boxes_xyxy[rank])
        if image in fields and source.picture is not None:  # not too large to show whole
            page = annotate(source.picture, result.cells, labels, image, _FIELD_PX)
            address = _jpeg(Image.fromarray(page), _FIELD_QUALITY)
            left -= len(address)
            if left >= 0:
                made.fields[image] = address
    return made


def _source_of(result: ImageResult, max_pixels: int) -> Source | None:
    """The image as it was counted on; None where it cannot be had any more."""
    try:
        source = open_source(result.ref, max_pixels=max_pixels)
    except ImageError:
        return None
    return source if source.size_px == (result.width_px, result.height_px) else None


def _crop(source: Source, box_xyxy: NDArray[np.float32]) -> str:
    """The cell with its surroundings, of which only these are read; "" where they cannot be."""
    x_min, y_min, x_max, y_max = box_xyxy.tolist()
    centre = ((x_min + x_max) / 2, (y_min + y_max) / 2)
    side = _AROUND * max(x_max - x_min, y_max - y_min)
    reach = side + _MARGIN_PX
    left, top = (max(0, int(at - reach)) for at in centre)
    width, height = (
        min(length, start + int(2 * reach)) - start
        for length, start in zip(source.size_px, (left, top), strict=True)
    )
    try:
        pixels = source.read(Rect(left, top, width, height))
    except ImageError:
        return ""
    place = (centre[0] - left, centre[1] - top)
    shown = window(pixels, place, max(4.0, side), (_CELL_PX, _CELL_PX), "bicubic")
    return _jpeg(Image.fromarray(shown), _CELL_QUALITY)


def _jpeg(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return data_url(buffer.getvalue(), "image/jpeg")
