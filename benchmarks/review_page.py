"""The review page on a slide of 20,000 px with 20,000 cells, in a real browser.

Prints the time from a key to the painted frame, the memory of the server, the size of the page and
the time of its start. Run it on a quiet machine, with chromium and the extra test installed:

    python -m benchmarks.review_page
"""

from __future__ import annotations

import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from cellcount import cli
from cellcount.analysis.stored_run import StoredRun
from cellcount.core.records import Cells, CellTypes, Detections, ImageRef, ImageResult
from cellcount.rendering.field import LABELS, FieldSpec, RenderedField, render_field
from cellcount.store.journal import Journal, journal_path

CHROMIUM = "/usr/bin/chromium"
FIELD_PX, FIELDS_ASIDE, TILE_PX = 1000, 20, 400
CELLS, KEYS = 20_000, 500


def make_run(folder: Path) -> Path:
    """A run whose one image is the large slide; its results are the truth, typed at random."""
    spec = FieldSpec(FIELD_PX, FIELD_PX, 1, 76, 0.23, 12, 6, debris=0)
    field = render_field(spec)
    Image.fromarray(field.pixels).save(folder / "field.png")
    out = folder / "counts.csv"
    outputs = ["--out", str(out), "--slides", str(folder / "slides.csv")]
    code = cli.main(["analyze", str(folder / "field.png"), *outputs, "--device", "cpu"])
    assert code == 0, "the field that lends its settings was not analysed"
    slide = folder / "slide.tif"
    side = FIELD_PX * FIELDS_ASIDE
    tifffile.imwrite(
        slide,
        _tiles(field.pixels),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        compression="jpeg",
        photometric="rgb",
    )
    with Journal.reopen(journal_path(out)) as journal:
        run = StoredRun.read(journal)
        ref = ImageRef(slide, "slide.tif", "slide")
        journal.clear()
        facts = replace(run.facts, images=1)
        replace(run, refs=(ref,), folder=folder, facts=facts).keep(journal)
        journal.add(ImageResult(ref, "done", "", side, side, 0.1, 1.0, _cells(field, run)))
    return out


def _tiles(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The tiles of the slide, row by row: the field, repeated."""
    count = -(-FIELD_PX * FIELDS_ASIDE // TILE_PX)
    wide = np.tile(pixels, (2, 2, 1))
    for row in range(count):
        for column in range(count):
            y, x = row * TILE_PX % FIELD_PX, column * TILE_PX % FIELD_PX
            yield np.ascontiguousarray(wide[y : y + TILE_PX, x : x + TILE_PX])


def _cells(field: RenderedField, run: StoredRun) -> Cells:
    """The first 20,000 cells of the slide, white ones with a type and a probability."""
    steps = np.arange(FIELDS_ASIDE) * FIELD_PX
    places = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    moved = np.tile(places, (1, 2))[:, None].astype(np.float32)
    boxes_xyxy = (field.boxes_xyxy[None] + moved).reshape(-1, 4)[:CELLS]
    labels = np.tile([LABELS.index(one) for one in field.labels], len(places))[:CELLS]
    random, count = np.random.default_rng(7), len(boxes_xyxy)
    assert count == CELLS, f"the field has too few cells: {len(field)}"
    best = np.where(labels == LABELS.index("wbc"), random.integers(0, 5, count), -1)
    prob = random.uniform(0.3, 1, count).astype(np.float32)
    second = np.where(best >= 0, (best + 1) % len(run.facts.types), -1)
    types = CellTypes(best, prob, second, 1 - prob, (best >= 0) & (prob > 0.5))
    scores = np.full(count, 0.9, np.float32)
    return Cells(Detections(boxes_xyxy, scores, labels), np.zeros(count, np.bool_), types)


@contextmanager
def served(results: Path) -> Iterator[tuple[str, float, int]]:
    """The page's address, the seconds until it is there, and the server's process."""
    command = [sys.executable, "-m", "cellcount", "review", "open", str(results), "--no-browser"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http\S+", line)
        assert found is not None, f"no address but {line!r}"
        yield found[0], time.perf_counter() - began, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def measure(page: Page, address: str) -> list[float]:
    """Milliseconds from each key to the painted frame."""
    page.goto(address)
    page.wait_for_selector("#sign-in button:enabled")
    page.fill("#name", "benchmark")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    page.goto(address.partition("/?")[0] + "/slides/0/cells")
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    for number in range(KEYS):
        page.keyboard.press("12345"[number % 5])
        page.wait_for_timeout(30)
    page.wait_for_timeout(500)
    entries = page.evaluate("performance.getEntriesByName('key to paint').map(e => e.duration)")
    return [float(one) for one in entries]


def memory_mb(pid: int) -> float:
    """Resident memory of a process, at its highest."""
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else float("nan")


def main() -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        results = make_run(Path(name))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with served(results) as (address, start_s, pid):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            sizes: list[int] = []
            page.on("response", lambda r: sizes.append(int(r.headers.get("content-length", 0))))
            times = sorted(measure(page, address))
            memory = memory_mb(pid)
        print(f"start of the server         {start_s:.1f} s")
        print(f"key to screen, {len(times)} keys    median {statistics.median(times):.0f} ms")
        print(f"                            95th   {times[int(0.95 * len(times))]:.0f} ms")
        print(f"memory of the server        {memory:.0f} MB")
        print(f"sent to the browser         {sum(sizes) / 1e6:.1f} MB")
        browser.close()


if __name__ == "__main__":
    main()
