"""Pascal VOC: layouts, quirks, unsafe XML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.datasets import voc
from cellcount.errors import AnnotationError

Make = Callable[..., Path]
Write = Callable[[str, str], Path]

BOX = "<object><name>{}</name><bndbox>{}</bndbox></object>"


def an_object(name: str = "RBC", *corners: object) -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    values = "".join(f"<{t}>{c}</{t}>" for t, c in zip(tags, corners, strict=False))
    return BOX.format(name, values)


def xml(filename: str, *objects: str, size: tuple[int, int] = (100, 50)) -> str:
    return (
        f"<annotation><filename>{filename}</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height></size>{''.join(objects)}</annotation>"
    )


def test_values_are_kept_as_they_stand(tmp_path: Path, make_image: Make, write: Write) -> None:
    path = make_image("JPEGImages/a.jpg", (100, 50))
    objects = an_object("RBC", 1, 1, 100, 50), an_object("WBC", 10.5, 5, 20, 25)
    write("Annotations/a.xml", xml("a.jpg", *objects))
    annotated = voc.read(tmp_path)
    (image,) = annotated.images
    assert image.path == path
    assert image.boxes_xyxy.tolist() == [[1, 1, 100, 50], [10.5, 5, 20, 25]]
    assert image.labels == ("RBC", "WBC")
    assert annotated.classes == ("RBC", "WBC")
    assert annotated.problems == ()


@pytest.mark.parametrize(
    ("image", "annotation", "filename", "split"),
    [
        ("JPEGImages/a.JPG", "Annotations/a.xml", "a.jpg", ""),
        ("JPEGImages/a.png", "Annotations/a.XML", "a.jpg", ""),
        ("JPEGImages/a.jpg", "Annotations/a.xml", "old name.jpg", ""),
        ("JPEGImages/a.jpg", "Annotations/a.xml", "", ""),
        ("images/a.jpg", "Annotations/a.xml", "a", ""),
        ("valid/a.jpg", "valid/a.xml", "a.jpg", "val"),
        ("images/test/a.jpg", "Annotations/test/a.xml", "a.jpg", "test"),
        ("a.jpg", "a.xml", "a.jpg", ""),
    ],
)
def test_layouts_and_names(
    tmp_path: Path,
    make_image: Make,
    write: Write,
    image: str,
    annotation: str,
    filename: str,
    split: str,
) -> None:
    path = make_image(image)
    write(annotation, xml(filename, an_object("RBC", 1, 2, 3, 4)))
    annotated = voc.read(tmp_path)
    assert [(i.path, i.split) for i in annotated.images] == [(path, split)]
    assert voc.sniff(tmp_path)


def test_published_lists_are_the_splits(tmp_path: Path, make_image: Make, write: Write) -> None:
    for name in "abcd":
        make_image(f"JPEGImages/{name}.jpg")
        write(f"Annotations/{name}.xml", xml(f"{name}.jpg"))
    write("ImageSets/Main/train.txt", "a\n")
    write("ImageSets/Main/val.txt", "b\ngone\n")
    write("ImageSets/Main/test.txt", "c\n")
    write("ImageSets/Main/trainval.txt", "a\nb\nd\n")
    annotated = voc.read(tmp_path)
    assert [i.split for i in annotated.images] == ["train", "val", "test", ""]
    assert [p.what for p in annotated.problems] == ["names gone, which has no annotation file"]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (an_object("RBC", 5, 5, 5, 5), "no width or height"),
        (an_object("RBC", 9, 5, 5, 9), "no width or height"),
        (an_object("RBC", 5, 5, 9), "object 1 has no ymax"),
        (an_object("RBC", 5, 5, 9, "x"), "object 1 has ymax 'x'"),
        (an_object("RBC", 5, 5, 9, "nan"), "not finite"),
        (an_object("", 5, 5, 9, 9), "names no class"),
        ("<object/>", "object 1 has no xmin"),
    ],
)
def test_broken_objects_are_left_out_and_said(
    tmp_path: Path, make_image: Make, write: Write, item: str, said: str
) -> None:
    make_image("JPEGImages/a.jpg")
    where = write("Annotations/a.xml", xml("a.jpg", item, an_object("WBC", 1, 1, 5, 5)))
    annotated = voc.read(tmp_path)
    assert annotated.images[0].labels == ("WBC",)
    (problem,) = annotated.problems
    assert problem.path == where
    assert said in problem.what


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
    "<annotation><filename>&b;</filename></annotation>"
)


def test_broken_and_unsafe_files_are_survived(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    for name in "agz":
        make_image(f"JPEGImages/{name}.jpg")
    write("Annotations/a.xml", xml("a.jpg", an_object("RBC", 1, 2, 3, 4)))
    write("Annotations/bomb.xml", BOMB)
    write("Annotations/cut.xml", "<annotation><filename>g.jpg</fil")
    write("Annotations/empty.xml", "")
    write("Annotations/lost.xml", xml("nowhere.jpg"))
    write("Annotations/other.xml", "<html/>")
    write("Annotations/utf16.xml", "").write_bytes("<annotation/>".encode("utf-16"))
    annotated = voc.read(tmp_path)
    assert [i.path.name for i in annotated.images] == ["a.jpg"]
    said = {p.path.name: p.what for p in annotated.problems}
    assert "document type or entity" in said["bomb.xml"]
    assert said["lost.xml"] == "its image nowhere.jpg was not found; left out"
    assert "expected <annotation>" in said["other.xml"]
    assert {"cut.xml", "empty.xml", "utf16.xml"} < said.keys()
    assert said["g.jpg"].startswith("2 images have no annotation")


def test_a_stated_size_of_nothing_is_no_problem(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    make_image("a.jpg", (100, 50))
    write("a.xml", xml("a.jpg", an_object("RBC", 90, 2, 130, 40), size=(0, 0)))
    annotated = voc.read(tmp_path)
    assert annotated.images[0].boxes_xyxy.tolist() == [[90, 2, 100, 40]]
    assert annotated.problems == ()


def test_no_xml_at_all(tmp_path: Path) -> None:
    assert not voc.sniff(tmp_path)
    with pytest.raises(AnnotationError, match=r"holds no \*\.xml"):
        voc.read(tmp_path)
