"""Cost of a drawn picture beside the model that found its cells, in processor time.

    python -m benchmarks.drawing                   # rendered fields of 640x480 px
    python -m benchmarks.drawing slide/*.jpg       # your own

Each field is detected, drawn and written in several forms, in turn within each repeat. Printed are
the median processor seconds of a field and their share of the model's, so that other work on the
machine matters little, and the bytes of a picture. The rows of ``--annotated-format`` are what
``--annotated`` adds to a run: a picture drawn and written.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.cells import cells_from_detections
from cellcount.core.records import Picture
from cellcount.engines.base import EngineOptions, choose_engine, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detector_run import field_factor
from cellcount.models.weights import resolve
from cellcount.outputs.pictures.annotate import annotate, encode
from cellcount.outputs.run_content import Labels
from cellcount.rendering.field import FieldSpec, render_field
from cellcount.settings import DEFAULT_DETECTOR

Made = TypeVar("Made")
Save = Callable[[io.BytesIO, NDArray[np.uint8]], None]


def pillows(form: str, **options: int) -> Save:
    """A form as Pillow writes it."""
    return lambda file, page: Image.fromarray(page).save(file, form, **options)


FORMS: dict[str, Save] = {
    "Pillow's PNG, default (level 6)": pillows("PNG"),
    "Pillow's PNG, level 1": pillows("PNG", compress_level=1),
    "Pillow's PNG, runs of bytes": pillows("PNG", compress_level=1, compress_type=zlib.Z_RLE),
    "Pillow's PNG, not compressed": pillows("PNG", compress_level=0),
    "Pillow's WebP, 90, fastest": pillows("WebP", quality=90, method=0),
    "png": lambda file, page: encode(file, page, "png"),
    "jpeg": lambda file, page: encode(file, page, "jpeg"),
}
OURS = ("png", "jpeg")


def rendered(count: int) -> list[Picture]:
    """Fields of 640x480 px with red cells of about 105 px, as in BCCD."""
    specs = [FieldSpec(640, 480, 40 + i, 105.0, 0.45, n_wbc=1.5) for i in range(count)]
    return [Picture(render_field(spec).pixels) for spec in specs]


def opened(path: Path) -> Picture:
    """A field of one's own."""
    with Image.open(path) as image:
        return Picture(np.asarray(image.convert("RGB")))


def main() -> None:
    """Measure all forms on all fields and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("fields", nargs="*", type=Path, help="pictures; rendered ones if none")
    parser.add_argument("--detector", default=DEFAULT_DETECTOR)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    options = EngineOptions("cpu", "fp32")
    engine = load_engine(choose_engine("auto"), resolve(given.detector), options)
    detector, labels = FieldDetector(engine), Labels(engine.card.classes)
    thresholds = np.array([engine.card.threshold_of(c.id) for c in labels.classes], np.float32)
    seconds, size = defaultdict[str, list[float]](list), defaultdict[str, list[int]](list)

    def timed(name: str, work: Callable[[], Made]) -> Made:
        started = time.process_time()
        made = work()
        seconds[name].append(time.process_time() - started)
        return made

    for picture in map(opened, given.fields) if given.fields else rendered(4):
        pixels, width, height = picture.pixels, picture.width_px, picture.height_px
        factor = field_factor(detector, pixels, None)
        for _ in range(given.repeats):
            found = timed("model", lambda p=pixels, f=factor: detector.detect(p, f))  # type: ignore[misc]
            cells = cells_from_detections(
                found.detections, width, height, thresholds=thresholds, edge_rule="all"
            )
            page = timed("drawn", lambda p=picture, c=cells: annotate(p, c, labels, "field"))  # type: ignore[misc]
            for name, save in FORMS.items():
                file = io.BytesIO()
                timed(name, lambda f=file, p=page, s=save: s(f, p))  # type: ignore[misc]
                if name in OURS:
                    both = seconds["drawn"][-1] + seconds[name][-1]
                    seconds[f"--annotated-format {name}"].append(both)
                size[name].append(file.tell())
    model = statistics.median(seconds["model"])
    print(f"{'':32}  ms of a processor  of the model's    kB")
    for name, all_seconds in seconds.items():
        own = statistics.median(all_seconds)
        bytes_ = f"{statistics.median(size[name]) / 1000:6.0f}" if name in size else ""
        print(f"{name:32}  {own * 1000:17.1f}  {own / model:14.0%}  {bytes_}")


if __name__ == "__main__":
    main()
