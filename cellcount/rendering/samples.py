"""The fields of ``sample_data``: their specifications, and the code that renders them again.

``python -m tools.render_samples sample_data`` writes pictures and ``truth.json`` anew. Their seeds
are ``SAMPLE_SEEDS``, which no training may use.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from cellcount.core.records import LabelledImage
from cellcount.datasets.writers import write_coco
from cellcount.rendering.field import (
    LABELS,
    FieldSpec,
    Illumination,
    RedCells,
    RenderedField,
    Stain,
    render_field,
)

JPEG_QUALITY = 92

_GIEMSA = Stain()
_LEISHMAN = Stain((216, 220, 208), (180, 150, 148), (112, 86, 190), (186, 180, 214))
_WRIGHT = Stain((206, 232, 220), (196, 100, 122), (56, 46, 106), (190, 196, 210))
_LAMP = Illumination(vignette=(0.08, 0.10, 0.12), unevenness=0.01)
_EVEN = Illumination(gain=0.98, vignette=(0.04, 0.04, 0.04), center=(0.45, 0.55))
_PALE = RedCells(pallor=0.7, overlap=0.2, stickiness=0.35)
_CLUMPED = RedCells(pallor=0.75, overlap=0.3, stickiness=0.65, rouleaux=0.25, halo=0.08)
_DENSE = RedCells(pallor=0.4, overlap=0.25, stickiness=0.5, translucency=0.4)

SAMPLE_FIELDS: dict[str, FieldSpec] = {
    "slide-A/field-1.jpg": FieldSpec(
        800, 600, 9_000_030, 90, 0.30, 2, 5, _GIEMSA, _PALE, _LAMP, 0.8, 1.5
    ),
    "slide-A/field-2.jpg": FieldSpec(
        800, 600, 9_000_558, 90, 0.45, 2, 6, _GIEMSA, _PALE, _LAMP, 0.8, 1.5
    ),
    "slide-A/field-3.jpg": FieldSpec(
        800, 600, 9_000_551, 82, 0.60, 3, 8, _GIEMSA, _CLUMPED, _LAMP, 1.0, 1.5
    ),
    "slide-B/field-1.jpg": FieldSpec(
        640, 480, 9_000_309, 104, 0.45, 1, 3, _LEISHMAN, _CLUMPED, _EVEN, 1.1, 2.0
    ),
    "slide-B/field-2.jpg": FieldSpec(
        640, 480, 9_000_430, 100, 0.30, 1, 4, _LEISHMAN, _CLUMPED, _EVEN, 1.1, 2.0
    ),
    "slide-C/field-1.jpg": FieldSpec(
        640, 480, 9_000_790, 50, 0.55, 4, 10, _WRIGHT, _DENSE, _EVEN, 0.6, 1.5
    ),
}


def write_samples(folder: Path) -> dict[str, RenderedField]:
    """Render ``SAMPLE_FIELDS`` into the folder, with a COCO ``truth.json`` beside them."""
    rendered = {name: render_field(spec) for name, spec in SAMPLE_FIELDS.items()}
    images = []
    for name, field in rendered.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(field.pixels).save(path, quality=JPEG_QUALITY)
        height, width = field.pixels.shape[:2]
        images.append(LabelledImage(path, field.boxes_xyxy, field.labels, width, height))
    write_coco(folder / "truth.json", images, LABELS)
    return rendered
