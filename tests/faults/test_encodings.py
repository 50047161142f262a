"""Files that are not UTF-8 (W36): read by what they state of their encoding, else told as such."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cellcount.datasets.annotations import read_annotations
from cellcount.errors import AnnotationError
from tests.faults.recipes import Fields, Run, made

BOX = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>50</xmax><ymax>50</ymax></bndbox>"


def xml(encoding: str, name: str = "f.png", path: str = "", label: str = "rbc") -> str:
    stated = f'<?xml version="1.0" encoding="{encoding}"?>\n' if encoding else ""
    return (
        f"{stated}<annotation><filename>{name}</filename><path>{path}</path>"
        f"<object><name>{label}</name>{BOX}</object></annotation>"
    )


@pytest.mark.parametrize(
    ("stated", "encoding", "word"),
    [
        ("gbk", "gbk", "血细胞"),
        ("GB2312", "gb2312", "血细胞"),
        ("GB18030", "gb18030", "血細胞"),
        ("big5", "big5", "血球"),
        ("Shift_JIS", "shift_jis", "赤血球"),
        ("EUC-KR", "euc_kr", "적혈구"),
        ("windows-1252", "cp1252", "Präparat – é"),
        ("windows-1251", "cp1251", "эритроцит"),
        ("ISO-8859-1", "latin-1", "Erythrozyt Größe"),
        ("UTF-16", "utf-16", "Präparat 血"),
        ("UTF-16", "utf-16-le", "Präparat 血"),
        ("utf-16be", "utf-16-be", "Präparat 血"),
        ("UTF-8", "utf-8-sig", "Präparat 血"),
        ("", "utf-8", "Präparat 血"),
    ],
)
def test_voc_in_the_encoding_that_it_states(
    fields: Fields, folder: Path, stated: str, encoding: str, word: str
) -> None:
    fields.put(0, f"{word}.png")
    text = xml(stated, f"{word}.png", f"D:\\{word}", word)
    Path("f.xml").write_bytes(text.encode(encoding))
    annotated = read_annotations(folder)
    assert annotated.images[0].labels == (word,)
    assert annotated.images[0].boxes_xyxy.tolist() == [[10, 10, 50, 50]]
    assert annotated.problems == ()


def test_voc_that_states_nothing_is_read_where_what_counts_is_ascii(
    fields: Fields, folder: Path
) -> None:
    fields.put(0, "f.png")
    Path("f.xml").write_bytes(xml("", path="D:\\血细胞").encode("gbk"))
    assert read_annotations(folder).images[0].labels == ("rbc",)


@pytest.mark.parametrize(
    ("stated", "encoding", "said"),
    [
        ("", "gbk", "names its class in an unknown encoding; save the file as UTF-8"),
        ("utf-8", "cp1252", "names its class in an unknown encoding; save the file as UTF-8"),
        ("x-mac-klingon", "cp1252", "names its class in an unknown encoding"),
        ("shift_jis", "gb18030", "is not in shift_jis, which it states"),
    ],
)
def test_voc_whose_encoding_cannot_be_known_is_told(
    fields: Fields, folder: Path, run: Run, stated: str, encoding: str, said: str
) -> None:
    fields.put(0, "f.png")
    label = "é" if encoding == "cp1252" else "血细胞㐀"[: 3 + (stated == "shift_jis")]
    Path("f.xml").write_bytes(xml(stated, label=label).encode(encoding))
    code, _, err = run("datasets", "inspect", ".")
    assert code == 3
    assert said in err
    assert "fits no known annotation format" not in err


def test_an_entity_bomb_is_refused_in_every_encoding(fields: Fields, folder: Path) -> None:
    fields.put(0, "f.png")
    bomb = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY b "c">]>' + xml("")
    Path("f.xml").write_bytes(bomb.encode("utf-16"))
    with pytest.raises(AnnotationError):
        read_annotations(folder)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("form", ["coco", "labelme", "via", "csv", "yolo"])
def test_other_formats_with_a_mark(fields: Fields, folder: Path, form: str, encoding: str) -> None:
    fields.put(0, "images/é.png")
    shape = {"label": "wbc", "points": [[10, 10], [50, 50]], "shape_type": "rectangle"}
    rect = {"name": "rect", "x": 10, "y": 10, "width": 40, "height": 40}
    region = {"shape_attributes": rect, "region_attributes": {"type": "wbc"}}
    texts = {
        "coco": (
            "x.json",
            json.dumps(
                {
                    "images": [{"id": 1, "file_name": "é.png"}],
                    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40]}],
                    "categories": [{"id": 1, "name": "wbc"}],
                },
                ensure_ascii=False,
            ),
        ),
        "labelme": ("é.json", json.dumps({"imagePath": "é.png", "shapes": [shape]})),
        "via": ("v.json", json.dumps({"é": {"filename": "é.png", "regions": [region]}})),
        "csv": ("b.csv", "image,xmin,ymin,xmax,ymax,label\né.png,10,10,50,50,wbc\n"),
        "yolo": ("labels/é.txt", "0 0.046875 0.0625 0.0625 0.083333\n"),
    }
    name, text = texts[form]
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    made(name).write_bytes((mark + text).encode(encoding))
    if form == "yolo":
        Path("classes.txt").write_bytes((mark + "wbc\r\n").encode(encoding))
    annotated = read_annotations(folder)
    assert annotated.images[0].labels == ("wbc",)
    assert annotated.images[0].boxes_xyxy[0].tolist() == pytest.approx([10, 10, 50, 50], abs=0.1)


def test_json_that_is_not_utf8_is_told_as_such(fields: Fields, folder: Path, run: Run) -> None:
    fields.put(0, "f.png")
    text = '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "Präp"}]}'
    Path("x.json").write_bytes(text.encode("cp1252"))
    code, _, err = run("datasets", "inspect", ".")
    assert code == 3
    assert "x.json is not UTF-8 text" in err


def test_a_table_of_an_older_spreadsheet_is_read(fields: Fields, folder: Path) -> None:
    fields.put(0, "Präparat.png")
    text = "image,xmin,ymin,xmax,ymax,label\nPräparat.png,10,10,50,50,wbc\n"
    Path("b.csv").write_bytes(text.encode("cp1252"))
    assert read_annotations(folder).images[0].path.name == "Präparat.png"


def test_a_broken_file_among_good_ones_is_said(fields: Fields, folder: Path) -> None:
    fields.put(0, "a.png")
    fields.put(1, "b.png")
    good = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": fields.annotations(0, 1),
        "categories": [{"id": 1, "name": "rbc"}, {"id": 2, "name": "wbc"}, {"id": 3, "name": "p"}],
    }
    Path("instances_a.json").write_text(json.dumps(good))
    Path("instances_b.json").write_text(json.dumps(good).replace("a.png", "b.png")[:-40])
    annotated = read_annotations(folder)
    assert [i.path.name for i in annotated.images] == ["a.png"]
    assert any("instances_b.json" in str(p) and "not valid JSON" in str(p)
               for p in annotated.problems)  # fmt: skip
