"""Renders the fields of the golden tests: ``python tests/golden/make_fields.py``.

Two slides at different magnification, a stack of two pages, a manifest and a file cut short.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from cellcount.rendering.field import FieldSpec, render_field

FOLDER = Path(__file__).parent / "fields"
MANIFEST = """path,slide,specimen,um_per_px
slide-a/field-1.jpg,A-17,patient 1,0.3125
slide-b/field-1.jpg,B-02,patient 2,0.15625
"""


def render(seed: int, width_px: int, height_px: int, rbc_diameter_px: float) -> np.ndarray:
    """Pixels uint8 (H, W, 3)."""
    spec = FieldSpec(width_px, height_px, seed, rbc_diameter_px, 0.3, 2, 4, debris=0)
    return render_field(spec).pixels


def main() -> None:
    """Writes the folder anew."""
    for seed, name, size in (
        (41, "slide-a/field-1.jpg", (384, 288, 24.0)),
        (42, "slide-a/field-2.jpg", (224, 160, 24.0)),
        (43, "slide-b/field-1.jpg", (400, 300, 48.0)),
    ):
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(seed, *size)).save(path, quality=88)
    with tifffile.TiffWriter(FOLDER / "stack.tif") as stack:
        for seed in (44, 45):
            pixels = render(seed, 160, 120, 24.0)
            stack.write(
                pixels, photometric="rgb", compression="jpeg", compressionargs={"level": 88}
            )
    whole = (FOLDER / "slide-a/field-2.jpg").read_bytes()
    (FOLDER / "slide-a/cut-short.jpg").write_bytes(whole[:600])
    (FOLDER / "manifest.csv").write_text(MANIFEST, encoding="utf-8")


if __name__ == "__main__":
    main()
