"""Finding the format by itself, and the real data sets with their published counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellcount.datasets.annotations import FORMATS, read_annotations
from cellcount.datasets.classes import blood_classes
from cellcount.errors import AnnotationError, UsageError
from tests.counts import box_counts

Make = Callable[..., Path]
Write = Callable[[str, str], Path]

VOC = (
    "<annotation><filename>a.jpg</filename><object><name>RBC</name><bndbox><xmin>1</xmin>"
    "<ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 29, 38]}],
        "categories": [{"id": 1, "name": "RBC"}],
    }
)
RECT = {"name": "rect", "x": 1, "y": 2, "width": 29, "height": 38}
VIA = json.dumps(
    {
        "a.jpg1": {
            "filename": "a.jpg",
            "regions": [{"shape_attributes": RECT, "region_attributes": {"type": "RBC"}}],
        }
    }
)
LABELME = json.dumps(
    {
        "imagePath": "a.jpg",
        "shapes": [{"label": "RBC", "points": [[1, 2], [30, 40]], "shape_type": "rectangle"}],
    }
)
SMALL = {
    "coco": {"x.json": COCO},
    "voc": {"a.xml": VOC},
    "yolo": {"a.txt": "0 0.155 0.42 0.29 0.76\n", "classes.txt": "RBC\n"},
    "via": {"x.json": VIA},
    "labelme": {"a.json": LABELME},
    "csv": {"x.csv": "image,xmin,ymin,xmax,ymax,label\na.jpg,1,2,30,40,RBC\n"},
}


def test_every_format_has_its_case() -> None:
    assert set(FORMATS) == {"auto", *SMALL}


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("asked", ["auto", "named"])
def test_the_format_is_found(make_image: Make, write: Write, name: str, asked: str) -> None:
    image = make_image("a.jpg", (100, 50))
    for file, text in SMALL[name].items():
        write(file, text)
    annotated = read_annotations(image.parent, format="auto" if asked == "auto" else name)
    assert annotated.format == name
    np.testing.assert_allclose(annotated.images[0].boxes_xyxy, [[1, 2, 30, 40]], atol=1e-5)
    assert annotated.images[0].labels == ("RBC",)
    assert annotated.classes == ("RBC",)


def test_two_formats_in_one_folder_must_be_told_apart(make_image: Make, write: Write) -> None:
    root = make_image("a.jpg").parent
    write("a.xml", VOC)
    write("x.json", COCO)
    with pytest.raises(AnnotationError, match="read as coco and as voc; name one"):
        read_annotations(root)
    assert read_annotations(root, format="voc").format == "voc"
    assert read_annotations(root / "x.json").format == "coco"


def test_no_known_format_says_what_was_looked_for_and_found(tmp_path: Path, write: Write) -> None:
    write("notes.md", "hello")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(AnnotationError) as caught:
        read_annotations(tmp_path)
    text = str(caught.value)
    for part in ("COCO:", "Pascal VOC:", "YOLO:", "VIA:", "LabelMe:", "CSV boxes:"):
        assert part in text
    assert text.endswith("Found: notes.md, pictures/")
    with pytest.raises(AnnotationError, match="one file of 5 bytes"):
        read_annotations(tmp_path / "notes.md")


def test_wrong_requests(tmp_path: Path, write: Write, make_image: Make) -> None:
    with pytest.raises(AnnotationError, match="does not exist"):
        read_annotations(tmp_path / "gone")
    with pytest.raises(UsageError, match="no format 'pickle', expected one of auto, coco"):
        read_annotations(tmp_path, format="pickle")
    write("x.json", COCO)
    with pytest.raises(AnnotationError, match=r"no usable image: .*a.jpg was not found"):
        read_annotations(tmp_path)
    make_image("a.jpg")
    with pytest.raises(AnnotationError, match="no split 'val'"):
        read_annotations(tmp_path, split="val")
    write("splits.csv", "file,split\na.jpg,val\n")
    assert len(read_annotations(tmp_path, split="val")) == 1


def test_reading_does_not_import_torch(tmp_path: Path) -> None:
    code = "import sys, cellcount.datasets.detect_format; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_txl_pbc(shared_data: Path) -> None:
    annotated = read_annotations(shared_data / "txl-pbc")
    assert annotated.format == "yolo"
    assert annotated.splits() == {"train": 824, "val": 239, "test": 158}
    assert len(annotated.subset("test")) == 158
    assert blood_classes(annotated).classes == ("rbc", "wbc", "platelet")
    files = sorted((shared_data / "txl-pbc" / "labels").glob("*.txt"))
    # Some boxes stand in their files twice, but for rounding; nothing else is left out.
    boxes = [
        box
        for path in files
        for box in {
            tuple(round(float(word), 2) for word in line.split())
            for line in path.read_text().splitlines()
        }
    ]
    for index, name in enumerate(("WBC", "RBC", "Platelet")):
        assert box_counts(annotated)[name] == sum(box[0] == index for box in boxes)
    assert annotated.left_out == 0
    assert all("more than once" in p.what or "two classes" in p.what for p in annotated.problems)


def test_bccd(shared_data: Path) -> None:
    annotated = read_annotations(shared_data / "bccd")
    assert annotated.format == "voc"
    assert annotated.splits() == {"train": 205, "val": 87, "test": 72}
    assert [p.path.stem for p in annotated.problems] == ["BloodImage_00338", "BloodImage_00343"]
    assert box_counts(annotated) == {"Platelets": 361, "RBC": 4153, "WBC": 372}


def test_draaslan(shared_data: Path) -> None:
    annotated = read_annotations(shared_data / "draaslan")
    assert (annotated.format, len(annotated)) == ("csv", 100)
    assert {p.path.stem for p in annotated.problems} == {"image-100", "image-104", "image-114"}
    assert all("two classes" in p.what for p in annotated.problems)
    assert box_counts(annotated) == {"rbc": 2236, "wbc": 103}
    heights = np.concatenate([i.boxes_xyxy[:, 3] for i in annotated.images])
    assert 200 < heights.max() <= 256


def test_wbc_fields(shared_data: Path) -> None:
    folder = shared_data / "wbc-fields"
    annotated = read_annotations(folder)
    pictures = [p for p in (folder / "images").iterdir() if not p.name.startswith(".")]
    labels = "".join(path.read_text() for path in (folder / "labels").glob("*.txt"))
    assert (annotated.format, len(annotated)) == ("yolo", len(pictures))
    assert annotated.problems == ()
    assert annotated.classes == (
        "neutrophil",
        "eosinophil",
        "basophil",
        "lymphocyte",
        "monocyte",
    )
    assert box_counts(blood_classes(annotated)) == {"wbc": len(labels.split()) // 5}
