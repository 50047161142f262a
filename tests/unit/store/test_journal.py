"""The journal: what goes in comes out, for these settings only, whatever kills the process."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellcount.core.records import Cells, CellTypes, ImageRef, ImageResult, Quality, path_order
from cellcount.errors import JournalError
from cellcount.store.file_key import key_of, with_content
from cellcount.store.journal import Journal
from tests.unit.journal_results import FINGERPRINT, result_of


def assert_same(actual: ImageResult, expected: ImageResult) -> None:
    names = ("ref", "status", "reason", "width_px", "height_px", "um_per_px", "scale_factor")
    for name in (*names, "quality"):
        assert getattr(actual, name) == getattr(expected, name), name
    for name in ("boxes_xyxy", "scores", "labels"):
        a = getattr(actual.cells.detections, name)
        b = getattr(expected.cells.detections, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(actual.cells.edge, expected.cells.edge)


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"pixels")
    return path


def test_results_come_back_as_they_went_in(tmp_path: Path, image_file: Path) -> None:
    done = result_of(image_file, "b/a.png", quality=Quality(None, 210.5, 0.0, None, 0.125))
    failed = ImageResult(replace(done.ref, image="b/c.png"), "failed", "the file is empty")
    numpy_numbers = result_of(
        image_file, "z.png", 0, width_px=np.int64(7), scale_factor=np.float32(0.5)
    )
    path = tmp_path / "counts.journal.sqlite"
    with Journal.open(path, FINGERPRINT) as journal:
        for result in (numpy_numbers, failed, done):
            journal.add(result)
        journal.set_value("scales", {"slide 1": 1.25})
    with Journal.open(path, FINGERPRINT) as journal:
        for actual, expected in zip(journal.results(), (done, failed, numpy_numbers), strict=True):
            assert_same(actual, expected)
        assert journal.get_value("scales") == {"slide 1": 1.25}
        assert journal.get_value("never set") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "counts.journal.sqlite"]


def test_types_come_back_and_untyped_cells_have_none(tmp_path: Path, image_file: Path) -> None:
    plain = result_of(image_file, "a.png", 4)
    types = CellTypes(
        np.array([-1, 0, 20, 3]),
        np.array([0, 0.9, 0.1, 1], np.float32),
        np.array([-1, 1, 2, -1]),
        np.array([0, 0.1, 0.09, 0], np.float32),
        np.array([False, True, False, True]),
    )
    typed = replace(plain, ref=replace(plain.ref, image="b.png"))
    typed = replace(typed, cells=replace(plain.cells, types=types))
    none = ImageResult(
        replace(plain.ref, image="c.png"), "done", cells=replace(Cells.empty(), types=None)
    )
    empty = replace(none, ref=replace(plain.ref, image="d.png"))
    empty = replace(empty, cells=replace(Cells.empty(), types=CellTypes.untyped(0)))
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        for result in (plain, typed, none, empty):
            journal.add(result)
        found = [r.cells.types for r in journal.results()]
    assert found[0] is found[2] is None
    assert found[1] is not None
    for name in ("best", "prob", "second", "second_prob", "accepted"):
        actual, expected = getattr(found[1], name), getattr(types, name)
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)
    assert found[3] is not None
    assert len(found[3]) == 0


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.lists(st.text(st.characters(), min_size=1, max_size=12), min_size=1, unique=True))
def test_any_text_round_trips_in_path_order(tmp_path: Path, names: list[str]) -> None:
    with Journal.open(tmp_path / "any.sqlite", {}, fresh=True) as journal:
        for name in names:
            ref = ImageRef(Path("x") / "y", name, slide=name, specimen=name)
            journal.add(ImageResult(ref, "failed", reason=name))
        found = list(journal.results())
        journal.set_value(names[0], names)
        assert journal.get_value(names[0]) == names
    assert [r.ref.image for r in found] == sorted(names, key=path_order)
    assert all(r.ref.slide == r.reason == r.ref.image for r in found)


def test_names_that_are_not_unicode_round_trip(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/caf\xe9\n.png"))
    ref = ImageRef(path, path.name, "s")
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        journal.add(ImageResult(ref, "failed", "gone"))
        (found,) = journal.results()
    assert found.ref == ref
    assert os.fsencode(found.ref.path) == os.fsencode(path)


def test_order_is_by_folders_and_pages_by_number() -> None:
    images = ["b/a.tif#page=10", "b/a.tif#page=2", "b/a.tif", "b-c/a.tif", "b/a.tiff", "B/z.tif"]
    assert sorted(images, key=path_order) == [
        *("B/z.tif", "b/a.tif", "b/a.tif#page=2", "b/a.tif#page=10", "b/a.tiff", "b-c/a.tif")
    ]


def test_only_images_of_this_run_are_given_with_their_present_reference(
    tmp_path: Path, image_file: Path
) -> None:
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        for image in ("a", "b", "c"):
            journal.add(result_of(image_file, image))
        renamed = replace(result_of(image_file, "c").ref, specimen="renamed")
        refs = [renamed, result_of(image_file, "a").ref, result_of(image_file, "unknown").ref]
        found = list(journal.results(refs))
    assert [r.ref.image for r in found] == ["a", "c"]
    assert found[1].ref.specimen == "renamed"


def test_done_until_the_file_or_its_scale_changes(tmp_path: Path, image_file: Path) -> None:
    done = result_of(image_file, "a.png")
    ref = done.ref
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        assert journal.state_of(ref) == "new"
        journal.add(done)
        assert journal.state_of(ref) == "done"
        assert journal.state_of(replace(ref, specimen="another", wbc_10e9_per_l=1.0)) == "done"
        assert journal.state_of(replace(ref, um_per_px=0.2)) == "changed"
        assert journal.state_of(replace(ref, slide="another")) == "changed"
        os.utime(image_file, ns=(0, 12345))
        assert journal.state_of(ref) == "changed"  # its content is not known

        key_before = key_of(ref)
        image_file.write_bytes(b"changed while it was analysed")
        assert with_content(key_before, ref).sha256 == ""
        journal.add(done, with_content(key_before, ref))
        assert journal.state_of(ref) == "changed"

        journal.add(ImageResult(ref, "failed", "unreadable"))
        assert journal.state_of(ref) == "failed"
        journal.add(ImageResult(ref, "excluded", "out of focus"))
        assert journal.state_of(ref) == "done"
        image_file.unlink()
        assert journal.state_of(ref) == "changed"


def test_content_decides_where_path_size_or_time_differ(tmp_path: Path, image_file: Path) -> None:
    done = result_of(image_file, "a.png")
    ref = done.ref
    moved = tmp_path / "elsewhere" / "a.png"
    moved.parent.mkdir()
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        journal.add(done, with_content(key_of(ref), ref))
        os.utime(image_file, ns=(0, 12345))
        assert journal.state_of(ref) == "done"
        image_file.rename(moved)
        assert journal.state_of(replace(ref, path=moved)) == "done"
        assert journal.state_of(ref) == "changed"  # gone
        moved.write_bytes(b"Pixels")  # as long as before
        os.utime(moved, ns=(0, 12345))
        assert journal.state_of(replace(ref, path=moved)) == "changed"
        assert journal.has(ref)


def test_asking_for_the_state_writes_nothing_and_a_refreshed_key_spares_the_content(
    tmp_path: Path, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = result_of(image_file, "a.png")
    ref = done.ref
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        journal.add(done, with_content(key_of(ref), ref))
        os.utime(image_file, ns=(0, 12345))
        before = list(journal.rows())
        assert journal.state_of(ref) == "done"
        assert list(journal.rows()) == before
        journal.refresh_key(ref)
        (kept,) = journal.rows()
        assert kept[2] == key_of(ref).state != before[0][2]
        monkeypatch.setattr("cellcount.store.file_key._digest", None)  # any call would fail
        assert journal.state_of(ref) == "done"
        journal.refresh_key(ref)


def test_no_key_is_refreshed_of_a_file_that_changed_or_failed(
    tmp_path: Path, image_file: Path
) -> None:
    done = result_of(image_file, "a.png")
    ref = done.ref
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        journal.refresh_key(ref)  # not known at all
        journal.add(done, with_content(key_of(ref), ref))
        before = list(journal.rows())
        image_file.write_bytes(b"other pixels")
        journal.refresh_key(ref)
        assert list(journal.rows()) == before
        assert journal.state_of(ref) == "changed"
        journal.add(ImageResult(ref, "failed", "unreadable"))
        before = list(journal.rows())
        os.utime(image_file, ns=(0, 12345))
        journal.refresh_key(ref)
        assert list(journal.rows()) == before
        assert journal.state_of(ref) == "failed"


def test_two_files_that_swap_their_names_are_both_done_again(tmp_path: Path) -> None:
    refs = []
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        for name in ("a", "b"):
            path = tmp_path / name
            path.write_text(f"pixels of {name}")
            os.utime(path, ns=(0, 12345))  # same size, same modification time
            done = result_of(path, name)
            refs.append(done.ref)
            journal.add(done, with_content(key_of(done.ref), done.ref))
        assert [journal.state_of(ref) for ref in refs] == ["done", "done"]
        (tmp_path / "a").rename(tmp_path / "c")
        (tmp_path / "b").rename(tmp_path / "a")
        (tmp_path / "c").rename(tmp_path / "b")
        assert [journal.state_of(ref) for ref in refs] == ["changed", "changed"]


def test_other_settings_start_beside_the_earlier_ones_and_are_named(
    tmp_path: Path, image_file: Path
) -> None:
    path = tmp_path / "j.sqlite"
    done = result_of(image_file, "a")
    with Journal.open(path, FINGERPRINT) as journal:
        assert journal.differences == ()
        journal.add(done)
        journal.set_value("scale:s", 1.5)
    asked = {"min_score": 0.6, "weights": {"blood": "def"}, "classes": ("rbc", "wbc"), "new": 1}
    with Journal.open(path, asked) as journal:
        assert journal.differences == (
            "min_score: 0.5 -> 0.6",
            "new: none -> 1",
            "weights.blood: abc -> def",
        )
        assert journal.state_of(done.ref) == "new"
        assert journal.get_value("scale:s") is None
        journal.add(replace(done, reason="by the other settings"))
    with Journal.reopen(path) as journal:
        assert journal.settings["min_score"] == 0.6
        assert [r.reason for r in journal.results()] == ["by the other settings"]
    with Journal.open(path, FINGERPRINT) as journal:
        assert journal.state_of(done.ref) == "done"
        assert [r.reason for r in journal.results()] == [""]
        assert journal.values("scale:") == {"s": 1.5}
    with Journal.open(path, asked, fresh=True) as journal:
        assert list(journal.results()) == []
        assert journal.differences == ()


def test_a_shard_keeps_its_journal_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    Journal.open(path, {}, shard="2/3").close()
    for other, words in (("", "a run of all images was asked for"), ("1/3", "shard 1/3 was asked")):
        with pytest.raises(JournalError, match=rf"holds shard 2/3, but {words}.*--fresh"):
            Journal.open(path, {}, shard=other)
    assert not (tmp_path / "j.sqlite.lock").exists()
    Journal.open(path, {}, shard="2/3").close()
    Journal.open(path, {}, shard="1/3", fresh=True).close()
    with Journal.reopen(path) as journal:
        assert journal.shard == "1/3"
    with pytest.raises(JournalError, match="there is no journal"):
        Journal.reopen(tmp_path / "none.sqlite")


def test_a_scale_and_the_results_that_it_unsettles_go_together(
    tmp_path: Path, image_file: Path
) -> None:
    with Journal.open(tmp_path / "j.sqlite", {}) as journal:
        for image in ("a", "b", "c"):
            journal.add(result_of(image_file, image))
        journal.set_value("scale:s", 2.0, forget=["a", "c", "unknown"])
        assert [r.ref.image for r in journal.results()] == ["b"]
        journal.clear()
        assert list(journal.results()) == []


def test_rows_go_from_journal_to_journal(tmp_path: Path, image_file: Path) -> None:
    results = [result_of(image_file, image, 5) for image in ("b", "a")]
    with (
        Journal.open(tmp_path / "one.sqlite", {"x": 1}) as one,
        Journal.open(tmp_path / "two.sqlite", {"x": 2}) as two,
    ):
        for result in results:
            one.add(result, with_content(key_of(result.ref), result.ref))
        two.take(one.rows())
        for actual, expected in zip(two.results(), reversed(results), strict=True):
            assert_same(actual, expected)
        os.utime(image_file, ns=(0, 12345))
        assert two.state_of(results[0].ref) == "done"  # its key came along


def test_threads_may_add_at_once(tmp_path: Path, image_file: Path) -> None:
    with (
        Journal.open(tmp_path / "j.sqlite", {}) as journal,
        ThreadPoolExecutor(4) as pool,
    ):
        added = [pool.submit(journal.add, result_of(image_file, f"{n:03}")) for n in range(60)]
        for n in range(20):
            journal.set_value(f"v{n}", n)
            journal.refresh_key(result_of(image_file, f"{n:03}").ref)
        for future in added:
            future.result()
        assert len(list(journal.results())) == 60
        assert len(journal.values("v")) == 20
