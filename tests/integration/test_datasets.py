"""``datasets inspect`` and ``datasets convert`` as a person uses them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from cellcount import cli
from cellcount.core.blood import BLOOD_CLASSES
from cellcount.core.records import LabelledImage
from cellcount.datasets.writers import write_coco
from cellcount.rendering.field import FieldSpec, render_field

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main([str(a) for a in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rendered fields with truth, the last a mirrored copy of the first."""
    root = tmp_path_factory.mktemp("fields")
    images = []
    for number in range(3):
        field = render_field(FieldSpec(160, 128, 61 + number % 2, 24, 0.3, 2, 3, debris=0))
        picture = Image.fromarray(field.pixels)
        path = root / f"{number}.png"
        (ImageOps.mirror(picture) if number == 2 else picture).save(path)
        split = ("train", "train", "test")[number]
        images.append(LabelledImage(path, field.boxes_xyxy, field.labels, 160, 128, split))
    write_coco(root / "truth.json", images, BLOOD_CLASSES)
    return root


def test_inspect_tells_in_all_forms_what_leaks(run: Run, fields: Path, tmp_path: Path) -> None:
    chart, copies, as_json = (tmp_path / name for name in ("c.png", "c.csv", "c.json"))
    code, out, err = run(
        "datasets", "inspect", fields, "--picture", chart, "--copies", copies, "--json", as_json
    )
    assert (code, err) == (1, "looking: 3 images\n")
    document = json.loads(as_json.read_text())
    truth = json.loads((fields / "truth.json").read_text())
    assert f"3 pictures, {len(truth['annotations'])} cells; read as coco: fields with boxes" in out
    assert "sizes: 160×128 px\n" in out
    assert "near-identical pictures: 1 pair\n  across train and test: 1\n" in out
    assert "0.png (train) = 2.png (test)" in out
    assert "broken files and boxes: none" in out
    (row,) = csv.DictReader(copies.read_text().splitlines())
    assert row == {k: str(v) for k, v in document["copies"][0].items()}
    assert (row["first_split"], row["second_split"]) == ("train", "test")
    for number, name in enumerate(BLOOD_CLASSES, start=1):
        total = sum(a["category_id"] == number for a in truth["annotations"])
        assert sum(document["classes"][name].values()) == total
        assert re.search(rf"^  {name} +{total} ", out, re.MULTILINE)
    assert document["sizes_px"] == [{"width": 160, "height": 128, "pictures": 3}]
    with Image.open(chart) as picture:
        assert picture.format == "PNG"
    assert max(map(len, out.splitlines())) <= 100


def test_convert_to_folders_and_look_again(run: Run, fields: Path, tmp_path: Path) -> None:
    out_dir = tmp_path / "cells"
    arguments = ("datasets", "convert", fields, "--to", "folders", "--out", out_dir)
    code, out, err = run(*arguments, "--split", "train", "--rbc-px", 24)
    assert code == 0
    written = re.match(r"(\d+) cells written to", out)
    assert written is not None
    assert err == f"writing: {written[1]} cells\n"
    code, out, _ = run("datasets", "inspect", out_dir)
    assert f"{written[1]} pictures, {written[1]} cells; read as table: one cell per picture" in out
    assert "sizes: 77×77 px" in out  # 3.2 red cells of 24 px
    code, _, err = run(*arguments)
    assert code == 3
    assert "is not empty; name a new folder" in err


def test_convert_maps_class_names(run: Run, fields: Path, tmp_path: Path) -> None:
    voc = tmp_path / "voc"
    code, _, _ = run("datasets", "convert", fields, "--to", "voc", "--out", voc)
    assert code == 0
    yolo = tmp_path / "yolo"
    run("datasets", "convert", voc, "--to", "yolo", "--classes", "blood", "--out", yolo)
    assert '["rbc", "wbc", "platelet"]' in (yolo / "data.yaml").read_text()


def test_nothing_to_read_is_said(run: Run, tmp_path: Path) -> None:
    code, _, err = run("datasets", "inspect", tmp_path)
    assert code == 3
    assert "holds no usable cell" in err
