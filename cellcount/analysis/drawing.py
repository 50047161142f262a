"""The annotated pictures of a run: which images are drawn, under which name, with which types.

A scan is too large for a picture: its cells are written as GeoJSON in its place, which QuPath draws
on the scan itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellcount.analysis.load import Loaded
from cellcount.analysis.local import Work
from cellcount.analysis.run_outputs import RunOutputs
from cellcount.core.records import ImageRef, ImageResult, Picture
from cellcount.outputs.geojson_export import write_geojson
from cellcount.outputs.pictures.annotate import (
    SUFFIXES,
    annotate,
    annotated_path,
    mirrored_path,
    write_annotated,
)
from cellcount.settings import PictureFormat


class Drawings:
    """The pictures that a run draws; it has a folder for them.

    Args:
        outputs: says where they lie, and what images and types are called.
        note: called with a line for the person who waits.
    """

    def __init__(self, outputs: RunOutputs, note: Callable[[str], None]) -> None:
        self._outputs, self._note = outputs, note

    @property
    def _folder(self) -> Path:
        folder = self._outputs.files.settings.annotated
        assert folder is not None, "a run without pictures draws none"
        return folder

    def _paths(self, result: ImageResult) -> tuple[Path, Path]:
        """Return the paths of an image's picture, and of its GeoJSON where it is a whole slide."""
        name, form = self._outputs.names.image(result.ref.image), self._form
        geojson = mirrored_path(self._folder, name, ".geojson")
        return annotated_path(self._folder, name, form), geojson

    @property
    def _form(self) -> PictureFormat:
        return self._outputs.files.settings.annotated_format

    def _in_other_forms(self, result: ImageResult) -> list[Path]:
        """List where an earlier run may have drawn an image in another form."""
        name = self._outputs.names.image(result.ref.image)
        return [annotated_path(self._folder, name, f) for f in SUFFIXES if f != self._form]

    def exists(self, result: ImageResult) -> bool:
        """Return whether an image is drawn already."""
        return any(path.exists() for path in self._paths(result))

    def remove(self, result: ImageResult) -> None:
        """Remove what was drawn of an image, if anything was."""
        for path in (*self._paths(result), *self._in_other_forms(result)):
            path.unlink(missing_ok=True)

    def is_drawn(self, result: ImageResult) -> bool:
        """Failed images have no picture; ``flagged`` are done images with a caution."""
        wanted = self._outputs.files.settings.annotate == "all" or bool(result.reason)
        return result.status == "done" and wanted

    def missing(self, results: Iterable[ImageResult]) -> list[ImageRef]:
        """List the images without their picture; that of an excluded one is removed."""
        missing = []
        for result in results:
            if result.status == "excluded":
                self.remove(result)  # drawn by another profile's thresholds
            elif self.is_drawn(result) and not self.exists(result):
                missing.append(result.ref)
        return missing

    def work(self, loaded: Loaded, result: ImageResult) -> Work:
        """The work of drawing one image, or of removing its picture where none is wanted."""
        if loaded.source is None or not self.is_drawn(result):
            # Drawn from an earlier result, perhaps: no picture may contradict the tables.
            return partial(self.remove, result)
        if loaded.picture is None:
            return partial(self._write_geojson, self._outputs.final(result))
        return partial(self._write, loaded.picture, self._outputs.final(result))

    def page(self, picture: Picture, final: ImageResult) -> NDArray[np.uint8]:
        """Draw an image with its cells, RGB ``(H, W, 3)``.

        Args:
            picture: the image as it was analysed.
            final: its result, with the types that count.
        """
        return annotate(picture, final.cells, self._outputs.facts.labels, self._title(final))

    def _write(self, picture: Picture, final: ImageResult) -> None:
        write_annotated(self._paths(final)[0], self.page(picture, final))
        for path in self._in_other_forms(final):
            path.unlink(missing_ok=True)

    def _write_geojson(self, result: ImageResult) -> None:
        picture, geojson = self._paths(result)
        named = self._outputs.names.result(result)
        write_geojson(self._folder, self._outputs.content(lambda: iter([named])))
        for path in (picture, *self._in_other_forms(result)):
            path.unlink(missing_ok=True)
        self._note(f"{named.ref.image} is too large to draw: {geojson} has its cells, for QuPath")

    def _title(self, result: ImageResult) -> str:
        """Return the title of a picture; one in doubt says so, as every output does."""
        counting = self._outputs.facts.counting
        name = self._outputs.names.image(result.ref.image)
        return f"{name}, {counting.label}" if counting.is_doubtful else name
