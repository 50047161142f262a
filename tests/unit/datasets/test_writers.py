"""Written data sets are read back the same, by us and by pycocotools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from cellcount.core.records import LabelledImage
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.voc import parse_xml
from cellcount.datasets.writers import write_coco, write_voc, write_yolo
from cellcount.errors import OutputError

Make = Callable[..., Path]
Writer = Callable[[Path, Sequence[LabelledImage], Sequence[str]], None]
CLASSES = ("RBC", "white cell, big", "Plättchen #2")


@pytest.fixture
def images(make_image: Make) -> list[LabelledImage]:
    """Four images: whole and broken pixels, none, turned by EXIF, and a name taken twice."""
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 20, (6, 2))
    boxes = np.hstack([corners, corners + rng.uniform(1, 25, (6, 2))]).astype(np.float32)
    whole = np.array([[0, 0, 100, 50], [3, 4, 50, 20]], np.float32)
    return [
        LabelledImage(make_image("in/a.jpg", (100, 50)), whole, CLASSES[:2], 100, 50, "train"),
        LabelledImage(make_image("in/b.JPG", (64, 64)), boxes, CLASSES * 2, 64, 64, "val"),
        LabelledImage(
            make_image("in/more/a.png", (90, 90)), np.zeros((0, 4), np.float32), (), split="test"
        ),
        LabelledImage(
            make_image("in/ü, x.jpg", (70, 40), 6),
            np.array([[0, 30, 40, 70]], np.float32),
            CLASSES[2:],
        ),
    ]


def assert_same(annotated: AnnotatedSet, images: Sequence[LabelledImage], atol: float) -> None:
    """Compare images but for their folders; each of ours has a split of its own."""
    assert annotated.problems == ()
    found = {image.split: image for image in annotated.images}
    assert len(found) == len(annotated.images) == len(images)
    for image in images:
        twin = found[image.split]
        assert twin.labels == image.labels
        assert twin.path.read_bytes() == image.path.read_bytes()
        np.testing.assert_allclose(twin.boxes_xyxy, image.boxes_xyxy, atol=atol)


WRITERS = [
    (write_coco, "out/coco.json", "coco"),
    (write_voc, "out/voc", "voc"),
    (write_yolo, "out/yolo", "yolo"),
]


@pytest.mark.parametrize(("writer", "where", "format"), WRITERS)
def test_read_back_the_same(
    tmp_path: Path, images: list[LabelledImage], writer: Writer, where: str, format: str
) -> None:
    target = tmp_path / where
    writer(target, images, CLASSES)
    annotated = read_annotations(target)
    assert annotated.format == format
    assert_same(annotated, images, 1e-5)
    assert set(annotated.classes) == set(CLASSES)
    assert annotated.classes == (tuple(sorted(CLASSES)) if format == "voc" else CLASSES)


def test_once_round_all_three(tmp_path: Path, images: list[LabelledImage]) -> None:
    annotated = AnnotatedSet(tuple(images), CLASSES)
    for writer, where, _ in [*WRITERS, (write_coco, "out/again.json", "coco")]:
        writer(tmp_path / where, annotated.images, CLASSES)
        annotated = read_annotations(tmp_path / where)
    assert_same(annotated, images, 1e-4)


def test_pycocotools_reads_our_coco(tmp_path: Path, images: list[LabelledImage]) -> None:
    module = pytest.importorskip("pycocotools.coco")
    target = tmp_path / "out" / "coco.json"
    write_coco(target, images, CLASSES)
    api = module.COCO(str(target))
    names = {c["id"]: c["name"] for c in api.loadCats(api.getCatIds())}
    for entry in api.loadImgs(api.getImgIds()):
        image = images[entry["id"] - 1]
        path = (target.parent / entry["file_name"]).resolve()
        assert path == image.path.resolve()
        mine = api.loadAnns(api.getAnnIds(imgIds=[entry["id"]]))
        assert tuple(names[a["category_id"]] for a in mine) == image.labels
        boxes = np.array([a["bbox"] for a in mine]).reshape(-1, 4)
        expected = image.boxes_xyxy.astype(np.float64)
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], expected[:, 2:])
        areas = (expected[:, 2:] - expected[:, :2]).prod(axis=1)
        np.testing.assert_allclose([a["area"] for a in mine], areas)
    assert api.loadImgs([4])[0]["width"] == 40  # as displayed


def test_voc_writes_integers_where_they_are(tmp_path: Path, images: list[LabelledImage]) -> None:
    write_voc(tmp_path / "out", images[:1], CLASSES)
    tree = parse_xml(tmp_path / "out" / "Annotations" / "a.xml")
    assert [c.text for c in tree.find("object[2]/bndbox") or ()] == ["3", "4", "50", "20"]
    assert tree.findtext("size/width") == "100"
    assert (tmp_path / "out/ImageSets/Main/train.txt").read_text() == "a\n"


def test_yolo_yaml_is_real_yaml(tmp_path: Path, images: list[LabelledImage]) -> None:
    yaml = pytest.importorskip("yaml")
    write_yolo(tmp_path / "out", images, CLASSES)
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text("utf-8"))
    assert content["names"] == list(CLASSES)
    assert content["train"] == "images/train"
    labels = {p.relative_to(tmp_path / "out/labels") for p in (tmp_path / "out").rglob("*.txt")}
    # a.jpg and a.png would share one label file, so both are named after their folders.
    assert {p.as_posix() for p in labels} == {
        "train/in_a.txt",
        "val/b.txt",
        "test/more_a.txt",
        "ü, x.txt",
    }


@pytest.mark.parametrize(("writer", "where", "format"), WRITERS)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, images: list[LabelledImage], writer: Writer, where: str, format: str
) -> None:
    with pytest.raises(OutputError, match="not among the classes"):
        writer(tmp_path / where, images, ("RBC",))
    outside = LabelledImage(images[0].path, images[0].boxes_xyxy, CLASSES[:2], split="../../x")
    with pytest.raises(OutputError, match=r"'\.\./\.\./x'"):
        writer(tmp_path / where, [outside], CLASSES)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("writer", [write_voc, write_yolo])
def test_an_older_folder_is_not_mixed_with(
    tmp_path: Path, images: list[LabelledImage], writer: Writer
) -> None:
    writer(tmp_path / "out", images, CLASSES)
    with pytest.raises(OutputError, match="is not empty"):
        writer(tmp_path / "out", images, CLASSES)
