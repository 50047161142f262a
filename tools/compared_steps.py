"""Parts of the cases: options that several share, and changes of files between two commands."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

#: A command line without the program's name, or a function of the case's folder.
Step = str | Callable[[Path], None]

TINY = "--detector {data}/tiny.safetensors --device cpu"
COLOURS = "--classifier {data}/colours --plugins {data}/plugins"
#: The packaged detector with a classifier that types its white cells by their colour.
PACKAGED_TYPED = f"--device cpu {COLOURS}"
TYPED = f"{TINY} {COLOURS}"
UNTYPED = f"{TINY} --classifier none"
OUTPUTS = (
    "--out o/counts.csv --cells o/cells.csv --slides o/slides.csv --report o/report.html "
    "--coco o/coco.json --geojson o/geo --yolo o/yolo --voc o/voc"
)
_SMALL_DETECTOR = (
    "--workers 0 --device cpu --rbc-px 50 --set iterations=2 --set size_px=96 --batch-size 2 "
    "--set precision=fp32 --set split=3/1 --set validate_every=1 --set rbc_diameter_px={diameter}"
)
SMALL_DETECTOR = _SMALL_DETECTOR.format(diameter=32)
#: For models that go on from the small packaged one.
CONTINUED_DETECTOR = _SMALL_DETECTOR.format(diameter=24)
NEW_DETECTOR = (
    f"{SMALL_DETECTOR} --backbone timm/test_efficientnet --set pyramid_channels=32 "
    "--set finest_stride=8"
)
SMALL_CLASSIFIER = (
    "--workers 0 --device cpu --epochs 1 --batch-size 9 --set holdout=0.2 --set ema_decay=0"
)
PLUGIN_CLASSIFIER = (
    f"{SMALL_CLASSIFIER} --backbone colour --plugins {{data}}/plugins --set augment=flips "
    "--set lr=1e-6 --window 0"
)


def fill_corrections(folder: Path) -> None:
    """Fill in a type for the first four cells of ``look/corrections.csv``."""
    with (folder / "look/corrections.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    types = ("neutrophil", "lymphocyte", "erythroblast", "lymphocyte")
    for row, name in zip(rows, types, strict=False):
        row["corrected_type"] = name
    with (folder / "filled.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def list_known_cells(folder: Path) -> None:
    """Write ``expected.csv``: the centres of the white cells of ``o/cells.csv``."""
    with (folder / "o/cells.csv").open(encoding="utf-8", newline="") as file:
        cells = [row for row in csv.DictReader(file) if row["label"] == "wbc"]
    lines = ["image,x,y"]
    for cell in cells:
        x, y = (float(cell[f"{a}_min_px"]) + float(cell[f"{a}_max_px"]) for a in "xy")
        lines.append(f"{cell['image']},{x / 2},{y / 2}")
    (folder / "expected.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "more.csv").write_text("\n".join([*lines, lines[-1] + "99"]) + "\n", "utf-8")


def change_log(folder: Path) -> None:
    """Change a figure of the first row of ``control.csv``."""
    path = folder / "control.csv"
    head, first, *others = path.read_text("utf-8").split("\n")
    path.write_text("\n".join([head, first.replace("pass", "fail"), *others]), "utf-8")


def remove_outputs(folder: Path) -> None:
    """Remove a table and a picture that a second run must write again."""
    (folder / "o/cells.csv").unlink()
    next((folder / "o/drawn").rglob("*.*")).unlink()


def copy_key(folder: Path) -> None:
    """Take the key of pseudonyms from the input data: a new one would be drawn at random."""
    shutil.copyfile(folder.parents[2] / "data/key.csv", folder / "key.csv")


def add_bom(folder: Path) -> None:
    """Save ``filled.csv`` as a spreadsheet does: semicolons and a byte-order mark."""
    text = (folder / "filled.csv").read_text("utf-8").replace(",", ";")
    (folder / "sheet.csv").write_text(text, "utf-8-sig")
