"""Rewriting of a run's outputs after corrections from a table or from the page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cellcount.analysis.drawing import Drawings
from cellcount.analysis.load import load
from cellcount.analysis.run_outputs import Written
from cellcount.analysis.stored_results import StoredResults
from cellcount.core.records import ImageRef
from cellcount.files.locks import locked
from cellcount.outputs.run_record import refresh_run_manifest
from cellcount.store.journal import Journal

_WRITTEN = "said in outputs"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Outputs that were written anew.

    Attributes:
        written: files and folders.
        not_drawn: images whose annotated picture could not be drawn again.
        notes: what a person must know besides, in a sentence each.
    """

    written: tuple[Path, ...]
    not_drawn: tuple[str, ...]
    notes: tuple[str, ...]


def rewrite_outputs(stored: StoredResults, refs: Iterable[ImageRef]) -> Rewritten:
    """Write every output of a run again, and the annotated pictures of some images.

    Args:
        stored: the run.
        refs: images that were corrected.

    Raises:
        OutputError: an output cannot be written.
    """
    said = stored.journal.said()
    with locked(stored.outputs.files.tables):
        written = stored.outputs.write(stored.journal, stored.results())
    not_drawn = _draw(stored, written, list(refs))
    record = _tell(stored, written)
    stored.journal.set_value(_WRITTEN, said)
    paths = (*written.tables, *stored.outputs.files.folders, *record)
    return Rewritten(paths, not_drawn, stored.outputs.notes(written))


def are_outputs_behind(journal: Journal) -> bool:
    """Return whether outputs lack corrections or remarks of people."""
    said = journal.said()
    return any(said) and journal.get_value(_WRITTEN) != said


def _tell(stored: StoredResults, written: Written) -> tuple[Path, ...]:
    """Add the review to run.json, if that still exists, and return its path."""
    path = stored.outputs.files.record
    if not path.is_file():
        return ()
    facts = None if written.reviewed is None else written.reviewed.facts()
    refresh_run_manifest(path, written.tables, facts)
    return (path,)


def _draw(stored: StoredResults, written: Written, refs: list[ImageRef]) -> tuple[str, ...]:
    """Draw the touched images again; the names of those that cannot be read any more."""
    outputs = stored.outputs.reviewed_by(written.reviewed)
    if outputs.files.settings.annotated is None:
        return ()
    drawings, missing = Drawings(outputs, lambda _note: None), []
    for result in stored.unnamed(refs):
        if not drawings.is_drawn(result):
            continue
        loaded = load(result.ref, outputs.facts.max_pixels)
        size_px = None if loaded.source is None else loaded.source.size_px
        if size_px != (result.width_px, result.height_px):
            missing.append(outputs.names.image(result.ref.image))
        else:
            drawings.work(loaded, result)()
    return tuple(missing)
