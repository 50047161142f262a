"""Speed of cellcount, beside other detectors and the machine's limit, in one run.

    python benchmarks/speed.py                     # packaged model, CPU, fp32 and bf16
    python benchmarks/speed.py --threads 2 --detector RUN --repeats 9

Fields are rendered, 640x480 with red cells of about 105 px, as in BCCD. Everything is measured in
turn within each repeat, so that a busy moment of the machine strikes all alike. Figures are the
median over the repeats with the smallest and largest in brackets.

"of peak" is the share of this machine's measured matrix-multiply rate: operations (a multiply-add
counts as two; RoIAlign, suppression and resizing count as nothing, but their time counts) per
second, divided by those of one large torch.mm in the same precision. Peers have random weights of
their stock 91 classes: nothing scores high enough to be suppressed, which is to their advantage.

Shapes: pixels uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from cellcount.engines.base import ENGINES, EngineOptions, has_detectron2, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.cost import REFERENCE_SIZE_PX
from cellcount.evaluation.detector_run import field_factor
from cellcount.images.scale import resize
from cellcount.images.white_balance import apply_gains, white_balance_gains
from cellcount.models.weights import resolve
from cellcount.rendering.field import FieldSpec, render_field

Pixels = NDArray[np.uint8]
RBC_PX = 105.0
MM_SIDE = {"cpu": 2048, "cuda": 8192}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STOCK = "torchvision fasterrcnn_resnet50_fpn, 800"


@dataclass
class Contestant:
    """Something that turns fields into detections.

    Attributes:
        name: shown in the table.
        size: what its network sees.
        run: does all fields.
        is_network: whether its operations are told.
        gflop: operations of one field, in 10⁹.
        ms: milliseconds per field of each repeat.
    """

    name: str
    size: str
    run: Callable[[], None]
    is_network: bool = True
    gflop: float = 0.0
    ms: list[float] = field(default_factory=list)


def rendered_fields(count: int) -> list[Pixels]:
    """Fields like those of BCCD: 640x480, red cells of about 105 px, a white cell or two."""
    width, height = REFERENCE_SIZE_PX
    specs = [FieldSpec(width, height, 40 + i, RBC_PX, 0.45, n_wbc=1.5) for i in range(count)]
    return [render_field(spec).pixels for spec in specs]


def autocast(device: str, precision: str) -> torch.autocast | nullcontext[None]:
    """Half precision where it is asked for."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.partition(":")[0], DTYPES[precision])


def peak_gflops(device: str, precision: str) -> float:
    """Operations per second of one large matrix product, best of several, in 10⁹."""
    kind = device.partition(":")[0]
    side = MM_SIDE.get(kind, MM_SIDE["cpu"])
    a = torch.randn(side, side, device=device, dtype=DTYPES[precision])
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        torch.mm(a, a)
        if kind == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9


def ours(
    weights: Path, engine_name: str, options: EngineOptions, fields: Sequence[Pixels]
) -> tuple[list[Contestant], str]:
    """The model alone, the field detector, the same with the scale pass; and the model's name."""
    engine = load_engine(engine_name, weights, options)
    detector = FieldDetector(engine)
    factors = [field_factor(detector, pixels, None) for pixels in fields]
    tiles = []
    for pixels, factor in zip(fields, factors, strict=True):
        tile = resize(pixels, factor)
        if engine.card.preprocessing.white_balance:
            tile = apply_gains(tile, white_balance_gains(pixels))
        tiles.append(tile)

    def model() -> None:
        engine.detect(tiles)

    def whole() -> None:
        for pixels, factor in zip(fields, factors, strict=True):
            detector.detect(pixels, factor)

    def with_scale() -> None:
        for pixels in fields:
            detector.detect(pixels, field_factor(detector, pixels, None))

    size = f"{tiles[0].shape[1]}x{tiles[0].shape[0]}"
    contestants = [
        Contestant("cellcount: model alone", size, model),
        Contestant("+ white balance, resize, merge", "640x480", whole, is_network=False),
        Contestant("+ scale pass (field = slide)", "640x480", with_scale, is_network=False),
    ]
    card = engine.card
    return contestants, f"{card.name} {card.version} ({engine.name}, {engine.device})"


def torchvision_peer(
    min_size: int, device: str, precision: str, fields: Sequence[Pixels], batch: int
) -> Contestant:
    """torchvision's stock detector with random weights, resizing included."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=min_size)
    model = model.eval().to(device)
    images = [torch.from_numpy(f).permute(2, 0, 1).float().div(255) for f in fields]

    def run() -> None:
        for start in range(0, len(images), batch):
            given = [image.to(device) for image in images[start : start + batch]]
            with torch.inference_mode(), autocast(device, precision):
                for found in model(given):
                    found["boxes"].cpu()

    width, height = REFERENCE_SIZE_PX
    size = f"{width * min_size // height}x{min_size}"
    name = f"torchvision fasterrcnn_resnet50_fpn, {min_size}"
    return Contestant(name, size, run)


def detectron2_peer(
    min_size: int, device: str, precision: str, fields: Sequence[Pixels], batch: int
) -> Contestant:
    """Detectron2's R50-FPN with random weights, resizing included."""
    import detectron2
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    config = get_cfg()
    # Its file is read without detectron2.model_zoo, which needs the pkg_resources of old times.
    zoo = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    config.merge_from_file(str(zoo / "COCO-Detection" / "faster_rcnn_R_50_FPN_3x.yaml"))
    config.MODEL.DEVICE = device
    model = build_model(config).eval()
    width, height = REFERENCE_SIZE_PX
    size = (width * min_size // height, min_size)

    def prepared(pixels: Pixels) -> dict[str, object]:
        scaled = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        bgr = torch.from_numpy(np.ascontiguousarray(scaled[..., ::-1].transpose(2, 0, 1)))
        return {"image": bgr.float(), "height": height, "width": width}

    def run() -> None:
        for start in range(0, len(fields), batch):
            given = [prepared(pixels) for pixels in fields[start : start + batch]]
            with torch.inference_mode(), autocast(device, precision):
                for found in model(given):
                    found["instances"].to("cpu")

    return Contestant(f"Detectron2 R50-FPN, {min_size}", f"{size[0]}x{size[1]}", run)


def race(contestants: Sequence[Contestant], fields: int, repeats: int) -> None:
    """Times all contestants in turn, ``repeats`` times; a first round counts operations."""
    for contestant in contestants:
        with FlopCounterMode(display=False) as counter:
            contestant.run()
        contestant.gflop = counter.get_total_flops() / fields / 1e9
    for _ in range(repeats):
        for contestant in contestants:
            started = time.perf_counter()
            contestant.run()
            contestant.ms.append((time.perf_counter() - started) * 1000 / fields)


def whole_command(
    weights: Path,
    engine_name: str,
    options: EngineOptions,
    fields: Sequence[Pixels],
    count: int,
) -> dict[str, float]:
    """``cellcount analyze`` on ``count`` fields of one slide in a folder, as users run it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "slide", Path(scratch) / "counts.csv"
        folder.mkdir()
        for i in range(count):
            path = folder / f"field-{i:04d}.jpg"
            Image.fromarray(fields[i % len(fields)]).save(path, quality=92)
        command = [sys.executable, "-m", "cellcount", "analyze", str(folder), "--out", str(out)]
        command += ["--cells", str(out.with_name("cells.csv")), "--detector", str(weights)]
        command += ["--engine", engine_name]
        command += ["--device", options.device, "--precision", options.precision]
        command += ["--batch-size", str(options.batch_size)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        seconds = time.perf_counter() - started
        stages = json.loads(out.with_name("counts.run.json").read_text("utf-8"))["timings_s"]
    work = stages["analyze"] + stages["write"]
    return {
        "fields": count,
        "seconds": seconds,
        "start_up_s": seconds - work,
        "ms_per_field": work * 1000 / count,
    }


def show(console: Console, title: str, contestants: Sequence[Contestant], peak: float) -> None:
    """The table of one precision."""
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    for column in (
        "network sees",
        "ms per field",
        "fields/s",
        "GFLOP",
        "of peak",
        "speed, stock = 1",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    (stock,) = (statistics.median(c.ms) for c in contestants if c.name == STOCK)
    for c in contestants:
        ms = statistics.median(c.ms)
        table.add_row(
            c.name,
            c.size,
            f"{ms:.0f} ({min(c.ms):.0f}–{max(c.ms):.0f})",
            f"{1000 / ms:.2f}",
            f"{c.gflop:.1f}" if c.is_network else "",
            f"{c.gflop * 1000 / ms / peak:.0%}" if c.is_network else "",
            f"{stock / ms:.2f}",
        )
    console.print(table)


def show_command(console: Console, figures: dict[str, float]) -> None:
    """Print the time of the whole command."""
    ms = figures["ms_per_field"]
    console.print(
        f"cellcount analyze, {figures['fields']:.0f} fields of one slide: {ms:.0f} ms per field, "
        f"{1000 / ms:.2f} fields/s with reading, scale, journal and tables; start-up "
        f"{figures['start_up_s']:.1f} s beside that, {figures['seconds']:.1f} s in all\n"
    )


def options_of_this_run() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of cellcount against its peers.")
    parser.add_argument("--detector", default="blood", help="packaged name, file or run folder")
    parser.add_argument("--engine", default="torchvision", choices=["auto", *ENGINES],
                        help="what runs cellcount's model")  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--precision", action="append", choices=list(DTYPES),
                        help="repeatable; default: fp32 and bf16")  # fmt: skip
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-size", type=int, default=0, help="tiles per call, 0 chooses")
    parser.add_argument("--fields", type=int, default=6, help="different fields per repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--command-fields", type=int, default=40,
                        help="fields of the whole command, 0 leaves it out")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write all figures")
    return parser.parse_args()


def main() -> None:
    """Races all contestants in each precision and prints the tables."""
    given = options_of_this_run()
    torch.set_num_threads(given.threads)
    console = Console(width=130)
    fields, weights = rendered_fields(given.fields), resolve(given.detector)
    console.print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{given.fields} rendered fields of 640x480 with red cells of {RBC_PX:g} px, "
        f"{given.repeats} repeats: median (smallest–largest)"
    )
    record: dict[str, object] = {}
    for precision in given.precision or ["fp32", "bf16"]:
        options = EngineOptions(given.device, precision, given.batch_size)
        contestants, name = ours(weights, given.engine, options, fields)
        batch = given.batch_size or (1 if given.device == "cpu" else 8)
        peers = [torchvision_peer]
        if has_detectron2():
            peers.append(detectron2_peer)
        for peer in peers:
            contestants += [
                peer(size, given.device, precision, fields, batch) for size in (800, 480)
            ]
        race(contestants, len(fields), given.repeats)
        peak = peak_gflops(given.device, precision)
        title = f"{name}, {precision}; torch.mm: {peak:,.0f} GFLOP/s"
        show(console, title, contestants, peak)
        if len(peers) == 1:
            console.print("Detectron2 is not installed here, so it is not in the table.")
        record[precision] = {
            "peak_gflops": peak,
            "ms_per_field": {c.name: c.ms for c in contestants},
            "gflop": {c.name: c.gflop for c in contestants},
        }
        if given.command_fields:
            figures = whole_command(weights, given.engine, options, fields, given.command_fields)
            show_command(console, figures)
            record[f"{precision} command"] = figures
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
