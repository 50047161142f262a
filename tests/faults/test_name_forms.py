"""Names from a Mac (NFD) and from a keyboard (NFC), and in another letter case, are the same."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from cellcount import cli
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.crop_table import read_crop_table
from cellcount.datasets.splits import SplitTable
from cellcount.images.find import find_images

FORMS = [("NFD", "NFC"), ("NFC", "NFD")]
NAME = "Präparat é.png"


def form(name: str, text: str = NAME) -> str:
    return unicodedata.normalize(name, text)  # type: ignore[arg-type]


@pytest.fixture(params=FORMS, ids="-".join)
def forms(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """An image whose name has one form, and that name in the other form."""
    on_disk, written = request.param
    path = tmp_path / form(on_disk, "Tür") / form(on_disk)
    path.parent.mkdir()
    Image.new("RGB", (40, 30), (200, 120, 140)).save(path)
    return path, form(written)


def test_a_manifest_finds_its_images(forms: tuple[Path, str], tmp_path: Path) -> None:
    path, name = forms
    folder = form("NFC", "Tür") if name == form("NFC") else form("NFD", "Tür")
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"path,slide\n{folder}\\{name},S1\n", "utf-8")
    assert [ref.path for ref in find_images([str(manifest)]).refs] == [path]


@pytest.mark.parametrize("kind", ["coco", "csv", "labelme", "crops"])
def test_annotations_find_their_images(forms: tuple[Path, str], tmp_path: Path, kind: str) -> None:
    path, name = forms
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 10, 10]}
    coco = {
        "images": [{"id": 1, "file_name": name, "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "wbc"}],
        "annotations": [box],
    }
    shape = {"label": "wbc", "shape_type": "rectangle", "points": [[5, 5], [15, 15]]}
    labelme = {"imagePath": name, "shapes": [shape], "imageWidth": 40, "imageHeight": 30}
    texts = {
        "coco": ("truth.json", json.dumps(coco)),
        "csv": ("b.csv", f"image,xmin,ymin,xmax,ymax,label\n{name},5,5,15,15,wbc\n"),
        "labelme": ("a.json", json.dumps(labelme)),
        "crops": ("crops.csv", f"path,label\n{name},wbc\n"),
    }
    file, text = texts[kind]
    (tmp_path / file).write_text(text, "utf-8")
    if kind == "crops":
        crops = read_crop_table(tmp_path / file)
        assert ([item.path for item in crops.items], crops.problems) == ([path], ())
    else:
        read = read_annotations(tmp_path, format=kind)
        assert [image.path for image in read.images] == [path]
        assert len(read.images[0].labels) == 1


def test_splits_are_those_of_the_images(forms: tuple[Path, str], tmp_path: Path) -> None:
    path, name = forms
    (tmp_path / "splits.csv").write_text(f"file,split\n{name},val\n", "utf-8")
    table = SplitTable.beside(tmp_path)
    assert table.of(path) == "val"
    assert table.complaints([path]) == []


@pytest.mark.parametrize(("first", "second"), [*FORMS, ("NFC", "upper"), ("lower", "NFD")])
def test_slides_of_two_sheets_are_the_same(
    first: str,
    second: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, kind in (("a.csv", first), ("b.csv", second)):
        names = [f"Präparat Ü{n}" for n in range(6)]
        written = [
            getattr(n, kind)() if kind in ("upper", "lower") else form(kind, n) for n in names
        ]
        rows = "".join(f"{n},{60 + i},{40 - i}\n" for i, n in enumerate(written))
        Path(file).write_text("slide,NEU,LYM\n" + rows, "utf-8")
    assert cli.main(["evaluate", "counts", "a.csv", "b.csv"]) == 0
    assert "6 slides in both" in capfd.readouterr().out


def test_letter_case_decides_where_both_names_are_there(tmp_path: Path) -> None:
    for name in ("a.png", "A.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    manifest = tmp_path / "m.csv"
    manifest.write_text("path\nA.png\n")
    assert [ref.path.name for ref in find_images([str(manifest)]).refs] == ["A.png"]
