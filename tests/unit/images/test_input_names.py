"""Names of INPUTs are a matter of the folder: no order, no further INPUT gives one to another."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellcount.core.records import ImageRef
from cellcount.images.input_names import InputHome, input_names, names_used

FOLDERS = ("/d/a/slides", "/d/b/slides", "/d/y/a/slides", "/e/other", "/slides")


def named(*paths: str, known: dict[str, str] | None = None, files: bool = False) -> dict[str, str]:
    """Path → name."""
    homes = [InputHome(Path(path), is_file=files) for path in paths]
    return dict(zip(paths, input_names(homes, known or {}), strict=True))


def test_folders_of_one_name_are_told_apart_by_those_above() -> None:
    assert named("/e/other", "/d/a/slides") == {"/e/other": "other", "/d/a/slides": "slides"}
    assert named(*FOLDERS[:2]) == {"/d/a/slides": "slides~a", "/d/b/slides": "slides~b"}
    assert named(*FOLDERS) == {
        "/d/a/slides": "slides~d~a",
        "/d/b/slides": "slides~b",
        "/d/y/a/slides": "slides~y~a",
        "/e/other": "other",
        "/slides": "slides~2",
    }


def test_files_of_one_name_keep_their_suffix() -> None:
    assert named("/d/1/f.tif", "/d/2/f.tif", "/d/1/f.png", files=True) == {
        "/d/1/f.tif": "f~1.tif",
        "/d/2/f.tif": "f~2.tif",
        "/d/1/f.png": "f.png",
    }


@given(st.lists(st.sampled_from(FOLDERS), min_size=1, unique=True), st.data())
def test_no_order_and_no_further_input_moves_a_name(paths: list[str], data: st.DataObject) -> None:
    before = named(*paths)
    assert named(*data.draw(st.permutations(paths))) == before
    more = data.draw(st.lists(st.sampled_from(FOLDERS), unique=True))
    after = named(*dict.fromkeys([*more, *paths]))
    assert not [p for p, n in after.items() for q, m in before.items() if n == m and p != q]
    known = {name: path for path, name in before.items()}
    again = named(*dict.fromkeys([*more, *paths]), known=known)
    assert {path: again[path] for path in paths} == before
    assert len(set(again.values())) == len(again)


def test_a_name_stays_with_its_folder_for_as_long_as_that_is_there(tmp_path: Path) -> None:
    a, b = (tmp_path / place / "slides" for place in "ab")
    a.mkdir(parents=True)
    b.mkdir(parents=True)
    assert named(str(b), known={"slides": str(a)}) == {str(b): "slides~b"}
    a.rmdir()
    assert named(str(b), known={"slides": str(a)}) == {str(b): "slides"}


def test_an_early_journal_tells_its_names_by_its_images() -> None:
    paths = {
        "slides/s1/1.png": "x/slides/s1/1.png", "slides~2/s1/1.png": "y/slides/s1/1.png",
        "slides~2/m.tif#page=2": "y/slides/m.tif", "f~2.png": "y/f.png", "plain.png": "plain.png",
    }  # fmt: skip
    refs = [ImageRef(Path(path), image, "") for image, path in paths.items()]
    known = names_used(refs, Path("/d"))
    assert known == {"slides": "/d/x/slides", "slides~2": "/d/y/slides", "f~2.png": "/d/y/f.png"}
    for order in itertools.permutations(("/d/y/slides", "/d/x/slides", "/d/z/slides")):
        assert named(*order, known=known) == {
            "/d/x/slides": "slides", "/d/y/slides": "slides~2", "/d/z/slides": "slides~z",
        }  # fmt: skip


@pytest.mark.parametrize("taken", ["slides~a", "slides~b"])
def test_a_folder_that_is_called_like_a_name_takes_none_away(taken: str) -> None:
    found = named("/d/a/slides", "/d/b/slides", f"/e/{taken}")
    assert len(set(found.values())) == 3
    assert found == named(f"/e/{taken}", "/d/b/slides", "/d/a/slides")
