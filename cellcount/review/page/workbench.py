"""The run that the page shows: its images with all corrections, and every edit to them.

The workbench holds the journal for as long as the page is open, and is its one writer. One lock
lets one request at a time read or change it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import RLock

from cellcount.analysis.near_copies import NearCopies
from cellcount.analysis.review_summary import with_types
from cellcount.analysis.reviewer_types import Vocabulary
from cellcount.analysis.run_outputs import RunOutputs
from cellcount.analysis.stored_results import StoredResults
from cellcount.core.records import ImageRef, ImageResult
from cellcount.differential.rollup import FieldCounts
from cellcount.errors import EditConflictError, UsageError
from cellcount.review.page.cell_rows import PageType, Row, cell_rows, page_types
from cellcount.review.page.classifier_job import Adapter, ClassifierJob
from cellcount.review.page.image_pixels import ImagePixels
from cellcount.review.page.messages import RefusedError
from cellcount.review.page.undo_stacks import UndoStacks
from cellcount.review.rewrite import Rewritten, are_outputs_behind, rewrite_outputs
from cellcount.store.approvals import approvals_of
from cellcount.store.cell_states import CellState, cell_states
from cellcount.store.corrected import CorrectedImage, Editor, with_states
from cellcount.store.edits import Edit
from cellcount.store.file_key import image_key, name_key
from cellcount.store.remarks import Remark

_MOST_CELLS_KEPT = 1_000_000


@dataclass(frozen=True, slots=True)
class PageSlide:
    """One slide of the run.

    Attributes:
        specimen, slide: who.
        title: what outputs call it.
        images: numbers of its images on the page, in the order of the tables.
    """

    specimen: str
    slide: str
    title: str
    images: tuple[int, ...]


@dataclass(slots=True)
class _KeptImage:
    """An image in memory: the models' result, and the result as corrected."""

    base: CorrectedImage
    edits: list[Edit]
    states: dict[str, CellState] = field(init=False)
    now: CorrectedImage = field(init=False)
    places: dict[str, int] = field(init=False)
    counts: tuple[frozenset[str], FieldCounts] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.states = cell_states(self.edits)
        self.now = with_states(self.base, self.states)
        self.places = {cell: place for place, cell in enumerate(self.now.ids)}

    def learn(self, added: Sequence[Edit]) -> None:
        """Apply further edits, which touch only their own cells."""
        self.edits += added
        cells = {edit.cell for edit in added}
        self.states |= cell_states([edit for edit in self.edits if edit.cell in cells])
        before, self.now = self.now.ids, with_states(self.base, dict(self.states))
        if self.now.ids != before:
            self.places = {cell: place for place, cell in enumerate(self.now.ids)}
        self.counts = None


@dataclass(frozen=True, slots=True)
class Changed:
    """Cells that have changed.

    Attributes:
        rows: of them.
        gone: image and id of those that are there no more.
    """

    rows: list[Row] = field(default_factory=list)
    gone: list[list[object]] = field(default_factory=list)


class Workbench:
    """A finished run, open for correction.

    Args:
        stored: the run.
        read_only: nothing may be changed.
        adapter: makes a classifier of the reviewed cells; None where the page offers none.

    Attributes:
        stored: likewise.
        read_only: likewise.
        lock: held by whoever reads or changes it.
        images: of the run, in the order of the tables.
        slides: of the run, in the order of the tables.
        types: that cells may be given; none but ``unclassified`` without a classifier.
        type_index: id of each type → its place among them.
        no_white: places of the types whose cells leave the count of white cells.
        pixels: of the images.
        classifier: makes the laboratory's own.

    Raises:
        UsageError: the run is not finished.
    """

    def __init__(
        self, stored: StoredResults, *, read_only: bool = False, adapter: Adapter | None = None
    ) -> None:
        self.stored, self.read_only, self.lock = stored, read_only, RLock()
        self.classifier = ClassifierJob(stored, self.lock, None if read_only else adapter)
        run = stored.run
        waiting = sum(not stored.journal.has(ref) for ref in run.refs)
        if waiting:
            raise UsageError(
                f"the analysis is not finished: {waiting:,} of {len(run.refs):,} images have no "
                "result; give the same analyze command again, then open the review"
            )
        self.images: tuple[ImageRef, ...] = tuple(stored.outputs.names.ordered(run.refs))
        self._number = {ref.image: number for number, ref in enumerate(self.images)}
        self.slides = _slides_of(self.images, stored.outputs)
        self._slide_of_image = {i: n for n, s in enumerate(self.slides) for i in s.images}
        facts = run.facts
        words = Vocabulary(facts.types, facts.counting.assessable, facts.counting.profile)
        every = page_types(words, facts.types, facts.counting)
        self.types: list[PageType] = every if facts.types else every[-1:]
        self.type_index = {t.id: index for index, t in enumerate(self.types)}
        no_white = set(facts.counting.no_white_types)
        self.no_white = frozenset(i for i, t in enumerate(facts.types) if t.id in no_white)
        found = [run.found(ref) for ref in self.images]
        self.pixels = ImagePixels(found, self.size_of, facts.max_pixels)
        self._kept: OrderedDict[int, _KeptImage] = OrderedDict()
        self._copies = NearCopies.among(stored.journal, run.refs)
        self._by_key = self._keys_of_images()
        self._remarks: list[Remark] | None = None
        self._undone: set[str] = set()
        self._undo = UndoStacks(stored.journal.edits(), self._slide_of)
        self._reviewed_types = self._types_of_reviews()
        self._log: list[tuple[int, str]] = []
        self._touched: set[int] = set()

    def size_of(self, image: int) -> tuple[int, int]:
        """Width and height of an image, in pixels, as it was analysed.

        Pictures are made without the lock held, so it is taken here.
        """
        with self.lock:
            result = self.kept(image).result
        return result.width_px, result.height_px

    def kept(self, image: int) -> CorrectedImage:
        """An image as corrected so far."""
        return self._image(image).now

    def slide(self, number: int) -> PageSlide:
        """A slide by its number.

        Raises:
            RefusedError: there is none.
        """
        if not 0 <= number < len(self.slides):
            raise RefusedError("there is no such slide", 404)
        return self.slides[number]

    def slide_of_image(self, image: int) -> int:
        """Number of the slide of an image.

        Raises:
            RefusedError: there is no such image.
        """
        if image not in self._slide_of_image:
            raise RefusedError("there is no such image", 404)
        return self._slide_of_image[image]

    def place_of(self, image: int, cell: str) -> int:
        """Place of a cell among those of its image.

        Raises:
            RefusedError: there is none.
        """
        self.slide_of_image(image)
        place = self._image(image).places.get(cell)
        if place is None:
            raise RefusedError("there is no such cell", 404)
        return place

    def rows(self, number: int) -> list[Row]:
        """Every cell of the fields of a slide that count."""
        rows: list[Row] = []
        for image in self.slide(number).images:
            kept = self.kept(image)
            if self.told(image).status == "done":
                rows += cell_rows(image, kept, self.type_index, self.no_white)
        return rows

    def told(self, image: int) -> ImageResult:
        """An image under its name in the outputs, with cautions and the classifier's own types."""
        outputs, ref = self.stored.outputs, self.images[image]
        counted = outputs.results_in(self.stored.journal).counted(self.kept(image).result)
        return self._copies.told(outputs.names.result(counted), ref.image, outputs.names.image)

    def outputs(self) -> RunOutputs:
        """The outputs with every type that a reviewer gave, and with the approvals."""
        outputs, types = self.stored.outputs, frozenset[str]()
        types = types.union(*self._reviewed_types.values())
        facts = with_types(outputs.facts, types) if types else outputs.facts
        return RunOutputs(outputs.files, outputs.names, facts).approved_in(self.stored.journal)

    def counts(self, number: int) -> list[FieldCounts]:
        """Counts that each field of a slide contributes to its differential."""
        outputs = self.outputs()
        key = frozenset(t.id for t in outputs.facts.types)
        found = []
        for image in self.slide(number).images:
            kept = self._image(image)
            if kept.counts is None or kept.counts[0] != key:
                final = outputs.final(self.told(image))
                kept.counts = key, next(iter(outputs.facts.counting.fields([final])))
            found.append(kept.counts[1])
        return found

    def editor(self, person: str) -> Editor:
        """A person at work now."""
        return Editor(person, datetime.now(UTC).isoformat(timespec="seconds"))

    def check_open(self, number: int) -> None:
        """Refuse to change an approved slide.

        Raises:
            RefusedError: it is approved, or nothing may be changed.
        """
        if self.read_only:
            raise RefusedError("the page was opened with --read-only: nothing can be changed", 403)
        slide = self.slide(number)
        approval = approvals_of(self.remarks()).get((slide.specimen, slide.slide))
        if approval is not None and approval.is_locked:
            last = approval.versions[-1]
            raise RefusedError(
                f"the slide was approved by {last.person}, {last.at}: reopen it to amend its "
                "numbers",
                423,
                approved=True,
            )

    def add(
        self, edits: Sequence[Edit], seen: Mapping[str, int], remarks: Iterable[Remark] = ()
    ) -> Changed:
        """Store edits and return the cells that they changed; safe on disk on return.

        Args:
            edits: that were made together; those that are there already are passed over.
            seen: id of a cell → version that the person saw.
            remarks: that are made with them.

        Raises:
            RefusedError: somebody edited a cell since; the answer has its present row.
        """
        images = self._images_of(edits)
        for number in {self._slide_of_image[image] for image in images}:
            self.check_open(number)  # a copy of an image may lie on another slide
        try:
            new = self.stored.journal.add_edits(edits, seen, remarks)
        except EditConflictError as error:
            now = self._changed(images, {edit.cell for edit in edits})
            facts = {"rows": now.rows, "gone": now.gone, "conflict": error.cell}
            raise RefusedError(str(error), 409, **facts) from None
        for image in images:
            self._refresh(image, new)
        self._undo.learn(new)
        made = list(new)
        if len(new) < len(edits):  # sent twice: they are as they were at first
            uids = {edit.uid for edit in edits}
            made = [e for i in images for e in self._image(i).edits if e.uid in uids]
        cells = {edit.cell for edit in made}
        self._log += [(image, cell) for image in images for cell in sorted(cells)]
        self._remarks = None
        return self._changed(images, cells)

    def remarks(self) -> list[Remark]:
        """Every remark of a person."""
        if self._remarks is None:
            self._remarks = self.stored.journal.remarks()
        return self._remarks

    def remark(self, *remarks: Remark) -> None:
        """Store remarks; safe on disk on return."""
        self.stored.journal.add_edits((), remarks=remarks)
        self._remarks = None

    def take_back(self, person: str, number: int, batch: str, *, redo: bool) -> Changed:
        """Undo or redo what a person did last on a slide.

        Raises:
            RefusedError: somebody edited a cell since.
        """
        self.check_open(number)
        if batch in self._undone:
            return Changed()  # it was sent twice
        editor = self.editor(person)
        edits, seen = self._undo.taking_back(editor, number, batch, redo=redo)
        changed = self.add(edits, seen) if edits else Changed()
        self._undone.add(batch)
        return changed

    def undo_depth(self, person: str, number: int) -> list[int]:
        """Return the number of steps that a person may undo, and redo, on a slide."""
        return list(self._undo.depth(person, number))

    @property
    def sequence(self) -> int:
        """Number of changes since the page was opened."""
        return len(self._log)

    def changes(self, since: int, number: int) -> Changed:
        """Cells of a slide that changed after the change with this number."""
        images = set(self.slide(number).images)
        touched: dict[int, set[str]] = {}
        for image, cell in self._log[since:]:
            if image in images:
                touched.setdefault(image, set()).add(cell)
        found = Changed()
        for image, cells in touched.items():
            part = self._changed([image], cells)
            found.rows.extend(part.rows)
            found.gone.extend(part.gone)
        return found

    def is_behind(self) -> bool:
        """Return whether outputs lack some corrections or remarks."""
        return are_outputs_behind(self.stored.journal)

    def write_outputs(self) -> Rewritten:
        """Write every output of the run again.

        Raises:
            OutputError: one cannot be written.
        """
        with self.lock:
            every = self.stored.journal.edits()
            touched = {self._number[e.image] for e in every if e.image in self._number}
            refs = [self.images[image] for image in sorted(self._touched or touched)]
            done = rewrite_outputs(self.stored, refs)
            self._touched.clear()
            return done

    def _slide_of(self, image: str) -> int | None:
        number = self._number.get(image)
        return None if number is None else self._slide_of_image[number]

    def _image(self, image: int) -> _KeptImage:
        kept = self._kept.get(image)
        if kept is None:
            base = self.stored.journal.uncorrected(self.images[image])
            assert base is not None, "every image of a finished run has a result"
            edits = self.stored.journal.edits_of(base.key, self.images[image].image)
            kept = self._kept[image] = _KeptImage(base, edits)
        self._kept.move_to_end(image)
        while len(self._kept) > 1 and self._cells_kept() > _MOST_CELLS_KEPT:
            self._kept.popitem(last=False)
        return kept

    def _keys_of_images(self) -> dict[str, list[int]]:
        """Key of an image → the images that have it."""
        contents = self.stored.journal.contents(ref.image for ref in self.images)
        found: dict[str, list[int]] = {}
        for number, ref in enumerate(self.images):
            key = image_key(contents.get(ref.image, ""), ref.page, ref.image)
            for one in {key, name_key(ref.image)}:
                found.setdefault(one, []).append(number)
        return found

    def _cells_kept(self) -> int:
        return sum(len(kept.base.ids) + 1 for kept in self._kept.values())

    def _refresh(self, image: int, added: Sequence[Edit]) -> None:
        kept, ref = self._image(image), self.images[image]
        known = {edit.uid for edit in kept.edits[-len(added) :]} if added else set()
        keys = {kept.base.key, name_key(ref.image)}
        kept.learn([e for e in added if e.image_key in keys and e.uid not in known])
        self._reviewed_types[image] = self._reviewed_in(image)
        self._touched.add(image)

    def _types_of_reviews(self) -> dict[int, frozenset[str]]:
        """Types that reviewers gave, by image."""
        if not self.stored.journal.has_reviews:
            return {}
        edited = self._images_of(self.stored.journal.edits())
        return {image: self._reviewed_in(image) for image in edited}

    def _reviewed_in(self, image: int) -> frozenset[str]:
        result = self.told(image)
        said = result.reviewed.values() if result.status == "done" else ()
        return frozenset(review.type_id for review in said)

    def _images_of(self, edits: Iterable[Edit]) -> list[int]:
        """Images that some edits are of: copies of an image have the same."""
        found: set[int] = set()
        for edit in edits:
            found.update(self._by_key.get(edit.image_key, ()))
            if edit.image in self._number:
                found.add(self._number[edit.image])
        return sorted(found)

    def _changed(self, images: Iterable[int], cells: set[str]) -> Changed:
        found = Changed()
        for image in images:
            kept = self._image(image)
            places = sorted(kept.places[cell] for cell in cells if cell in kept.places)
            there = {kept.now.ids[place] for place in places}
            found.rows.extend(cell_rows(image, kept.now, self.type_index, self.no_white, places))
            found.gone.extend([image, cell] for cell in sorted(cells - there))
        return found


def _slides_of(images: Sequence[ImageRef], outputs: RunOutputs) -> tuple[PageSlide, ...]:
    groups: dict[tuple[str, str], list[int]] = {}
    for number, ref in enumerate(images):
        groups.setdefault((ref.specimen, ref.slide), []).append(number)
    name = outputs.names.path
    return tuple(
        PageSlide(specimen, slide, _title(name(specimen), name(slide)), tuple(numbers))
        for (specimen, slide), numbers in groups.items()
    )


def _title(specimen: str, slide: str) -> str:
    title = f"Slide {slide}" if slide else "Slide without a name"
    return f"{title}, specimen {specimen}" if specimen else title
