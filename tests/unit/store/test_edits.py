"""Corrections: what edits come to, whose cell they find, and that none is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellcount.core.cells import with_reviews, without_removed
from cellcount.core.records import Cells, CellTypes, Detections, ImageRef, ImageResult
from cellcount.errors import EditConflictError
from cellcount.store.corrected import CorrectedImage, Editor
from cellcount.store.edits import Edit
from cellcount.store.file_key import FileKey
from cellcount.store.journal import Journal
from tests.unit.journal_results import EDITOR, image_in

CLASSES = ["rbc", "wbc", "platelet"]
SETTINGS = {"classes": CLASSES, "min_score": 0.5}
BOXES = ((10, 10, 30, 30), (50, 12, 90, 60), (100, 40, 120, 60))
LABELS = (0, 1, 0)
OTHER = Editor("CD", "2026-01-02T00:00:00+00:00")


def result_with(
    boxes: Sequence[Sequence[float]] = BOXES, labels: Sequence[int] = LABELS, image: str = "s/a.png"
) -> ImageResult:
    count = len(boxes)
    detections = Detections(
        np.array(boxes, np.float32).reshape(count, 4),
        np.full(count, 0.9, np.float32),
        np.array(labels, np.int64),
    )
    white = np.array(labels, np.int64) == 1
    types = replace(CellTypes.untyped(count), best=np.where(white, 0, -1), accepted=white)
    cells = Cells(detections, np.zeros(count, np.bool_), types)
    return ImageResult(
        ImageRef(Path(image), image, "s"), "done", width_px=200, height_px=100, cells=cells
    )


def content(letter: str) -> FileKey:
    return FileKey("", "", letter * 64)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "c.journal.sqlite", SETTINGS) as journal:
        journal.add(result_with(), content("a"))
        yield journal


@pytest.fixture
def image(journal: Journal) -> Callable[[], CorrectedImage]:
    return lambda: image_in(journal, result_with().ref)


Image = Callable[[], CorrectedImage]


def counted(image: CorrectedImage) -> list[tuple[int, str, str]]:
    """Number, class and type of each cell that counts."""
    types = ["neutrophil", "lymphocyte", "blast"]
    cells = with_reviews(image.result, types).cells
    assert cells.types is not None
    named = [types[i] if i >= 0 else "" for i in cells.types.best.tolist()]
    labels = [CLASSES[i] for i in cells.detections.labels.tolist()]
    return [(cells.number_of(n), labels[n], named[n]) for n in range(len(cells))]


def test_every_kind_of_edit_counts(journal: Journal, image: Image) -> None:
    now = image()
    assert counted(now) == [(1, "rbc", ""), (2, "wbc", "neutrophil"), (3, "rbc", "")]
    journal.add_edits([
        now.edit("not_a_cell", 0, EDITOR),
        now.edit("retype", 1, EDITOR, type_id="lymphocyte"),
        now.edit("move", 1, EDITOR, to_xyxy=(150.0, 50.0, 199.5, 99.0)),
        now.edit("comment", 1, EDITOR, comment="at the border"),
        now.edit("delete", 2, EDITOR),
        now.add((120, 70, 140, 90), "wbc", EDITOR, type_id="blast"),
        now.add((5, 70, 9, 74), "platelet", OTHER),
    ])  # fmt: skip
    after = image()
    assert counted(after) == [(2, "wbc", "lymphocyte"), (4, "wbc", "blast"), (5, "platelet", "")]
    cells = after.result.cells
    assert cells.detections.boxes_xyxy[1].tolist() == [150.0, 50.0, 199.5, 99.0]
    assert cells.edge.tolist() == [False, True, False, False, False]
    assert np.isnan(cells.detections.scores).tolist() == [False] * 3 + [True] * 2
    assert {n: e.change for n, e in after.result.box_edits.items()} == {
        0: "not_a_cell", 1: "moved", 2: "deleted", 3: "added", 4: "added",
    }  # fmt: skip
    assert after.states[after.ids[1]].comment == "at the border"
    assert without_removed(after.result).box_edits[2].reviewer == "CD"
    assert after.result.corrections == journal.corrections().keys()


def test_an_id_lasts_whatever_is_done_to_other_cells(journal: Journal, image: Image) -> None:
    before = image()
    journal.add_edits([
        before.edit("delete", 0, EDITOR), before.edit("move", 1, EDITOR, to_xyxy=(0, 0, 9, 9)),
        before.add((1, 1, 5, 5), "rbc", EDITOR),
    ])  # fmt: skip
    after = image()
    assert after.ids[:3] == before.ids
    assert len(set(after.ids)) == 4
    journal.add(result_with([(0, 0, 4, 4), *BOXES], [0, *LABELS]), content("a"))
    assert image().ids[1:4] == before.ids  # a cell was found before all others


def test_the_same_detection_on_the_same_content_has_the_same_id(tmp_path: Path) -> None:
    ids = {}
    for name, letter, settings in (
        ("one", "a", SETTINGS),
        ("two", "a", SETTINGS | {"min_score": 0.1}),
        ("three", "b", SETTINGS),
    ):
        with Journal.open(tmp_path / f"{name}.sqlite", settings) as journal:
            journal.add(result_with(image=f"{name}.png"), content(letter))
            ids[name] = image_in(journal, result_with(image=f"{name}.png").ref).ids
    assert ids["one"] == ids["two"]
    assert not set(ids["one"]) & set(ids["three"])


def test_undo_and_redo_without_end(journal: Journal, image: Image) -> None:
    first = image().edit("retype", 1, EDITOR, type_id="lymphocyte")
    second = image().edit("not_a_cell", 1, OTHER)
    journal.add_edits([first, second])
    assert len(counted(image())) == 2
    last: Edit = second
    for expected in ("lymphocyte", None, "lymphocyte", None):
        last = image().edit("undo", 1, OTHER, undoes=last.uid)
        journal.add_edits([last])
        types = [kind for number, _, kind in counted(image()) if number == 2]
        assert types == ([] if expected is None else [expected])
    journal.add_edits([image().edit("undo", 1, OTHER, undoes=e.uid) for e in (first, second)])
    assert counted(image())[1] == (2, "wbc", "neutrophil")
    assert image().result.corrections == frozenset() == frozenset(journal.corrections())
    assert [e.kind for e in journal.edits()] == ["retype", "not_a_cell", *["undo"] * 6]
    assert image().version(1) == 8


def test_an_added_cell_may_be_retyped_moved_and_taken_back(journal: Journal, image: Image) -> None:
    add = image().add((120, 70, 140, 90), "wbc", EDITOR)
    journal.add_edits([add])
    journal.add_edits([
        image().edit("retype", 3, OTHER, type_id="blast"),
        image().edit("move", 3, OTHER, to_xyxy=(121, 70, 140, 90)),
    ])  # fmt: skip
    assert counted(image())[3] == (4, "wbc", "blast")
    assert image().result.box_edits[3].change == "added"
    undo = image().edit("undo", 3, OTHER, undoes=add.uid)
    journal.add_edits([undo])
    assert len(image().ids) == 3
    assert journal.corrections() == {}


def test_a_type_given_after_not_a_cell_says_that_it_is_one(journal: Journal, image: Image) -> None:
    journal.add_edits([image().edit("not_a_cell", 1, EDITOR)])
    journal.add_edits([image().edit("retype", 1, OTHER, type_id="blast")])
    assert counted(image())[1] == (2, "wbc", "blast")


def test_an_edit_of_what_somebody_else_changed_meanwhile_is_refused(
    journal: Journal, image: Image
) -> None:
    mine = theirs = image()
    seen = {mine.ids[place]: mine.version(place) for place in range(3)}
    journal.add_edits([theirs.edit("retype", 1, OTHER, type_id="blast")], seen)
    both = [mine.edit("not_a_cell", 0, EDITOR), mine.edit("not_a_cell", 1, EDITOR)]
    with pytest.raises(EditConflictError, match="was edited by CD meanwhile") as caught:
        journal.add_edits(both, seen)
    assert caught.value.cell == mine.ids[1]
    assert [e.kind for e in journal.edits()] == ["retype"]  # all of them or none
    journal.add_edits(both, seen | {mine.ids[1]: image().version(1)})
    assert counted(image()) == [(3, "rbc", "")]


def test_an_edit_that_is_sent_twice_is_there_once(journal: Journal, image: Image) -> None:
    edit = image().edit("retype", 1, EDITOR, type_id="blast")
    seen = {edit.cell: 0}
    journal.add_edits([edit], seen)
    journal.add_edits([edit], seen)
    assert [e.version for e in journal.edits()] == [1]


def test_edits_come_back_as_they_were_made(journal: Journal, image: Image, tmp_path: Path) -> None:
    now = image()
    edits = [
        now.edit("retype", 1, EDITOR, type_id="blast", model_type="ig", comment="groß"),
        now.edit("move", 1, OTHER, to_xyxy=(1.25, 2.5, 3.75, 4.0)),
        now.add((9, 9, 30, 30), "rbc", EDITOR, comment="a second one"),
    ]
    journal.add_edits(edits)
    assert [replace(e, version=0) for e in journal.edits()] == edits
    assert journal.edits()[2].beside == (now.ids[0],)


@pytest.mark.parametrize(
    ("facts", "message"),
    [({"kind": "retype"}, "does not say to what"), ({"kind": "move"}, "does not say to what"),
     ({"kind": "undo"}, "does not say to what"),
     ({"kind": "move", "to_xyxy": (5, 5, 5, 9)}, "has no area")],
)  # fmt: skip
def test_an_edit_without_its_facts_is_none(
    image: Image, facts: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        image().edit(facts.pop("kind"), 1, EDITOR, **facts)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'blast' is no class; known: rbc, wbc, platelet"):
        image().add((1, 1, 2, 2), "blast", EDITOR)
    with pytest.raises(ValueError, match="has no area"):
        image().add((1, 1, 1, 2), "rbc", EDITOR)


def redetected(
    journal: Journal, boxes: Sequence[Sequence[float]], labels: Sequence[int]
) -> CorrectedImage:
    """The image as another model finds it."""
    journal.add(result_with(boxes, labels), content("a"))
    return image_in(journal, result_with().ref)


def test_other_detections_are_corrected_where_they_overlap_best(
    journal: Journal, image: Image
) -> None:
    then = image()
    journal.add_edits([
        then.edit("retype", 1, EDITOR, type_id="blast"), then.edit("not_a_cell", 0, EDITOR),
        then.edit("delete", 2, EDITOR),
    ])  # fmt: skip
    others = [(0, 0, 9, 9), (12, 11, 31, 29), (49, 13, 91, 61), (60, 12, 90, 60)]
    now = redetected(journal, others, (0, 0, 1, 1))
    assert counted(now) == [(1, "rbc", ""), (3, "wbc", "blast"), (4, "wbc", "neutrophil")]
    assert now.ids[2] == then.ids[1]  # it is the same cell: its edits go on
    assert now.version(2) == 1
    lost = journal.corrections().keys() - now.result.corrections
    assert lost == {then.ids[2]}  # nothing overlaps it by half any more
    back = redetected(journal, BOXES, LABELS)
    assert counted(back) == [(2, "wbc", "blast")]


def test_one_cell_takes_one_correction(journal: Journal, image: Image) -> None:
    then = redetected(journal, [(50, 12, 90, 60), (55, 12, 95, 60)], (1, 1))
    journal.add_edits([
        then.edit("retype", 0, EDITOR, type_id="blast"),
        then.edit("retype", 1, EDITOR, type_id="lymphocyte"),
    ])  # fmt: skip
    now = redetected(journal, [(54, 12, 94, 60)], (1,))
    assert counted(now) == [(1, "wbc", "lymphocyte")]
    assert len(journal.corrections().keys() - now.result.corrections) == 1


def test_a_moved_box_is_found_where_it_was_moved_to(journal: Journal, image: Image) -> None:
    journal.add_edits([image().edit("move", 0, EDITOR, to_xyxy=(20, 20, 44, 44))])
    now = redetected(journal, [(20, 20, 44, 45)], (0,))
    assert now.result.cells.detections.boxes_xyxy.tolist() == [[20, 20, 44, 44]]
    assert len(now.result.corrections) == 1


def test_an_added_cell_that_is_detected_later_counts_once(journal: Journal, image: Image) -> None:
    journal.add_edits([image().add((120, 70, 140, 90), "wbc", EDITOR, type_id="blast")])
    assert len(counted(image())) == 4
    now = redetected(journal, [*BOXES, (121, 71, 140, 90)], (*LABELS, 0))
    assert counted(now)[3] == (4, "wbc", "blast")
    assert len(now.ids) == 4


def test_a_cell_that_was_added_beside_a_detected_one_counts_besides(
    journal: Journal, image: Image
) -> None:
    journal.add_edits([image().add((12, 11, 31, 30), "rbc", EDITOR)])
    assert [number for number, _, _ in counted(image())] == [1, 2, 3, 4]


def test_corrections_go_with_the_content_and_not_with_the_name(
    journal: Journal, image: Image
) -> None:
    journal.add_edits([image().edit("retype", 1, EDITOR, type_id="blast")])
    moved, other = result_with(image="month/s/a.png"), result_with(image="s/b.png")
    journal.add(moved, content("a"))
    journal.add(other, content("b"))
    assert counted(image_in(journal, moved.ref))[1] == (2, "wbc", "blast")
    assert counted(image_in(journal, other.ref))[1] == (2, "wbc", "neutrophil")
    journal.add(result_with(), content("c"))  # the file was changed
    assert counted(image())[1] == (2, "wbc", "neutrophil")


def test_pages_of_one_file_are_corrected_each_for_itself(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "c.journal.sqlite", SETTINGS) as journal:
        refs = [replace(result_with().ref, image=f"a.tif#page={n}", page=n - 1) for n in (1, 2)]
        pages = [replace(result_with(), ref=ref) for ref in refs]
        for page in pages:
            journal.add(page, content("a"))
        second = image_in(journal, pages[1].ref)
        journal.add_edits([second.edit("not_a_cell", 1, EDITOR)])
        assert [len(counted(image_in(journal, page.ref))) for page in pages] == [3, 2]


def test_edits_stay_when_results_are_forgotten(journal: Journal, image: Image) -> None:
    journal.add_edits([image().edit("retype", 1, EDITOR, type_id="blast")])
    journal.clear()
    assert journal.corrected(result_with().ref) is None
    journal.add(result_with(), content("a"))
    assert counted(image())[1] == (2, "wbc", "blast")
