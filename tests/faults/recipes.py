"""Six rendered fields with truth, and writers for the annotation files that people have of them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.rendering.field import FieldSpec, render_field

#: Class → id in COCO; in YOLO one less.
CLASS_IDS = {"rbc": 1, "wbc": 2, "platelet": 3}
CATEGORIES = [{"id": number, "name": name} for name, number in CLASS_IDS.items()]
WIDTH_PX, HEIGHT_PX = 640, 480

#: ``run("datasets", "inspect", ".")`` → exit code, stdout, stderr.
Run = Callable[..., tuple[int, str, str]]
#: Label, x, y, width, height in pixels.
Box = tuple[str, float, float, float, float]


@dataclass(frozen=True)
class Fields:
    """The rendered fields; paths that its methods write to are relative to the current folder.

    Attributes:
        folder: ``images/field-00000.png`` to ``field-00005.png`` and ``truth.json``.
    """

    folder: Path

    def path(self, i: int) -> Path:
        """The file of field ``i``."""
        return self.folder / "images" / f"field-{i:05d}.png"

    def image(self, i: int) -> Image.Image:
        """Field ``i`` as RGB."""
        with Image.open(self.path(i)) as image:
            return image.convert("RGB")

    def pixels(self, i: int) -> NDArray[np.uint8]:
        """Field ``i`` as an array."""
        return np.asarray(self.image(i))

    @cached_property
    def _truth(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "truth.json").read_text())
        return content

    def boxes(self, i: int) -> list[Box]:
        """The true boxes of field ``i``."""
        names = {c["id"]: c["name"] for c in self._truth["categories"]}
        image_id = self._truth["images"][i]["id"]
        return [
            (names[a["category_id"]], *a["bbox"])
            for a in self._truth["annotations"]
            if a["image_id"] == image_id
        ]

    def annotations(self, i: int, image_id: int, start: int = 1) -> list[dict[str, Any]]:
        """The boxes of field ``i`` as COCO annotations of ``image_id``."""
        return [
            {
                "id": start + number,
                "image_id": image_id,
                "category_id": CLASS_IDS[label],
                "bbox": [x, y, w, h],
            }
            for number, (label, x, y, w, h) in enumerate(self.boxes(i))
        ]

    def put(self, i: int, path: str) -> None:
        """Copies field ``i``."""
        shutil.copy(self.path(i), made(path))

    def yolo(self, path: str, i: int, more: str = "") -> None:
        """Writes YOLO labels of field ``i``, each line with ``more`` at its end."""
        lines = [
            f"{CLASS_IDS[label] - 1} {(x + w / 2) / WIDTH_PX:.6f} {(y + h / 2) / HEIGHT_PX:.6f} "
            f"{w / WIDTH_PX:.6f} {h / HEIGHT_PX:.6f}{more}\n"
            for label, x, y, w, h in self.boxes(i)
        ]
        made(path).write_text("".join(lines))


@cache
def small_png(seed: int) -> bytes:
    """A rendered field of a few cells as a PNG file; many tests want the same ones."""
    field = render_field(FieldSpec(160, 120, seed, 24, 0.3, 2, 3, debris=0))
    file = BytesIO()
    Image.fromarray(field.pixels).save(file, "PNG")
    return file.getvalue()


def made(path: str) -> Path:
    """The path, its folder made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def write_coco(
    path: str, images: Sequence[tuple[int, str]], annotations: Sequence[dict[str, Any]]
) -> None:
    """Writes a COCO file of fields of 640×480 px, each an id and a file name."""
    entries = [
        {"id": n, "file_name": name, "width": WIDTH_PX, "height": HEIGHT_PX} for n, name in images
    ]
    content = {"images": entries, "annotations": list(annotations), "categories": CATEGORIES}
    made(path).write_text(json.dumps(content))


def write_voc(
    path: str,
    name: str,
    boxes: Sequence[Box],
    size: tuple[int, int] = (WIDTH_PX, HEIGHT_PX),
) -> None:
    """Writes a Pascal VOC file."""
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for label, x, y, w, h in boxes
    )
    made(path).write_text(
        f"<annotation><filename>{name}</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height></size>{objects}</annotation>"
    )


def write_labelme(path: str, image: str, boxes: Sequence[Box], **more: object) -> None:
    """Writes a LabelMe file of rectangles, with further entries."""
    shapes = [
        {"label": label, "points": [[x, y], [x + w, y + h]], "shape_type": "rectangle"}
        for label, x, y, w, h in boxes
    ]
    made(path).write_text(json.dumps({"imagePath": image, "shapes": shapes} | more))


def via_entry(image: str, boxes: Sequence[Box], size_bytes: int = -1) -> dict[str, Any]:
    """The entry of a picture in a VIA file."""
    regions = [
        {
            "shape_attributes": {"name": "rect", "x": x, "y": y, "width": w, "height": h},
            "region_attributes": {"type": label},
        }
        for label, x, y, w, h in boxes
    ]
    return {"filename": image, "size": size_bytes, "regions": regions}


def write_via(path: str, *entries: dict[str, Any]) -> None:
    """Writes a VIA file."""
    content = {f"{entry['filename']}{entry['size']}": entry for entry in entries}
    made(path).write_text(json.dumps(content))


def write_csv(path: str, image: str, boxes: Sequence[Box]) -> None:
    """Writes a table of boxes by their corners."""
    with made(path).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "xmin", "ymin", "xmax", "ymax", "label"])
        writer.writerows([image, x, y, x + w, y + h, label] for label, x, y, w, h in boxes)
