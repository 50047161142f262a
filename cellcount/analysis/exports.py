"""What a run writes besides its own tables, and under which names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellcount.core.records import CellClass, ImageRef, ImageResult, path_order
from cellcount.images.find import Plan
from cellcount.outputs.image_exports import (
    write_geojson,
    write_voc_annotations,
    write_yolo_labels,
)
from cellcount.outputs.parquet import check_parquet, is_parquet
from cellcount.outputs.pseudonyms import Pseudonyms, check_key_place
from cellcount.outputs.run_record import NotDone
from cellcount.settings import OutputSettings

Results = Callable[[], Iterator[ImageResult]]


def write_exports(
    output: OutputSettings,
    results: Results,
    classes: Sequence[CellClass],
    types: Sequence[CellClass],
    profile: str,
) -> None:
    """Write the cells for other programs, a file per image, as far as they were asked for.

    Raises:
        OutputError: a file cannot be written.
    """
    if output.geojson is not None:
        write_geojson(output.geojson, results(), classes, types, profile)
    if output.yolo is not None:
        write_yolo_labels(output.yolo, results, classes, types, profile)
    if output.voc is not None:
        write_voc_annotations(output.voc, results, classes, types, profile)


def check_forms(tables: Iterable[Path]) -> None:
    """Find out before hours of work that a table cannot be written in the form of its name.

    Raises:
        UsageError: it is to be Parquet, and pyarrow is not there.
    """
    if any(is_parquet(path) for path in tables):
        check_parquet()


class Names:
    """What images, slides and specimens are called in the outputs: as they are, or by codes.

    Args:
        output: where the results go.
        files: every single file that the run writes.

    Raises:
        UsageError: the key file lies among the outputs, or is something else.
    """

    def __init__(self, output: OutputSettings, files: Iterable[Path]) -> None:
        self._key_file = output.pseudonymize
        self._codes: Pseudonyms | None = None
        if self._key_file is not None:
            check_key_place(self._key_file, files, output.folders)
            self._codes = Pseudonyms.open(self._key_file)

    def keep(self, refs: Iterable[ImageRef] = (), *texts: str) -> None:
        """Write the key file, before anything carries a code.

        Args:
            refs: images whose names get codes.
            texts: others that get one, as `text` gives it.

        Raises:
            OutputError: it cannot be written.
        """
        if self._codes is None or self._key_file is None:
            return
        known = len(self._codes.names)
        self._codes.learn(refs)
        for text in texts:
            self._codes.text(text)
        if len(self._codes.names) > known or not self._key_file.is_file():
            self._codes.save(self._key_file)

    def text(self, text: str) -> str:
        """A text that may tell names, such as the name of another file."""
        return text if self._codes is None else self._codes.text(text)

    def ordered(self, refs: Sequence[ImageRef]) -> Sequence[ImageRef]:
        """The order of the tables: by name; that of the codes tells nothing of the names."""
        codes = self._codes
        if codes is None:
            return refs
        return sorted(refs, key=lambda ref: path_order(codes.image(ref.image)))

    def image(self, image: str) -> str:
        """What an image is called."""
        return image if self._codes is None else self._codes.image(image)

    def result(self, result: ImageResult) -> ImageResult:
        """A result as it is told."""
        return result if self._codes is None else self._codes.result(result)

    def inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """The INPUT arguments as run.json tells them."""
        return inputs if self._codes is None else [self._codes.image(text) for text in inputs]

    def settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as run.json tells them: a pattern of paths may name people, too."""
        pattern = settings.get("slide_from")
        return {**settings, "slide_from": None if pattern is None else self.text(pattern)}

    def passed_over(self, plan: Plan) -> list[NotDone]:
        """What lay in the inputs and got no row."""
        name = str if self._codes is None else self._codes.image
        return [NotDone(name(str(p.path)), "passed over", p.reason) for p in plan.passed_over]
