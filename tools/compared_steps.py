"""Changes of files between two commands of a case; each takes the folder of the case."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path


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
