"""Speed of cellcount, beside other detectors and the machine's limit, in one run.

    python -m benchmarks.speed                    # packaged model, CPU, fp32 and bf16
    python -m benchmarks.speed --threads 2 --detector RUN --repeats 9
    python -m benchmarks.speed --precision fp32 --fields 100 --repeats 3

Fields are rendered: 640x480 with red cells of about 105 px, as in BCCD, and 720x576 with red cells
of about 45 px. Everything is measured in turn within each repeat, so that a busy moment of the
machine strikes all alike. Figures are the median over the repeats with the smallest and largest in
brackets. "CPU ms" is the processor time of all threads, which other work on the machine moves less.

"whole stage" is what `analyze --classifier none` does with a field between reading and storing it:
lit field, scale, detection, check of the scale, quality, overlays; as there, as many fields are
analysed side by side as the engine has threads. The scale is measured on five fields of a slide at
most, so that it costs less where fields are many; where each field is a slide of its own, it is
measured on every one.

"of peak" is the share of this machine's measured matrix-multiply rate: operations (a multiply-add
counts as two; RoIAlign, suppression and resizing count as nothing, but their time counts) per
second, divided by those of one large torch.mm in the same precision. Peers have random weights of
their stock classes: nothing scores high enough to be suppressed, which is to their advantage.

Detectron2, ultralytics and OpenVINO are measured where they are installed. ultralytics is no
dependency of cellcount, and its licence is another: install it beside cellcount in an environment
of its own (`pip install --no-deps ultralytics ultralytics-thop py-cpuinfo opencv-python-headless`).

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
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.speed_peers import DTYPES, STOCK, YOLO, Contestant, Course, Pixels, peers_of
from cellcount.analysis.load import load
from cellcount.analysis.local import run_local
from cellcount.analysis.pipeline import Pipeline
from cellcount.analysis.slide_scales import ScalesInMemory, SlideScales
from cellcount.core.records import ImageRef, ImageResult
from cellcount.core.side_by_side import SideBySide, in_this_thread
from cellcount.engines.base import ENGINES, EngineOptions, has_openvino, load_engine
from cellcount.engines.field_detector import FieldDetector, cut
from cellcount.evaluation.cost import REFERENCE_SIZE_PX, flop_counter
from cellcount.evaluation.detector_run import field_factor
from cellcount.models.weights import resolve
from cellcount.rendering.field import FieldSpec, render_field
from cellcount.settings import NO_CLASSIFIER, AnalyzeSettings

RBC_PX = 105.0
SMALL_CELLS_SIZE_PX, SMALL_CELLS_PX = (720, 576), 45.0
MM_SIDE = {"cpu": 2048, "cuda": 8192}
STAGE = "whole stage"


def rendered_fields(
    count: int, size_px: tuple[int, int] = REFERENCE_SIZE_PX, rbc_px: float = RBC_PX
) -> list[Pixels]:
    """Fields with a white cell or two; like those of BCCD unless told otherwise."""
    specs = [FieldSpec(*size_px, 40 + i, rbc_px, 0.45, n_wbc=1.5) for i in range(count)]
    return [render_field(spec).pixels for spec in specs]


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
    weights: Path, engine_name: str, course: Course, small_cells: Sequence[Pixels]
) -> tuple[list[Contestant], str]:
    """The model alone, the field detector and the whole stage; and the model's name."""
    engine = load_engine(
        engine_name, weights, EngineOptions(course.device, course.precision, course.batch)
    )
    detector = FieldDetector(engine)
    factors = [field_factor(detector, pixels, None) for pixels in course.fields]
    tiles = []
    for pixels, factor in zip(course.fields, factors, strict=True):
        field, places = detector.tiles_of(pixels, factor)
        tiles += [cut(field, place) for place in places]

    threads = SideBySide(engine.tiles_at_once)

    def model() -> None:
        engine.detect(tiles)

    def field_detector() -> None:
        at_scale = list(zip(course.fields, factors, strict=True))
        threads.map(lambda field: detector.detect(*field), at_scale)

    size = f"{tiles[0].shape[1]}x{tiles[0].shape[0]}"
    count = len(course.fields)
    # OpenVINO's operations cannot be counted.
    own = [
        Contestant("model alone", size, model, is_network=engine.name != "openvino", fields=count),
        Contestant(
            "+ white balance, resize, merge", size, field_detector, is_network=False, fields=count
        ),
        *stages(detector, course.fields, course.scratch),
        *stages(detector, small_cells, course.scratch),
    ]
    card, name = engine.card, f"cellcount, {engine.name}"
    return (
        [replace(contestant, name=f"{name}: {contestant.name}") for contestant in own],
        f"{card.name} {card.version} on {engine.device}",
    )


def stages(detector: FieldDetector, fields: Sequence[Pixels], scratch: Path) -> list[Contestant]:
    """The whole stage on fields of one slide, and where each is a slide of its own."""
    settings = AnalyzeSettings(classifier=NO_CLASSIFIER)
    height, width = fields[0].shape[:2]
    size = f"{width}x{height}"
    paths = []
    for i, pixels in enumerate(fields):
        path = scratch / f"{size}-{i:04d}.png"
        Image.fromarray(pixels).save(path)
        paths.append(path)

    def contestant(how: str, slide_of: Callable[[Path], str]) -> Contestant:
        refs = [ImageRef(path, path.name, slide_of(path)) for path in paths]
        loaded = {ref: load(ref, settings.max_pixels) for ref in refs}
        at_once = detector.images_at_once

        def run() -> None:
            scales = SlideScales(refs, detector, ScalesInMemory(), settings.max_pixels)
            pipeline = Pipeline(detector, settings, scales)
            run_local(
                refs, loaded.__getitem__, pipeline.analyze, check_done, workers=1, at_once=at_once
            )

        return Contestant(f"{STAGE}, {how}", size, run, is_network=False, fields=len(fields))

    return [
        contestant("one slide", lambda path: "slide"),
        contestant("field = slide", lambda path: path.stem),
    ]


def check_done(result: ImageResult) -> None:
    """Raise where a field could not be analysed."""
    if result.status != "done":
        raise RuntimeError(f"{result.ref.image} could not be analysed: {result.reason}")


def race(contestants: Sequence[Contestant], repeats: int) -> None:
    """Times all contestants in turn, ``repeats`` times; a first round counts operations."""
    for contestant in contestants:
        with in_this_thread(), flop_counter() as counter:
            contestant.run()
        contestant.gflop = counter.get_total_flops() / contestant.fields / 1e9
    for _ in range(repeats):
        for contestant in contestants:
            started, cpu_started = time.perf_counter(), time.process_time()
            contestant.run()
            seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
            contestant.ms.append(seconds * 1000 / contestant.fields)
            contestant.cpu_ms.append(cpu_s * 1000 / contestant.fields)


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
    table.add_column("what", no_wrap=True)
    for column in (
        "field or tile",
        "ms per field",
        "CPU ms",
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
            f"{statistics.median(c.cpu_ms):.0f}",
            f"{1000 / ms:.2f}",
            f"{c.gflop:.1f}" if c.is_network else "",
            f"{c.gflop * 1000 / ms / peak:.0%}" if c.is_network else "",
            f"{stock / ms:.2f}",
        )
    console.print(table)


def show_ratios(console: Console, contestants: Sequence[Contestant]) -> None:
    """Print yolo11n's time over that of each whole stage on the same fields."""
    yolo = [c for c in contestants if c.name == YOLO]
    width, height = REFERENCE_SIZE_PX
    for peer in yolo:
        for own in contestants:
            if STAGE in own.name and own.size == f"{width}x{height}":
                ratios = [a / b for a, b in zip(peer.ms, own.ms, strict=True)]
                cpu = [a / b for a, b in zip(peer.cpu_ms, own.cpu_ms, strict=True)]
                console.print(
                    f"yolo11n's time over that of {own.name}: {statistics.median(ratios):.2f} "
                    f"({min(ratios):.2f}–{max(ratios):.2f}), processor time "
                    f"{statistics.median(cpu):.2f} ({min(cpu):.2f}–{max(cpu):.2f})"
                )


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
                        help="what runs cellcount's model; beside it, in fp32, OpenVINO where it "
                             "is installed")  # fmt: skip
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


def engines_of(given: argparse.Namespace, precision: str) -> list[str]:
    """The engines whose rows are shown: the one asked for, and OpenVINO where it can be had."""
    with_openvino = given.device == "cpu" and precision == "fp32" and has_openvino()
    return list(dict.fromkeys([given.engine, *(["openvino"] if with_openvino else [])]))


def race_in(
    precision: str, given: argparse.Namespace, console: Console, scratch: Path
) -> dict[str, object]:
    """Race all contestants in one precision, print the table and return the figures."""
    weights, fields = resolve(given.detector), rendered_fields(given.fields)
    small_cells = rendered_fields(given.fields, SMALL_CELLS_SIZE_PX, SMALL_CELLS_PX)
    batch = given.batch_size or (1 if given.device == "cpu" else 8)
    contestants: list[Contestant] = []
    for engine in engines_of(given, precision):
        course = Course(fields, given.device, precision, given.batch_size, scratch)
        rows, name = ours(weights, engine, course, small_cells)
        contestants += rows
    peers, missing = peers_of(Course(fields, given.device, precision, batch, scratch))
    contestants += peers
    race(contestants, given.repeats)
    peak = peak_gflops(given.device, precision)
    show(console, f"{name}, {precision}; torch.mm: {peak:,.0f} GFLOP/s", contestants, peak)
    show_ratios(console, contestants)
    for peer in missing:
        console.print(f"{peer} is not installed here, so it is not in the table.")
    return {
        "peak_gflops": peak,
        "ms_per_field": {f"{c.name}, {c.size}": c.ms for c in contestants},
        "cpu_ms_per_field": {f"{c.name}, {c.size}": c.cpu_ms for c in contestants},
        "gflop": {f"{c.name}, {c.size}": c.gflop for c in contestants},
    }


def main() -> None:
    """Races all contestants in each precision and prints the tables."""
    given = options_of_this_run()
    torch.set_num_threads(given.threads)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # which is what OpenVINO is given
    console = Console(width=140)
    console.print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{given.fields} rendered fields, {given.repeats} repeats: median (smallest–largest)"
    )
    record: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        for precision in given.precision or ["fp32", "bf16"]:
            record[precision] = race_in(precision, given, console, Path(scratch))
            if given.command_fields:
                options = EngineOptions(given.device, precision, given.batch_size)
                weights, fields = resolve(given.detector), rendered_fields(given.fields)
                figures = whole_command(
                    weights, given.engine, options, fields, given.command_fields
                )
                show_command(console, figures)
                record[f"{precision} command"] = figures
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
