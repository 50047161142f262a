"""Does memory grow with the number of images, and is the model kept busy? On rendered fields.

    python benchmarks/many_images.py                             # 10,000 fields, packaged model
    python benchmarks/many_images.py --images 300 --plot memory.png

Runs ``cellcount analyze`` as its users do, in a process of its own, and looks at it twice a second:
resident memory, open files and threads. Prints the first and last third of each, draws them, and
divides the time that the model alone takes for such fields by the time of the whole command from
the first image on. Fails where memory grows by more than a tenth, where files stay open, or where
a process is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from cellcount.engines.base import EngineOptions, choose_engine, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.images.scale import factor_from_um_per_px
from cellcount.models.weights import resolve
from cellcount.rendering.field import FieldSpec, render_field

WIDTH_PX, HEIGHT_PX, RBC_PX = 320, 240, 80
UM_PER_PX = 7.5 / RBC_PX
LOOK_EVERY_S = 0.5
MOST_GROWTH = 1.1


@dataclass
class Watched:
    """Observations of a process.

    Attributes:
        seconds: since its start, of every look.
        resident_mib, files, threads: at each of them.
    """

    seconds: list[float] = field(default_factory=list)
    resident_mib: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)

    def look(self, pid: int, since: float) -> None:
        """One look at a process that runs."""
        process = Path("/proc") / str(pid)
        try:
            status = dict(
                line.split(":\t", 1) for line in (process / "status").read_text().splitlines()
            )
            files = len(os.listdir(process / "fd"))
            resident = int(status["VmRSS"].split()[0]) / 1024
        except (OSError, KeyError):
            return  # it is ending
        self.seconds.append(time.perf_counter() - since)
        self.resident_mib.append(resident)
        self.files.append(files)
        self.threads.append(float(status["Threads"]))


def thirds(values: list[float]) -> tuple[float, float]:
    """Medians of the second and the last third: the first one is start-up."""
    third = max(1, len(values) // 3)
    return statistics.median(values[third : 2 * third] or values), statistics.median(
        values[-third:]
    )


def render(folder: Path, count: int, distinct: int) -> list[NDArray[np.uint8]]:
    """Writes the fields, the distinct ones again and again; gives a few of them."""
    few = []
    for number in range(min(count, distinct)):
        spec = FieldSpec(WIDTH_PX, HEIGHT_PX, number + 1, RBC_PX, 0.4, 1, 2)
        pixels = render_field(spec).pixels
        few += [pixels] if number < 20 else []
        path = _path(folder, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=92)
    for number in range(distinct, count):
        path = _path(folder, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_path(folder, number % distinct), path)
    return few


def _path(folder: Path, number: int) -> Path:
    return folder / f"slide-{number // 100:03d}" / f"{number:05d}.jpg"


def model_seconds(detector: str, pixels: list[NDArray[np.uint8]]) -> float:
    """Seconds that the model alone takes for one field: the median of three rounds."""
    engine = load_engine(choose_engine("auto"), resolve(detector), EngineOptions())
    model = FieldDetector(engine)
    factor = factor_from_um_per_px(UM_PER_PX, engine.card.rbc_diameter_px)
    model.detect(pixels[0], factor)
    rounds = []
    for _ in range(3):
        started = time.perf_counter()
        for one in pixels:
            model.detect(one, factor)
        rounds.append((time.perf_counter() - started) / len(pixels))
    return statistics.median(rounds)


def watch(command: list[str]) -> tuple[Watched, int]:
    """Runs a command to its end, looking at it now and then; its exit code beside what was seen."""
    watched, since = Watched(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while process.poll() is None:
            watched.look(process.pid, since)
            time.sleep(LOOK_EVERY_S)
    finally:
        if process.poll() is None:  # this program is being stopped: its child stops with it
            process.terminate()
            process.wait()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return watched, process.returncode
    raise RuntimeError("the command has left a process behind")


def draw(watched: Watched, path: Path, images: int) -> None:
    """Memory, files and threads over time."""
    figure, axes = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
    axes[0].plot(watched.seconds, watched.resident_mib)
    axes[0].set(ylabel="resident memory, MiB", ylim=(0, None), title=f"{images:,} images")
    axes[1].plot(watched.seconds, watched.files, label="open files")
    axes[1].plot(watched.seconds, watched.threads, label="threads")
    axes[1].set(xlabel="seconds", ylim=(0, None))
    axes[1].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """The command line of this benchmark."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is ended
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--distinct", type=int, default=200, help="different ones among them")
    parser.add_argument("--detector", default="blood")
    parser.add_argument("--annotated", action="store_true", help="pictures, too, not only tables")
    parser.add_argument("--plot", type=Path, help="PNG of memory, files and threads")
    chosen = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="cellcount-many-") as work:
        folder, out = Path(work) / "slides", Path(work) / "counts.csv"
        pixels = render(folder, chosen.images, chosen.distinct)
        alone = model_seconds(chosen.detector, pixels)
        command = [sys.executable, "-m", "cellcount", "analyze", str(folder), "--out", str(out)]
        command += ["--cells", f"{work}/cells.csv", "--detector", chosen.detector]
        command += ["--classifier", "none", "--um-per-px", str(UM_PER_PX)]
        if chosen.annotated:
            command += ["--annotated", f"{work}/drawn"]
        watched, code = watch(command)
        record = json.loads(Path(work, "counts.run.json").read_text())
    each = record["timings_s"]["analyze"] / chosen.images
    table = Table("", "second third", "last third", title=f"{chosen.images:,} images, exit {code}")
    grown = False
    for name, values in (
        ("resident memory, MiB", watched.resident_mib),
        ("open files", watched.files),
        ("threads", watched.threads),
    ):
        before, after = thirds(values)
        grown |= after > MOST_GROWTH * before + 2
        table.add_row(name, f"{before:,.0f}", f"{after:,.0f}")
    console.print(table)
    console.print(
        f"{1000 * each:.1f} ms an image, the model alone {1000 * alone:.1f} ms: "
        f"{100 * alone / each:.0f} % of its speed"
    )
    if chosen.plot is not None:
        draw(watched, chosen.plot, chosen.images)
    return int(grown or code != 0)


if __name__ == "__main__":
    sys.exit(main())
