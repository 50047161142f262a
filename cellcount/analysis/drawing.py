"""The annotated pictures of a run: which images are drawn, under which name, with which types.

A scan is too large for a picture: its cells are written as GeoJSON in its place, which QuPath draws
on the scan itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cellcount.analysis.load import Loaded
from cellcount.analysis.local import Work
from cellcount.analysis.run_outputs import Telling
from cellcount.core.cells import with_reviews
from cellcount.core.records import ImageResult
from cellcount.outputs.image_exports import write_geojson
from cellcount.outputs.pictures.annotate import annotated_path, mirrored_path, write_annotated


class Drawings:
    """The pictures that a run draws; it has a folder for them.

    Args:
        telling: says where they lie, and what images and types are called.
        note: called with a line for the person who waits.
    """

    def __init__(self, telling: Telling, note: Callable[[str], None]) -> None:
        self._telling, self._note = telling, note

    @property
    def _folder(self) -> Path:
        folder = self._telling.output.annotated
        assert folder is not None, "a run without pictures draws none"
        return folder

    def _paths(self, result: ImageResult) -> tuple[Path, Path]:
        """Where the picture of an image would lie, and its GeoJSON where it is a scan."""
        name = self._telling.names.image(result.ref.image)
        return annotated_path(self._folder, name), mirrored_path(self._folder, name, ".geojson")

    def exists(self, result: ImageResult) -> bool:
        """Whether an image is drawn already."""
        return any(path.exists() for path in self._paths(result))

    def remove(self, result: ImageResult) -> None:
        """Remove what was drawn of an image, if anything was."""
        for path in self._paths(result):
            path.unlink(missing_ok=True)

    def is_drawn(self, result: ImageResult) -> bool:
        """Failed images have no picture; ``flagged`` are done images with a caution."""
        wanted = self._telling.output.annotate == "all" or bool(result.reason)
        return result.status == "done" and wanted

    def work(self, loaded: Loaded, result: ImageResult) -> Work:
        """The work of drawing one image, or of removing its picture where none is wanted."""
        source = self._telling.source
        final = with_reviews(result, [t.id for t in source.types])
        if loaded.source is None or not self.is_drawn(result):
            # Drawn from an earlier result, perhaps: no picture may contradict the tables.
            return partial(self.remove, result)
        if loaded.picture is None:
            return partial(self._write_geojson, final)
        return partial(
            write_annotated,
            self._paths(result)[0],
            loaded.picture,
            final.cells,
            source.counting.classes,
            self._title(result),
            source.types,
        )

    def _write_geojson(self, result: ImageResult) -> None:
        picture, geojson = self._paths(result)
        source, named = self._telling.source, self._telling.names.result(result)
        counting = source.counting
        write_geojson(self._folder, [named], counting.classes, source.types, counting.label)
        picture.unlink(missing_ok=True)
        self._note(f"{named.ref.image} is too large to draw: {geojson} has its cells, for QuPath")

    def _title(self, result: ImageResult) -> str:
        """What a picture is called; one of a forced profile says so, as every output does."""
        counting = self._telling.source.counting
        name = self._telling.names.image(result.ref.image)
        return f"{name}, {counting.label}" if counting.rules.forced else name
