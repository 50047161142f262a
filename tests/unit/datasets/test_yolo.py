"""YOLO in its layouts, names of classes against PyYAML's reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.datasets import yolo
from cellcount.datasets.yolo_yaml import parse_yaml_names
from cellcount.errors import AnnotationError

Make = Callable[..., Path]
Write = Callable[[str, str], Path]


def test_boxes_are_in_pixels(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("images/a.jpg", (100, 50))
    write("labels/a.txt", "1 0.5 0.5 0.2 0.4\n0 0.25 0.3 0.11 0.2\n\n")
    write("classes.txt", "wbc\nrbc\n")
    image = yolo.read(tmp_path).images[0]
    expected = [[40, 15, 60, 35], [19.5, 10, 30.5, 20]]
    assert image.boxes_xyxy.tolist() == expected
    assert image.labels == ("rbc", "wbc")


def test_a_turned_photograph_counts_as_displayed(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    make_image("images/a.jpg", (100, 50), 6)
    write("labels/a.txt", "0 0.5 0.5 1 0.5\n")
    write("classes.txt", "rbc\n")
    image = yolo.read(tmp_path).images[0]
    assert (image.width_px, image.height_px) == (50, 100)
    assert image.boxes_xyxy.tolist() == [[0, 25, 50, 75]]


def test_a_polygon_becomes_its_box(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("images/a.jpg", (100, 50))
    write("labels/a.txt", "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n")
    write("classes.txt", "rbc\n")
    assert yolo.read(tmp_path).images[0].boxes_xyxy[0] == pytest.approx([10, 5, 90, 45])


@pytest.mark.parametrize(
    ("image", "label", "split"),
    [
        ("images/a.jpg", "labels/a.txt", ""),
        ("images/train/a.JPG", "labels/train/a.txt", "train"),
        ("valid/images/a.jpg", "valid/labels/a.txt", "val"),
        ("a.jpg", "a.txt", ""),
        ("test/a.jpg", "test/a.txt", "test"),
    ],
)
def test_layouts(
    tmp_path: Path, make_image: Make, write: Write, image: str, label: str, split: str
) -> None:
    path = make_image(image)
    write(label, "0 0.5 0.5 0.5 0.5\n")
    write("classes.txt", "rbc\n")
    annotated = yolo.read(tmp_path)
    assert [(i.path, i.split, i.labels) for i in annotated.images] == [(path, split, ("rbc",))]
    assert annotated.problems == ()
    assert yolo.sniff(tmp_path) is (label != "test/a.txt")


def test_the_same_name_in_two_splits_stays_apart(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    for split, label in (("train", "0 0.5 0.5 0.5 0.5"), ("val", "")):
        make_image(f"images/{split}/a.jpg")
        write(f"labels/{split}/a.txt", label)
    write("data.yaml", "names: [rbc]")
    found = {i.split: i.labels for i in yolo.read(tmp_path).images}
    assert found == {"train": ("rbc",), "val": ()}


def test_published_splits_overrule_folders(tmp_path: Path, make_image: Make, write: Write) -> None:
    for name in ("a", "b", "c"):
        make_image(f"images/train/{name}.jpg")
        write(f"labels/train/{name}.txt", "")
    write("classes.txt", "rbc\n")
    write("splits.csv", "file,split\na.jpg,test\nb.jpg,val\ngone.jpg,val\n")
    annotated = yolo.read(tmp_path)
    assert [i.split for i in annotated.images] == ["test", "val", "train"]
    assert [p.what for p in annotated.problems] == [
        "names 1 files without a usable image, first gone.jpg",
        "does not name 1 of the images, first images/train/c.jpg",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "has class 2, expected 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "has class -1, expected 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "has class 0.5"),
        ("nan 0.5 0.5 0.1 0.1", "has class nan"),
        ("rbc 0.5 0.5 0.1 0.1", "no number"),
        ("0 0.5 0.5 nan 0.1", "outside 0–1"),
        ("0 30 20 12 12", "outside 0–1"),
        ("0 0.5 0.5 0.1", "has 3 numbers"),
        ("0 0.5 0.5 0.1 0.1 -0.9", "expected a confidence from 0 to 1"),
        ("0 0.5 0.5 0 0.1", "no width or height"),
        ("0 0.5 0.5 -0.1 0.1", "no width or height"),
    ],
)
def test_broken_lines_are_left_out_and_said(
    tmp_path: Path, make_image: Make, write: Write, line: str, said: str
) -> None:
    make_image("images/a.jpg")
    label = write("labels/a.txt", f"{line}\n1 0.5 0.5 0.5 0.5\n")
    write("classes.txt", "rbc\nwbc\n")
    annotated = yolo.read(tmp_path)
    assert annotated.images[0].labels == ("wbc",)
    (problem,) = annotated.problems
    assert problem.path == label
    assert said in problem.what


def test_files_without_a_partner(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("images/lonely.jpg")
    make_image("images/binary.jpg")
    write("labels/binary.txt", "").write_bytes(b"\xff\xfe\x00")
    write("labels/orphan.txt", "0 0.5 0.5 0.5 0.5\n")
    write("classes.txt", "rbc\n")
    write("README.txt", "0 is the red cell")
    make_image("banner.png")
    annotated = yolo.read(tmp_path)
    assert [i.path.name for i in annotated.images] == ["lonely.jpg"]
    said = {p.path.name: p.what for p in annotated.problems}
    assert said.keys() == {"lonely.jpg", "binary.txt", "orphan.txt", "banner.png"}
    assert "outside images/" in said["banner.png"]
    assert "without cells" in said["lonely.jpg"]
    assert "its image is left out" in said["binary.txt"]
    assert "no image of the same name" in said["orphan.txt"]


def test_without_class_names_it_says_what_to_add(
    tmp_path: Path, make_image: Make, write: Write
) -> None:
    make_image("images/a.jpg")
    write("labels/a.txt", "0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(AnnotationError, match="Add classes.txt"):
        yolo.read(tmp_path)


def test_the_yaml_file_can_be_the_source(tmp_path: Path, make_image: Make, write: Write) -> None:
    make_image("images/a.jpg")
    write("labels/a.txt", "1 0.5 0.5 0.5 0.5\n")
    write("a.yaml", "names: [x, y]")
    other = write("other.yaml", "names:\n  0: p\n  1: q\n")
    assert yolo.read(tmp_path).images[0].labels == ("y",)
    assert yolo.read(other).images[0].labels == ("q",)


@pytest.mark.parametrize(
    "text",
    [
        "nc: 3\nnames: [WBC, RBC, Platelet]\n",
        "names: ['WBC', \"RBC\", Platelet]  # three\ntrain: x",
        "names:\n- WBC\n- RBC\n- Platelet\nnc: 3\n",
        "names:\n  - WBC\n  # a note\n  - 'RBC'\n\n  - Platelet\npath: .\n",
        "path: ../d\nnames:\n  0: WBC\n  1: RBC # red\n  2: Platelet\n",
        "names: {0: WBC, 1: RBC, 2: Platelet}\n",
        "names: [WBC,\n  RBC,\n  Platelet]\nnc: 3\n",
        "names: {2: Platelet, 0: WBC,\n 1: 'RBC'}\n",
        "names: []\n",
        "nc: 3\n",
        "names: [\"a, b\", 'it''s', \"x\\\"y\", Howell's, 'c]']\n",
        "names: {0: \"a: b, c\", 1: 'd}'}\n",
        "names:\n  0: \"a: b\"\n  1: 'c # d'\n",
    ],
)
def test_names_are_read_as_pyyaml_reads_them(text: str) -> None:
    yaml = pytest.importorskip("yaml")
    names = yaml.safe_load(text).get("names") or []
    expected = [names[i] for i in range(len(names))]
    assert list(parse_yaml_names(text)) == expected


@pytest.mark.parametrize("text", ["names:\n  0: a\n  2: b\n", "names: {a: 0}\n"])
def test_names_with_gaps_or_without_indices_are_refused(text: str) -> None:
    with pytest.raises(AnnotationError, match="expected 0, 1, …"):
        parse_yaml_names(text)
