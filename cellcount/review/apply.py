"""Applying a reviewer's corrections: stored beside the model's labels, outputs written again.

Reviews go into the journal first, all or none; outputs are then written as a run writes them, each
whole or not at all. If that is interrupted, applying the same table again completes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cellcount.analysis.stored_results import StoredResults, stored_results
from cellcount.core.records import NOT_A_CELL, UNCLASSIFIED, ImageRef, ImageResult
from cellcount.differential.figures import Figure, Kind
from cellcount.differential.rollup import Unit, roll_up
from cellcount.errors import UsageError
from cellcount.review.corrections import Correction, read_corrections
from cellcount.review.drawn_files import DrawnForm, read_drawn
from cellcount.review.rewrite import rewrite_outputs
from cellcount.store.corrected import Editor
from cellcount.store.edits import Edit

_KINDS: tuple[Kind, ...] = ("class", "pool", "group", "lineage", "outside", "measure")
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of a slide or specimen that the review changed.

    Attributes:
        unit: whose.
        before, after: None where there was no such figure.
    """

    unit: Unit
    before: Figure | None
    after: Figure | None

    @property
    def counts(self) -> bool:
        """Whether its counts changed, and not only shares or limits."""
        if self.before is None or self.after is None:
            return True
        return _counted(self.before) != _counted(self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Result of applying a table of corrections.

    Attributes:
        relabelled: the last label and the new one of each cell that got another.
        confirmed: cells whose label stays, now as a reviewer's.
        left_open: those of them that stay unclassified.
        already: cells of which this reviewer had said the same before.
        empty: rows that are not filled in.
        moved, added, deleted: cells that were changed so in another program.
        changes: figures that are others now.
        written: files and folders of outputs written anew; none of an empty table.
        not_drawn: images whose annotated picture could not be drawn again.
        notes: what a person must know besides, in a sentence each.
    """

    relabelled: tuple[tuple[str, str], ...] = ()
    confirmed: int = 0
    left_open: int = 0
    already: int = 0
    empty: int = 0
    moved: int = 0
    added: int = 0
    deleted: int = 0
    changes: tuple[Change, ...] = ()
    written: tuple[Path, ...] = ()
    not_drawn: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def apply_review(results: Path, table: Path, reviewer: str) -> Applied:
    """Keep what a table says and write every output of the run again.

    Args:
        results: counts.csv of a run, or what else `stored_results` knows.
        table: filled in.
        reviewer: who did.

    Raises:
        UsageError: the table or the name cannot be used; nothing was changed.
        OutputError: an output cannot be written.
    """
    who = _name_of(reviewer)
    with stored_results(results) as stored:
        read = read_corrections(table, stored)
        if not read.rows:
            return Applied(empty=read.empty)
        touched = _refs_of(stored, read.rows)
        labels = dict(_labels(stored, read.rows, touched))
        new = [one for one in read.rows if labels[one.image, one.cell][1:] != _said(one, who)]
        last = [(labels[one.image, one.cell][0], one.type_id) for one in new]
        said = Applied(
            relabelled=tuple((old, to) for old, to in last if old != to),
            confirmed=sum(old == to for old, to in last),
            left_open=sum(old == to == UNCLASSIFIED for old, to in last),
            already=len(read.rows) - len(new),
            empty=read.empty,
        )
        edits = _edits(stored, new, Editor(who, _now(), table.name))
        return _applied(stored, edits, touched, said, table.name)


def apply_drawn(results: Path, folder: Path, form: DrawnForm, reviewer: str) -> Applied:
    """Keep what a person changed in another program and write every output of the run again.

    Args:
        results: counts.csv of a run, or what else `stored_results` knows.
        folder: with a file per image, as that program wrote it.
        form: of the files.
        reviewer: who changed them.

    Raises:
        UsageError: a file or the name cannot be used; nothing was changed.
        OutputError: an output cannot be written.
    """
    who = _name_of(reviewer)
    with stored_results(results) as stored:
        source = folder.resolve().name
        read = read_drawn(folder, form, stored, Editor(who, _now(), source))
        if not read.edits:
            return Applied(empty=0)
        said = Applied(
            relabelled=tuple(read.relabelled),
            moved=read.moved,
            added=read.added,
            deleted=read.deleted,
        )
        return _applied(stored, read.edits, read.touched, said, source)


def _name_of(reviewer: str) -> str:
    who = " ".join(reviewer.split())
    if not 0 < len(who) <= _LONGEST_NAME:
        raise UsageError(f"--reviewer is {reviewer!r}, expected a name or initials")
    return who


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _applied(
    stored: StoredResults,
    edits: Sequence[Edit],
    touched: list[ImageRef],
    said: Applied,
    source: str,
) -> Applied:
    """Store edits, write every output again, and return what changed."""
    stored.outputs.files.check()
    before = _figures(stored, touched)
    stored.outputs.names.keep((), source)
    stored.journal.add_edits(edits)
    done = rewrite_outputs(stored, touched)
    return replace(
        said,
        changes=tuple(_changes(before, _figures(stored, touched))),
        written=done.written,
        not_drawn=done.not_drawn,
        notes=done.notes,
    )


def _said(one: Correction, who: str) -> tuple[str, str]:
    return who, one.type_id + "\n" + one.comment


def _labels(
    stored: StoredResults, rows: Sequence[Correction], refs: list[ImageRef]
) -> Iterator[tuple[tuple[str, int], tuple[str, str, str]]]:
    """Image and cell → the label that counts so far, and who gave it with which words."""
    wanted: dict[str, list[Correction]] = {}
    for one in rows:
        wanted.setdefault(one.image, []).append(one)
    for result in stored.unnamed(refs):
        for one in wanted[result.ref.image]:
            yield (one.image, one.cell), _label(result, one)


def _label(result: ImageResult, one: Correction) -> tuple[str, str, str]:
    """The label of a cell that counts so far, and who gave it with which words."""
    edit, review = result.box_edits.get(one.cell), result.reviewed.get(one.cell)
    if edit is not None and edit.removes:
        return edit.change, edit.reviewer, edit.change + "\n" + edit.comment
    if review is not None:
        return review.type_id, review.reviewer, review.type_id + "\n" + review.comment
    return one.model_type, "", ""


def _edits(stored: StoredResults, rows: Sequence[Correction], editor: Editor) -> list[Edit]:
    """The rows as edits of the journal, in their order."""
    images = {ref.image: stored.journal.corrected(ref) for ref in _refs_of(stored, rows)}
    edits = []
    for one in rows:
        image = images[one.image]
        assert image is not None, "its row was checked against its result"
        said = {"model_type": one.model_type, "comment": one.comment}
        if one.type_id == NOT_A_CELL:
            edits.append(image.edit("not_a_cell", one.cell, editor, **said))
        else:
            edits.append(image.edit("retype", one.cell, editor, type_id=one.type_id, **said))
    return edits


def _refs_of(stored: StoredResults, rows: Sequence[Correction]) -> list[ImageRef]:
    named = {one.image for one in rows}
    return [ref for ref in stored.run.refs if ref.image in named]


_Key = tuple[str, str, str, str, str]


def _figures(stored: StoredResults, refs: list[ImageRef]) -> dict[_Key, tuple[Unit, Figure]]:
    """Compute the figures of the slides and specimens that some images belong to."""
    outputs = stored.outputs.reviewed_by(stored.reviews())
    counting, name = outputs.facts.counting, outputs.names.image
    touched = {name(ref.image) for ref in refs}
    found: dict[_Key, tuple[Unit, Figure]] = {}
    final = map(outputs.final, stored.results()())
    units = roll_up(counting.fields(final))[:-1]
    slides = [_images(unit) for unit in units if unit.level == "slide"]
    for unit in units:
        images = _images(unit)
        if not images & touched or (unit.level == "specimen" and images in slides):
            continue  # of one slide it would say the same again
        for figure in counting.of(unit).of_kind(*_KINDS):
            key = (unit.level, unit.specimen, unit.slide, figure.kind, figure.id)
            found[key] = unit, figure
    return found


def _changes(
    before: dict[_Key, tuple[Unit, Figure]], after: dict[_Key, tuple[Unit, Figure]]
) -> Iterator[Change]:
    """Figures whose cells or value are others, in the order of the differential afterwards."""
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key), after.get(key)
        was, now = (None if pair is None else pair[1] for pair in (old, new))
        same = was is not None and now is not None and _facts(was) == _facts(now)
        if not same and not (was is None and now is not None and not now.n):
            unit = (new or old or _NONE)[0]
            yield Change(unit, was, now)


def _images(unit: Unit) -> set[str]:
    return {field.ref.image for field in unit.fields}


def _counted(figure: Figure) -> tuple[object, ...]:
    """Counts by which figures are compared; without counts, the value as people read it."""
    value = None if figure.n is not None or figure.value is None else round(figure.value, 1)
    return figure.assessment, figure.n, value, figure.note


def _facts(figure: Figure) -> tuple[object, ...]:
    return figure.assessment, figure.n, figure.denominator, figure.value, figure.note


_NONE = (Unit("run", "", "", ()), Figure(kind="outside", id=UNCLASSIFIED, name=UNCLASSIFIED))
