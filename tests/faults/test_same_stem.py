"""Two pictures of one stem, a.jpg and a.png (W40): each has its own labels, or none are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount.datasets.annotations import read_annotations
from cellcount.errors import AnnotationError
from tests.faults.recipes import Fields, Run, write_voc

CLASSES = "rbc\nwbc\nplatelet\n"


def put(fields: Fields, *names: str) -> None:
    for i, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        fields.image(i).save(name, quality=95)


def counts(folder: Path) -> dict[str, int]:
    return {i.path.name: len(i.labels) for i in read_annotations(folder).images}


@pytest.mark.parametrize("place", ["images", "images/train", ""])
def test_labels_called_after_the_whole_name_are_found(
    fields: Fields, folder: Path, place: str
) -> None:
    names = ("a.jpg", "a.png", "a.tif")
    put(fields, *(str(Path(place, name)) for name in names))
    for i, name in enumerate(names):
        fields.yolo(str(Path(place.replace("images", "labels"), f"{name}.txt")), i)
    Path("classes.txt").write_text(CLASSES)
    assert counts(folder) == {name: len(fields.boxes(i)) for i, name in enumerate(names)}
    assert read_annotations(folder).problems == ()


@pytest.mark.parametrize("others", [("a.png",), ("a.png", "a.bmp"), ("a.PNG",)])
def test_one_label_file_of_several_pictures_is_for_none(
    fields: Fields, folder: Path, run: Run, others: tuple[str, ...]
) -> None:
    put(fields, "images/a.jpg", *(f"images/{name}" for name in others), "images/z.png")
    fields.yolo("labels/a.txt", 0)
    fields.yolo("labels/z.txt", len(others) + 1)
    Path("classes.txt").write_text(CLASSES)
    assert list(counts(folder)) == ["z.png"]
    annotated = read_annotations(folder)
    assert annotated.left_out == 1 + len(others)
    (problem,) = annotated.problems
    assert problem.what.startswith("belongs to ")
    assert all(name in problem.what for name in ("a.jpg", *others))


def test_nothing_else_there_is_an_error_that_names_both(fields: Fields, folder: Path) -> None:
    put(fields, "images/a.jpg", "images/a.png")
    fields.yolo("labels/a.txt", 0)
    Path("classes.txt").write_text(CLASSES)
    with pytest.raises(AnnotationError, match=r"belongs to a\.jpg and a\.png"):
        read_annotations(folder)


def test_voc_decides_by_the_suffix_that_it_names(fields: Fields, folder: Path) -> None:
    put(fields, "a.jpg", "a.png")
    write_voc("a.xml", "a.png", fields.boxes(1))
    assert counts(folder) == {"a.png": len(fields.boxes(1))}


def test_voc_that_names_no_file_of_the_two_is_left_out(fields: Fields, folder: Path) -> None:
    put(fields, "a.jpg", "a.png")
    write_voc("a.xml", "old.bmp", fields.boxes(1))
    with pytest.raises(AnnotationError, match=r"could be a\.jpg or a\.png"):
        read_annotations(folder)


@pytest.mark.parametrize("to", ["yolo", "voc"])
def test_converted_pictures_of_one_stem_get_names_of_their_own(
    fields: Fields, folder: Path, run: Run, to: str
) -> None:
    put(fields, "s/a.jpg", "s/a.png", "s/sub/a.png")
    for i, name in enumerate(("a.jpg", "a.png", "sub/a.png")):
        fields.yolo(f"s/{name}.txt", i)
    Path("s/classes.txt").write_text(CLASSES)
    code, _, err = run("datasets", "convert", "s", "--to", to, "--out", "out", "--format", "yolo")
    assert (code, "warning" in err) == (0, False)
    annotated = read_annotations(Path("out"))
    assert len({i.path.stem.lower() for i in annotated.images}) == 3
    expected = sorted(len(fields.boxes(i)) for i in range(3))
    assert sorted(len(i.labels) for i in annotated.images) == expected
    assert annotated.problems == ()


@pytest.mark.parametrize(
    "names", [("a.jpg", "a.png"), ("m/a.tif", "m/A.bmp"), ("a.b.gif", "a.b.webp")]
)
@pytest.mark.parametrize("more", [(), ("--shard", "1/2"), ("--dry-run",)])
def test_yolo_labels_of_pictures_of_one_stem_are_refused_before_they_are_counted(
    fields: Fields, folder: Path, run: Run, names: tuple[str, str], more: tuple[str, ...]
) -> None:
    put(fields, *(f"s/{name}" for name in names))
    code, _, err = run("analyze", "s", "--out", "o.csv", "--yolo", "y", *more)
    assert code == 2
    assert all(f" {name} " in err for name in names)
    assert "--yolo writes one label file for a stem" in err
    assert sorted(path.name for path in folder.iterdir()) == ["s"]
