"""A finished run for programs and notebooks: tables as data frames, pictures on demand."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.analysis.drawing import Drawings
from cellcount.analysis.stored_results import StoredResults, journal_of, stored_results
from cellcount.core.records import ImageResult
from cellcount.errors import CellcountError, ImageError, UsageError
from cellcount.images.tiff_windows import Rect
from cellcount.outputs.data_frames import frame_of
from cellcount.outputs.forms import BUILT_IN, COUNTS, table_of
from cellcount.outputs.notebook_summary import refusal_html, summary_html, summary_line
from cellcount.outputs.pictures.cell_crops import crops_of

if TYPE_CHECKING:
    import pandas as pd

Box = tuple[int, int, int, int]
_TABLES = {COUNTS.name: COUNTS, "cells": BUILT_IN["cells"], "slides": BUILT_IN["slides"]}


class Results:
    """Results of a run: what its tables and pictures tell.

    The run is opened for as long as something is read, so that others may review it meanwhile; what
    they corrected is told from then on. In a notebook it shows its differentials.

    Args:
        path: counts.csv of the run, or what else belongs to it.
        notes: what a person must know of the analysis, in a sentence each.

    Raises:
        UsageError: there is no run.
    """

    def __init__(self, path: Path, notes: Sequence[str] = ()) -> None:
        self.notes = tuple(notes)
        self._journal = journal_of(path.absolute())
        self._seen: list[int] = []
        self._frames: dict[str, pd.DataFrame] = {}

    def check(self) -> None:
        """Raise if the run cannot be read.

        Raises:
            UsageError: the key of its codes is gone.
            JournalError: it is in use, damaged, or of another version of cellcount.
        """
        with self._opened():
            pass

    @property
    def fields(self) -> pd.DataFrame:
        """The table of ``--out``: a row per image. Each call gives a frame of your own."""
        return self._table(COUNTS.name)

    @property
    def cells(self) -> pd.DataFrame:
        """The table of ``--cells``: a row per cell. Each call gives a frame of your own."""
        return self._table("cells")

    @property
    def slides(self) -> pd.DataFrame:
        """The table of ``--slides``: a row per figure. Each call gives a frame of your own.

        Raises:
            UsageError: the profile does not fit the models, so that it would mislead.
        """
        with self._opened() as stored:
            if stored.run.facts.counting.misfit:
                raise UsageError(stored.run.facts.counting.misfit)
        return self._table("slides")

    def pixels(self, image: str, box: Box | None = None) -> NDArray[np.uint8]:
        """Read an image: uint8 (height, width, 3), RGB, upright.

        Args:
            image: as the column ``image`` calls it.
            box: left, upper, right and lower side of a part of it, in pixels; None for all of it.

        Raises:
            UsageError: the run has no such image, or the box does not lie in it.
            ImageError: it cannot be read any more, or is too large to be read whole.
        """
        with self._opened() as stored:
            source = stored.source(_result_of(stored, image))
        if box is None and source.picture is None:
            width, height = source.size_px
            raise ImageError(
                f"{image} is a whole slide of {width:,} x {height:,} px; name a part of it, for "
                "example box=(0, 0, 2000, 2000)"
            )
        left, upper, right, lower = box or (0, 0, *source.size_px)
        width, height = source.size_px
        if not (0 <= left < right <= width and 0 <= upper < lower <= height):
            raise UsageError(
                f"box is {box}, expected (left, upper, right, lower) within the {width} x {height} "
                f"px of {image}"
            )
        return np.array(source.read(Rect(left, upper, right - left, lower - upper)))

    def drawing(self, image: str) -> Image.Image:
        """Draw an image with its cells outlined, as ``--annotated`` does.

        Args:
            image: as the column ``image`` calls it.

        Raises:
            UsageError: the run has no such image, or no result of it.
            ImageError: it cannot be read any more, or is too large to be drawn.
        """
        with self._opened() as stored:
            result = _result_of(stored, image)
            if result.status != "done":
                raise UsageError(f"{image} is {result.status}: {result.reason}; nothing to draw")
            picture = stored.source(result).picture
            if picture is None:
                raise ImageError(
                    f"{image} is a whole slide, too large to be drawn; --geojson and geojson= "
                    "write its cells for QuPath"
                )
            outputs = stored.outputs.reviewed_by(stored.reviews())
            page = Drawings(outputs, lambda _note: None).page(picture, outputs.final(result))
            return Image.fromarray(page)

    def crop(self, image: str, cell: int) -> Image.Image:
        """Cut out a cell, with corners drawn around it, as ``review export`` does.

        Args:
            image: as the column ``image`` calls it.
            cell: as the column ``cell`` counts it.

        Raises:
            UsageError: there is no such image or cell.
            ImageError: the image cannot be read any more.
        """
        with self._opened() as stored:
            result = _result_of(stored, image)
            places = [p for p in range(len(result.cells)) if result.cells.number_of(p) == cell]
            if not places:
                raise UsageError(
                    f"cell is {cell}, but {image} has no such cell; the column cell of cells "
                    "counts them"
                )
            boxes = result.cells.detections.boxes_xyxy[places]
            ((_, crop),) = crops_of(stored.source(result), boxes)
            return crop

    @contextmanager
    def _opened(self) -> Iterator[StoredResults]:
        """Open the run under its lock, and drop cached frames if it has changed."""
        with stored_results(self._journal) as stored:
            state = self._journal.stat()
            now = [state.st_mtime_ns, state.st_size, *stored.journal.said()]
            if now != self._seen:
                self._frames.clear()
                self._seen = now
            yield stored

    def _table(self, name: str) -> pd.DataFrame:
        with self._opened() as stored:
            if name not in self._frames:
                self._frames[name] = frame_of(table_of(_TABLES[name], stored.contents()))
        return self._frames[name].copy()

    def __repr__(self) -> str:
        try:
            with self._opened() as stored:
                told = summary_line(stored.contents()["final"])
        except CellcountError as error:
            told = str(error)
        return f"<cellcount.Results: {told}>"

    def _repr_html_(self) -> str:
        try:
            with self._opened() as stored:
                return summary_html(stored.contents()["final"], self.notes)
        except CellcountError as error:
            return refusal_html(str(error))


def _result_of(stored: StoredResults, image: str) -> ImageResult:
    """The result of an image that goes by a name in the outputs.

    Raises:
        UsageError: there is none.
    """
    refs = stored.by_name()
    if image not in refs:
        near = difflib.get_close_matches(image, refs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "the column image of fields names them"
        raise UsageError(f"{image!r} is no image of this run; {hint}")
    result = next(stored.unnamed([refs[image]]), None)
    if result is None:
        raise UsageError(f"{image!r} has no result yet; give the same analyze again to go on")
    return result
