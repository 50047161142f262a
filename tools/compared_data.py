"""Input data of the regression net, rendered once with the reference tree.

No module of cellcount is imported: pictures and truth come from ``cellcount datasets render`` of
the reference tree, the other annotation formats are derived from that truth.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageOps

#: Runs one cellcount command line and returns its standard output.
Cellcount = Callable[[Sequence[str]], str]

COLOURS = {"neutrophil": (200, 70, 80), "lymphocyte": (60, 190, 80), "erythroblast": (70, 60, 200)}
CODES = {"NGS": "neutrophil", "LYT": "lymphocyte", "EBO": "erythroblast"}
CLASSES = ("segmented_neutrophils", "lymphocytes", "monocytes")
BLOOD_CLASSES = {1: "rbc", 2: "wbc", 3: "platelet"}


def build_data(tree: Path, data: Path, cellcount: Cellcount) -> None:
    """Write all input data of the cases.

    Args:
        tree: root of the reference tree.
        data: new folder to fill.
        cellcount: runs commands of the reference tree.
    """
    data.mkdir(parents=True)
    shutil.copy2(tree / "tests/golden/tiny.safetensors", data)
    shutil.copytree(tree / "tests/classifiers", data / "plugins")
    tinynet = (tree / "plugins/cellcount-tinynet/cellcount_tinynet.py").read_text("utf-8")
    (data / "backbones").mkdir()
    (data / "backbones/foldernet.py").write_text(tinynet + "\nbuild_backbone = build\n", "utf-8")
    shutil.copytree(tree / "sample_data", data / "smears")
    _render(data, cellcount)
    _write_annotations(data, cellcount)
    _write_crops(data)
    _write_typed_fields(data / "typed")
    _write_tables(data / "tables")
    _write_own_files(data, cellcount)
    _train(data, cellcount)


def _render(data: Path, cellcount: Cellcount) -> None:
    """Fields with truth, a folder of two slides, the same with damage, a whole slide, manifests."""
    render = ["datasets", "render", "--out"]
    cellcount([*render, f"{data}/fields", "--fields", "4", "--size", "320x240", "--seed", "2",
               "--density", "0.25-0.45"])  # fmt: skip
    cellcount([*render, f"{data}/large", "--fields", "1", "--size", "2500x2000", "--seed", "5",
               "--density", "0.03-0.05"])  # fmt: skip
    names = ("a/1.png", "a/2.jpg", "b/1.tif", "b/x/2.bmp")
    for name, source in zip(names, sorted((data / "fields/images").iterdir()), strict=True):
        path = data / "slides" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as picture:
            picture.convert("RGB").save(path)
    damaged = data / "damaged"
    shutil.copytree(data / "slides", damaged)
    whole = (damaged / "a/2.jpg").read_bytes()
    (damaged / "a/cut-short.jpg").write_bytes(whole[: len(whole) // 2])
    (damaged / "a/empty.png").write_bytes(b"")
    (damaged / "b/notes.txt").write_text("not an image\n")
    Image.new("RGB", (320, 240), (3, 3, 3)).save(damaged / "b/black.png")
    (picture_path,) = (data / "large/images").iterdir()
    with Image.open(picture_path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    (data / "scans").mkdir()
    tifffile.imwrite(
        data / "scans/scan.tif", pixels, photometric="rgb", tile=(256, 256), compression="zlib"
    )
    rows = [
        ("path", "slide", "specimen", "stain", "um_per_px", "wbc_10e9_per_l"),
        ("slides/a/1.png", "A-17", "patient 1", "MGG", "0.2", "7.5"),
        ("slides/a/2.jpg", "A-17", "patient 1", "MGG", "0.2", "7.5"),
        ("slides/b/1.tif", "B-02", "patient 2", "", "", ""),
    ]
    _write_csv(data / "manifest.csv", rows)
    smears = [(f"smears/{p.parent.name}/{p.name}", p.parent.name, "patient 1", "6.1")
              for p in sorted((data / "smears").rglob("*.jpg"))]  # fmt: skip
    _write_csv(data / "smears.csv", [("path", "slide", "specimen", "wbc_10e9_per_l"), *smears])


def _write_annotations(data: Path, cellcount: Cellcount) -> None:
    """The truth of the fields in every format that cellcount reads."""
    sets = data / "sets"
    for form in ("coco", "voc", "yolo", "folders"):
        cellcount(["datasets", "convert", f"{data}/fields", "--to", form, "--out",
                   f"{sets}/{form}"])  # fmt: skip
    truth = json.loads((data / "fields/truth.json").read_text("utf-8"))
    boxes: dict[str, list[tuple[str, list[float]]]] = {}
    for image in truth["images"]:
        boxes[Path(image["file_name"]).name] = [
            (BLOOD_CLASSES[a["category_id"]], a["bbox"])
            for a in truth["annotations"]
            if a["image_id"] == image["id"]
        ]
    for form in ("labelme", "via", "csv"):
        shutil.copytree(data / "fields/images", sets / form)
    rows: list[Sequence[object]] = [("image", "xmin", "ymin", "xmax", "ymax", "label")]
    via: dict[str, Any] = {}
    for name, cells in boxes.items():
        corners = [(label, x, y, x + w, y + h) for label, (x, y, w, h) in cells]
        rows += [(name, x0, y0, x1, y1, label) for label, x0, y0, x1, y1 in corners]
        shapes = [
            {"label": label, "shape_type": "rectangle", "points": [[x0, y0], [x1, y1]]}
            for label, x0, y0, x1, y1 in corners
        ]
        labelme = {"version": "5.4.1", "imagePath": name, "imageWidth": 320, "imageHeight": 240}
        _write_json(sets / "labelme" / f"{Path(name).stem}.json", {**labelme, "shapes": shapes})
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": x, "y": y, "width": w, "height": h},
                "region_attributes": {"type": label},
            }
            for label, (x, y, w, h) in cells
        ]
        size = (sets / "via" / name).stat().st_size
        via[f"{name}{size}"] = {
            "filename": name, "size": size, "regions": regions, "file_attributes": {},
        }  # fmt: skip
    _write_csv(sets / "csv/boxes.csv", rows)
    _write_json(sets / "via/via.json", via)
    broken = json.loads(json.dumps(truth))
    broken["annotations"] += [
        {**truth["annotations"][0], "id": 90001, "bbox": [5000, 10, 20, 20]},
        {**truth["annotations"][0], "id": 90002, "bbox": [10, 10, 0, 20]},
    ]
    broken["images"].append({"id": 90003, "file_name": "images/gone.png", "width": 9, "height": 9})
    shutil.copytree(data / "fields/images", sets / "broken/images")
    first = sets / "broken/images/field-00000.png"
    with Image.open(first) as picture:
        ImageOps.mirror(picture).save(sets / "broken/images/field-00001.png")
    _write_json(sets / "broken/truth.json", broken)
    _write_csv(
        sets / "broken/splits.csv",
        [("file", "split"), *((f"images/field-0000{n}.png", s)
                              for n, s in enumerate(("train", "test", "val", "train")))],
    )  # fmt: skip


def _crop(kind: str, rng: np.random.Generator) -> Image.Image:
    """A square of the type's colour on a light background, with noise."""
    pixels = np.full((48, 48, 3), 235.0)
    pixels[6:-6, 6:-6] = COLOURS[kind]
    noisy = np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255)
    return Image.fromarray(noisy.astype(np.uint8))


def _write_crops(data: Path) -> None:
    """Single cells: a folder per class with splits, a table, and the forms of LMU and MLL."""
    rng = np.random.default_rng(4)
    for split, number in (("train", 6), ("val", 4)):
        for kind in COLOURS:
            folder = data / "crops" / split / kind
            folder.mkdir(parents=True)
            for n in range(number):
                shown = "neutrophil" if split == "val" and n == 0 else kind
                _crop(shown, rng).save(folder / f"{n}.png")
    rows: list[Sequence[object]] = [("path", "label", "split", "patient")]
    annotations = []
    for code, kind in CODES.items():
        for n in range(10):
            split = "train" if n < 8 else "val"
            rows.append((f"pictures/{code}{n}.png", code, split, f"P{n}"))
            annotations.append(f"{code}/{code}_{n:04d}.tiff {code} {code} nan")
            picture = _crop(kind, rng)
            for name in (
                f"table/pictures/{code}{n}.png",
                f"lmu/AML-Cytomorphology/{code}/{code}_{n:04d}.tiff",
                f"mll/BM_cytomorphology_data/{code}/0001-1000/{code}_{n + 1:05d}.jpg",
            ):
                path = data / name
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
    _write_csv(data / "table/cells.csv", rows)
    (data / "lmu/annotations.dat").write_text("\n".join(annotations) + "\n")


def _write_typed_fields(folder: Path) -> None:
    """COCO boxes with types, three cells on every field."""
    rng = np.random.default_rng(9)
    folder.mkdir()
    images: list[dict[str, object]] = []
    boxes: list[dict[str, object]] = []
    for number in range(1, 9):
        field = np.full((60, 180, 3), 235, np.uint8)
        for place, kind in enumerate(COLOURS):
            crop = np.asarray(_crop(kind, rng))
            field[6:54, 60 * place + 6 : 60 * place + 54] = crop
            boxes.append({
                "id": len(boxes) + 1, "image_id": number, "category_id": place + 1,
                "bbox": [60 * place + 12, 12, 36, 36], "area": 1296, "iscrowd": 0,
            })  # fmt: skip
        Image.fromarray(field).save(folder / f"field{number}.png")
        images.append({"id": number, "file_name": f"field{number}.png", "width": 180, "height": 60})
    categories = [{"id": n, "name": name} for n, name in enumerate(COLOURS, 1)]
    document = {"images": images, "annotations": boxes, "categories": categories}
    _write_json(folder / "annotations.json", document)


def _write_tables(folder: Path) -> None:
    """Differentials of two methods, and repeated counts."""
    rng = np.random.default_rng(5)
    head = ("level", "specimen", "slide", "kind", "row", "n", "denominator", "percent")
    ours: list[Sequence[object]] = [head]
    theirs: list[Sequence[object]] = [("slide", "n", *CLASSES)]
    for i in range(24):
        name = f"s{i}" if i else "'=1+1"
        shares = rng.dirichlet([12, 6, 2])
        counts, reference = rng.multinomial(150, shares), rng.multinomial(200, shares)
        theirs.append((name, 200, *reference))
        ours += [("slide", "", name, "class", row, n, 150, f"{n / 1.5:.4f}")
                 for row, n in zip(CLASSES, counts, strict=True)]  # fmt: skip
    repeats: list[Sequence[object]] = [("specimen", "day", "run", "NEU", "LYM")]
    for i in range(20):
        n = int(rng.binomial(100, 0.6))
        repeats.append(("P", i // 4, i % 4 // 2, n, 100 - n))
    folder.mkdir()
    _write_csv(folder / "slides.csv", ours)
    _write_csv(folder / "manual.csv", theirs, ";")
    _write_csv(folder / "repeats.csv", repeats, ";")


def _write_own_files(data: Path, cellcount: Cellcount) -> None:
    """A profile that excludes more fields than the packaged one, and broken files."""
    packaged = cellcount(["profiles", "show", "peripheral-blood", "--toml"])
    strict = packaged.replace("exposure_min = 100", "exposure_min = 180")
    strict = strict.replace("exclude_exposure_min = 30", "exclude_exposure_min = 160")
    assert strict.count("exposure_min = 1") == 2
    (data / "strict.toml").write_text(strict, "utf-8")
    wrong = packaged.replace("exclude_focus_min", "exclude_fokus_min")
    (data / "wrong.toml").write_text(wrong, "utf-8")
    cellcount(["analyze", f"{data}/slides/a/1.png", "--out", f"{data}/key/c.csv", "--device", "cpu",
               "--detector", f"{data}/tiny.safetensors", "--classifier", "none",
               "--pseudonymize", f"{data}/key.csv"])  # fmt: skip
    (data / "wrong-types.toml").write_text('title = "Own"\nsource = "us"\n', "utf-8")
    (data / "wrong.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{no header}")


def _train(data: Path, cellcount: Cellcount) -> None:
    """A detector with attention refinement, and a classifier that needs a plugin."""
    cellcount(["train", "detector", f"{data}/fields", "--out", f"{data}/looking", "--device", "cpu",
               "--init", f"{data}/tiny.safetensors", "--refine-steps", "2", "--workers", "0",
               "--set", "iterations=2", "--set", "size_px=96", "--batch-size", "2",
               "--set", "precision=fp32", "--set", "split=3/1", "--set", "learn=refinement",
               "--rbc-px", "50", "--set", "rbc_diameter_px=24",
               "--set", "refine_hidden=16", "--set", "refine_heads=2",
               "--set", "refine_grid=6"])  # fmt: skip
    cellcount(["train", "classifier", f"{data}/crops", "--out", f"{data}/colours", "--device",
               "cpu", "--backbone", "colour", "--plugins", f"{data}/plugins", "--taxonomy",
               "pbc-8", "--epochs", "1", "--batch-size", "4", "--window", "1", "--rbc-px", "40",
               "--workers", "0", "--set", "augment=flips", "--set", "ema_decay=0", "--set",
               "lr=1e-6", "--set", "holdout=0.2"])  # fmt: skip


def _write_csv(path: Path, rows: Sequence[Sequence[object]], separator: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator, lineterminator="\n").writerows(rows)


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
