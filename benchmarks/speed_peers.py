"""Contestants of `benchmarks.speed` other than cellcount: stock detectors with random weights.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cellcount.engines.base import has_detectron2

Pixels = NDArray[np.uint8]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STOCK = "torchvision fasterrcnn_resnet50_fpn, 800"
YOLO = "ultralytics yolo11n, 640"
_YOLO_PX = 640
#: The slow peers take the same time for every field, and seconds for each.
_MOST_FIELDS = 6


@dataclass
class Contestant:
    """Something that turns fields into detections.

    Attributes:
        name: shown in the table.
        size: what its network sees.
        run: does all fields.
        is_network: whether its operations are told.
        fields: that it does in one run.
        gflop: operations of one field, in 10⁹.
        ms: milliseconds per field of each repeat.
        cpu_ms: processor time of all threads, likewise.
    """

    name: str
    size: str
    run: Callable[[], None]
    is_network: bool = True
    fields: int = 1
    gflop: float = 0.0
    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Course:
    """Fields, device and precision that all contestants of one race are given.

    Attributes:
        fields: all of one size.
        device: cpu, cuda or cuda:N.
        precision: fp32, bf16 or fp16.
        batch: fields that a peer is given at a time.
        scratch: folder for what a contestant has to write.
    """

    fields: Sequence[Pixels]
    device: str
    precision: str
    batch: int
    scratch: Path

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the fields."""
        return self.fields[0].shape[1], self.fields[0].shape[0]

    def autocast(self) -> torch.autocast | nullcontext[None]:
        """Half precision where it is asked for."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.partition(":")[0], DTYPES[self.precision])


def peers_of(course: Course) -> tuple[list[Contestant], list[str]]:
    """All peers that can be had here, and the names of those that are missing."""
    fewer = replace(course, fields=course.fields[:_MOST_FIELDS])
    contestants = [torchvision_peer(fewer, size) for size in (800, 480)]
    missing = []
    if has_detectron2():
        contestants += [detectron2_peer(fewer, size) for size in (800, 480)]
    else:
        missing.append("Detectron2")
    if importlib.util.find_spec("ultralytics") is None:
        missing.append("ultralytics")
    elif course.precision == "fp32":
        contestants.append(ultralytics_peer(course))
    return contestants, missing


def torchvision_peer(course: Course, min_size: int) -> Contestant:
    """torchvision's stock detector with random weights, resizing included."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=min_size)
    model = model.eval().to(course.device)
    images = [torch.from_numpy(f).permute(2, 0, 1).float().div(255) for f in course.fields]

    def run() -> None:
        for start in range(0, len(images), course.batch):
            given = [image.to(course.device) for image in images[start : start + course.batch]]
            with torch.inference_mode(), course.autocast():
                for found in model(given):
                    found["boxes"].cpu()

    width, height = course.size_px
    size = f"{width * min_size // height}x{min_size}"
    name = f"torchvision fasterrcnn_resnet50_fpn, {min_size}"
    return Contestant(name, size, run, fields=len(images))


def detectron2_peer(course: Course, min_size: int) -> Contestant:
    """Detectron2's R50-FPN with random weights, resizing included."""
    import detectron2
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    config = get_cfg()
    # Its file is read without detectron2.model_zoo, which needs the pkg_resources of old times.
    zoo = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    config.merge_from_file(str(zoo / "COCO-Detection" / "faster_rcnn_R_50_FPN_3x.yaml"))
    config.MODEL.DEVICE = course.device
    model = build_model(config).eval()
    width, height = course.size_px
    size = (width * min_size // height, min_size)

    def prepared(pixels: Pixels) -> dict[str, object]:
        scaled = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        bgr = torch.from_numpy(np.ascontiguousarray(scaled[..., ::-1].transpose(2, 0, 1)))
        return {"image": bgr.float(), "height": height, "width": width}

    def run() -> None:
        fields, batch = course.fields, course.batch
        for start in range(0, len(fields), batch):
            given = [prepared(pixels) for pixels in fields[start : start + batch]]
            with torch.inference_mode(), course.autocast():
                for found in model(given):
                    found["instances"].to("cpu")

    name = f"Detectron2 R50-FPN, {min_size}"
    return Contestant(name, f"{size[0]}x{size[1]}", run, fields=len(course.fields))


def ultralytics_peer(course: Course) -> Contestant:
    """Build yolo11n with random weights; its own ``predict`` from pixels to boxes is timed.

    It is told to stay offline, to install nothing and to keep its settings in the scratch folder.
    """
    threads = torch.get_num_threads()
    os.environ.update(
        YOLO_CONFIG_DIR=str(course.scratch),
        YOLO_OFFLINE="true",
        YOLO_AUTOINSTALL="false",
        YOLO_VERBOSE="false",
    )
    ultralytics: Any = importlib.import_module("ultralytics")
    ultralytics.settings.update({"sync": False})
    model = ultralytics.YOLO("yolo11n.yaml")
    images = [np.ascontiguousarray(pixels[..., ::-1]) for pixels in course.fields]  # BGR, as cv2's

    def predicted(image: Pixels) -> None:
        (found,) = model.predict(image, imgsz=_YOLO_PX, device=course.device, verbose=False)
        found.boxes.xyxy.cpu()

    predicted(images[0])  # makes its network ready, for which it sets the threads to its own number
    torch.set_num_threads(threads)

    def run() -> None:
        for image in images:
            predicted(image)
        if torch.get_num_threads() != threads:
            raise RuntimeError(
                f"ultralytics computed with {torch.get_num_threads()} threads, expected {threads}"
            )

    width, height = course.size_px
    seen = _YOLO_PX / max(width, height)
    size = f"{round(width * seen)}x{round(height * seen)}"
    return Contestant(YOLO, size, run, fields=len(images))
