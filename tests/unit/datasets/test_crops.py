"""Single-cell data sets in the forms in which they unpack; broken files are survived."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellcount.core.records import Picture
from cellcount.datasets.crop_check import decoded
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.datasets.crop_writer import write_crop_table
from cellcount.datasets.crops import CropFormat, read_crops
from cellcount.errors import AnnotationError, UsageError
from tests.counts import label_counts

MakeImage = Callable[..., Path]
Write = Callable[[str, str], Path]


def listed(crops: CropSet, root: Path) -> list[tuple[str, str, str]]:
    return [(i.path.relative_to(root).as_posix(), i.label, i.split) for i in crops.items]


def test_a_folder_per_class(tmp_path: Path, make_image: MakeImage) -> None:
    for name in ("monocyte/b.jpg", "monocyte/a.png", "Basophil/x.tif"):
        make_image(name)
    crops = read_crops(tmp_path)
    assert crops.format == "folders"
    assert crops.classes == ("Basophil", "monocyte")
    assert listed(crops, tmp_path) == [
        ("Basophil/x.tif", "Basophil", ""),
        ("monocyte/a.png", "monocyte", ""),
        ("monocyte/b.jpg", "monocyte", ""),
    ]
    assert crops.problems == ()
    assert label_counts(crops) == {"Basophil": 1, "monocyte": 2}


@pytest.mark.parametrize("above", ["", "BM_cytomorphology_data/", "a/b/"])
def test_mll_as_it_unpacks(tmp_path: Path, make_image: MakeImage, above: str) -> None:
    for name in ("BLA/0001-1000/BLA_00001.jpg", "BLA/1001-2000/BLA_01001.jpg", "ABE/ABE_1.jpg"):
        make_image(above + name)
    make_image("__MACOSX/BLA/x.jpg")
    crops = read_crops(tmp_path)
    assert label_counts(crops) == {"ABE": 1, "BLA": 2}


def test_one_class_alone_is_still_a_class(tmp_path: Path, make_image: MakeImage) -> None:
    make_image("BLA/0001-1000/BLA_00001.jpg")
    assert read_crops(tmp_path).classes == ("BLA",)


def test_folders_named_after_splits(tmp_path: Path, make_image: MakeImage) -> None:
    make_image("train/EOS/a.jpg")
    assert listed(read_crops(tmp_path), tmp_path) == [("train/EOS/a.jpg", "EOS", "train")]
    make_image("Validation/MON/b.jpg")
    assert listed(read_crops(tmp_path), tmp_path) == [
        ("Validation/MON/b.jpg", "MON", "val"),
        ("train/EOS/a.jpg", "EOS", "train"),
    ]


def test_folders_with_a_table_of_splits_beside(
    tmp_path: Path, make_image: MakeImage, write: Write
) -> None:
    make_image("EOS/a.jpg")
    make_image("EOS/b.jpg")
    write("splits.csv", "file,split\nEOS/a.jpg,valid\nEOS/gone.jpg,train\n")
    crops = read_crops(tmp_path)
    assert crops.format == "folders"
    assert listed(crops, tmp_path) == [("EOS/a.jpg", "EOS", "val"), ("EOS/b.jpg", "EOS", "")]
    assert [p.what for p in crops.problems] == [
        "names 1 files without a usable image, first EOS/gone.jpg",
        "does not name 1 of the images, first EOS/b.jpg",
    ]


def test_broken_and_stray_pictures_are_reported_and_survived(
    tmp_path: Path, make_image: MakeImage, write: Write
) -> None:
    make_image("EOS/good.jpg")
    make_image("stray.jpg")
    write("EOS/empty.jpg", "")
    write("MON/page.png", "<html>")
    crops = read_crops(tmp_path)
    assert [i.path.name for i in crops.items] == ["good.jpg"]
    texts = [str(p) for p in crops.problems]
    assert "empty.jpg: the image cannot be opened (empty file); left out" in texts[0]
    assert "page.png: the image cannot be opened (not an image" in texts[1]
    assert "stray.jpg: lies in no folder of a class; left out" in texts[2]


def test_a_cut_off_picture_shows_when_it_is_decoded(tmp_path: Path, make_image: MakeImage) -> None:
    path = make_image("EOS/cut.jpg", (300, 200))
    path.write_bytes(path.read_bytes()[:-700])
    make_image("EOS/good.jpg", (30, 20))
    crops = read_crops(tmp_path)
    assert len(crops) == 2
    sizes: dict[str, tuple[int, ...]] = {}

    def look(path: Path, picture: Picture) -> None:
        sizes[path.name] = picture.pixels.shape

    kept = decoded(crops, max_pixels=10**6, look=look)
    assert [i.path.name for i in kept.items] == ["good.jpg"]
    assert sizes == {"good.jpg": (20, 30, 3)}
    assert "cut.jpg: cannot be decoded (truncated JPEG" in str(kept.problems[0])


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t")])
def test_a_table(
    tmp_path: Path, make_image: MakeImage, write: Write, name: str, separator: str
) -> None:
    make_image("images/a.jpg")
    make_image("b.jpg")
    rows = [
        ("path", "label", "split", "patient"),
        ("images/a.jpg", "LYT", "training", "p1"),
        ("b.jpg", " EOS ", "", "p2"),
        ("", "EOS", "", ""),
        ("b.jpg", "MON", "", ""),
        ("gone.jpg", "MON", "", ""),
    ]
    table = write(name, "\n".join(separator.join(row) for row in rows) + "\n\n")
    crops = read_crops(table)
    assert crops.items == (
        LabelledCrop(tmp_path / "b.jpg", "EOS", "", "p2"),
        LabelledCrop(tmp_path / "images/a.jpg", "LYT", "train", "p1"),
    )
    assert [p.what for p in crops.problems] == [
        "row 4 names no image or no label; left out",
        "b.jpg is listed as EOS and MON; the first counts",
        "row 6: its image gone.jpg was not found; left out",
    ]
    assert listed(read_crops(tmp_path), tmp_path) == listed(crops, tmp_path)


def test_images_that_a_table_does_not_name(
    tmp_path: Path, make_image: MakeImage, write: Write
) -> None:
    make_image("a.jpg")
    make_image("b.jpg")
    write("labels.csv", "file,class\na.jpg,EOS\n")
    crops = read_crops(tmp_path)
    assert len(crops) == 1
    assert "does not name 1 images, first" in crops.problems[0].what


def test_finer_labels_come_from_the_code_column(
    tmp_path: Path, make_image: MakeImage, write: Write
) -> None:
    make_image("ig/MY_1.jpg")
    make_image("ig/PMY_2.jpg")
    write("splits.csv", "file,split,class,code\nig/MY_1.jpg,train,ig,MY\nig/PMY_2.jpg,val,ig,XX\n")
    assert read_crops(tmp_path).classes == ("ig",)
    fine = read_crops(tmp_path, labels="code")
    assert [(i.label, i.split) for i in fine.items] == [("MY", "train"), ("XX", "val")]


def test_finer_labels_from_file_names(tmp_path: Path, make_image: MakeImage) -> None:
    make_image("neutrophil/SNE_1.jpg")
    make_image("neutrophil/BNE_1.jpg")
    make_image("platelet/PLATELET_1.jpg")
    assert read_crops(tmp_path, labels="code").classes == ("BNE", "PLATELET", "SNE")
    make_image("platelet/0001.jpg")
    with pytest.raises(AnnotationError, match=r"has no finer labels: .*0001\.jpg does not begin"):
        read_crops(tmp_path, labels="code")


@pytest.mark.parametrize("inside", ["", "AML/"])
def test_lmu_as_it_unpacks(
    tmp_path: Path, make_image: MakeImage, write: Write, inside: str
) -> None:
    make_image("AML/BAS/BAS_0001.tiff")
    make_image("AML/NGB/NGB_0001.tiff")
    write(
        f"{inside}annotations.dat",
        "BAS/BAS_0001.tiff BAS nan nan\nNGB/NGB_0001.tiff NGB NGS nan\n"
        "EBO/EBO_0001.tiff EBO\n\nx\n",
    )
    crops = read_crops(tmp_path)
    assert crops.format == "lmu"
    assert listed(crops, tmp_path / "AML") == [
        ("BAS/BAS_0001.tiff", "BAS", ""),
        ("NGB/NGB_0001.tiff", "NGB", ""),
    ]
    assert [p.what for p in crops.problems] == [
        "line 3: its image EBO/EBO_0001.tiff was not found; left out",
        "line 5: it has no label; left out",
    ]


def test_boxes_with_types_are_crops(tmp_path: Path, make_image: MakeImage, write: Write) -> None:
    make_image("field.jpg", (100, 50))
    content = {
        "images": [{"id": 1, "file_name": "field.jpg", "width": 100, "height": 50}],
        "categories": [{"id": 1, "name": "EOS"}, {"id": 2, "name": "MON"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [40, 10, 20, 30]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [5, 6, 7, 8]},
            {"id": 3, "image_id": 1, "category_id": 1, "bbox": [5, 6, 0, 8]},
        ],
    }
    write("train.json", json.dumps(content))
    crops = read_crops(tmp_path)
    assert crops.format == "boxes (coco)"
    assert crops.items == (
        LabelledCrop(tmp_path / "field.jpg", "EOS", "train", "", (5.0, 6.0, 12.0, 14.0)),
        LabelledCrop(tmp_path / "field.jpg", "MON", "train", "", (40.0, 10.0, 60.0, 40.0)),
    )
    assert len(crops.problems) == 1


def test_red_cells_of_several_microscopes(
    tmp_path: Path, make_image: MakeImage, write: Write
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        make_image(name)
    write("cells.csv", "path,label,rbc_px\na.png,x,70\nb.png,x,\nc.png,y,huge\n")
    crops = read_crops(tmp_path)
    assert [(i.path.name, i.rbc_px) for i in crops.items] == [("a.png", 70.0), ("b.png", None)]
    assert "row 4: rbc_px is 'huge', expected a red-cell diameter" in crops.problems[0].what
    write_crop_table(tmp_path / "again.csv", crops.items)
    again = read_crops(tmp_path / "again.csv")
    assert [i.rbc_px for i in again.items] == [70.0, None]


def test_pictures_and_boxes_of_several_microscopes_in_one_table(
    tmp_path: Path, make_image: MakeImage, write: Write
) -> None:
    for name in ("cell.png", "field.png"):
        make_image(name)
    table = """file,class,rbc_px,x_min,y_min,x_max,y_max
cell.png,x,70,,,,
field.png,y,40,5,5,9,9
field.png,x,40,1,2,3,4
field.png,x,40,3,2,1,4
"""
    write("cells.csv", table)
    crops = read_crops(tmp_path)
    seen = [(i.path.name, i.label, i.box_xyxy, i.rbc_px) for i in crops.items]
    assert seen == [
        ("cell.png", "x", None, 70.0),
        ("field.png", "x", (1.0, 2.0, 3.0, 4.0), 40.0),
        ("field.png", "y", (5.0, 5.0, 9.0, 9.0), 40.0),
    ]
    assert "row 5: its box is 3, 2, 1, 4, expected xmin < xmax" in crops.problems[0].what
    write_crop_table(tmp_path / "again.csv", crops.items)
    again = read_crops(tmp_path / "again.csv")
    assert [(i.path.name, i.label, i.box_xyxy, i.rbc_px) for i in again.items] == seen


def test_relabelling_merges_and_leaves_out() -> None:
    items = tuple(LabelledCrop(Path(f"{i}.jpg"), label) for i, label in enumerate("AABC"))
    crops = CropSet(items, ("A", "B", "C"))
    merged = crops.relabelled({"A": "x", "B": "x", "C": None}.get)
    assert label_counts(merged) == {"x": 3}
    ordered = crops.relabelled(lambda label: label.lower(), classes=("c", "b", "a", "d"))
    assert label_counts(ordered) == {"c": 1, "b": 1, "a": 2, "d": 0}


def test_a_subset_by_split() -> None:
    items = (LabelledCrop(Path("a"), "A", "train"), LabelledCrop(Path("b"), "A", ""))
    crops = CropSet(items, ("A",))
    assert crops.splits() == {"": 1, "train": 1}
    assert len(crops.subset("train")) == 1
    with pytest.raises(AnnotationError, match=r"no split 'val'; .* \{'train': 1, '\(none\)': 1\}"):
        crops.subset("val")


def test_labels_outside_the_classes_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match=r"labels \['B'\] are not in classes \('A',\)"):
        CropSet((LabelledCrop(Path("a"), "B"),), ("A",))


@pytest.mark.parametrize("format", ["table", "lmu"])
def test_a_format_that_is_named_but_not_there(tmp_path: Path, format: CropFormat) -> None:
    with pytest.raises(AnnotationError, match="holds no"):
        read_crops(tmp_path, format=format)


def test_what_is_no_data_set_says_what_was_expected(tmp_path: Path, write: Write) -> None:
    with pytest.raises(AnnotationError, match="does not exist"):
        read_crops(tmp_path / "gone")
    with pytest.raises(AnnotationError, match="holds no usable cell: no image was found"):
        read_crops(tmp_path)
    with pytest.raises(AnnotationError, match="is no single-cell data set; expected a folder"):
        read_crops(write("notes.txt", "hello"))
    with pytest.raises(UsageError, match="there is no format 'voc', expected auto, table"):
        read_crops(tmp_path, format="voc")  # type: ignore[arg-type]


def published(folder: Path) -> list[dict[str, str]]:
    """The rows of a data set's splits.csv whose picture is there."""
    with (folder / "splits.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if (folder / row["file"]).is_file()]


def test_pbc_is_read_completely(shared_data: Path) -> None:
    folder = shared_data / "pbc"
    if not folder.is_dir():
        pytest.skip("the PBC crops are not here")
    rows = published(folder)
    crops = read_crops(folder)
    assert len(crops) == len(rows) == sum(1 for _ in folder.glob("*/*.jpg"))
    assert crops.splits() == Counter(row["split"] for row in rows)
    assert label_counts(crops) == Counter(row["class"] for row in rows)
    assert crops.problems == ()
    fine = read_crops(folder, labels="code")
    assert label_counts(fine) == Counter(row["code"] for row in rows)
    by_name = read_crops(folder, labels="code", format="folders")
    assert label_counts(by_name) == label_counts(fine)


def test_mll_is_read_completely(shared_data: Path) -> None:
    folder = shared_data / "mll-marrow"
    if not folder.is_dir():
        pytest.skip("the MLL crops are not here")
    rows = published(folder)
    crops = read_crops(folder)
    assert len(crops) == len(rows) == sum(1 for _ in folder.glob("*/*.jpg"))
    assert crops.splits() == Counter(row["split"] for row in rows)
    assert label_counts(crops) == Counter(row["class"] for row in rows)


def test_typed_boxes_of_real_fields(shared_data: Path) -> None:
    if not (shared_data / "wbc-fields").is_dir():
        pytest.skip("the WBC fields are not here")
    folder = shared_data / "wbc-fields"
    crops = read_crops(folder)
    assert crops.format == "boxes (yolo)"
    files = (folder / "labels").glob("*.txt")
    assert len(crops) == sum(len(path.read_text().split()) // 5 for path in files)
    boxes = np.array([i.box_xyxy for i in crops.items])
    assert (boxes[:, 2:] > boxes[:, :2]).all()
