"""The review page on a slide of 20,000 px with 20,000 cells, in a real browser.

Prints the time from a key to the painted frame, that of the frames while the slide is moved and
zoomed, the memory of the server, the size of the page and the time of its start. ``--flat`` writes
the slide without the reduced copies that scanners write. Run it on a quiet machine, with chromium
and the extra test installed:

    python -m benchmarks.review_page
"""

from __future__ import annotations

import argparse
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
LEVELS = 3


def make_run(folder: Path, *, flat: bool) -> Path:
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
    _write_slide(slide, field.pixels, levels=0 if flat else LEVELS)
    with Journal.reopen(journal_path(out)) as journal:
        run = StoredRun.read(journal)
        ref = ImageRef(slide, "slide.tif", "slide")
        journal.clear()
        facts = replace(run.facts, images=1)
        replace(run, refs=(ref,), folder=folder, facts=facts).keep(journal)
        journal.add(ImageResult(ref, "done", "", side, side, 0.1, 1.0, _cells(field, run)))
    return out


def _write_slide(path: Path, pixels: NDArray[np.uint8], levels: int) -> None:
    """The field, repeated, with copies that are each reduced by four from the one before."""
    side = FIELD_PX * FIELDS_ASIDE
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        _write_level(writer, _tiles(pixels), side, copies=levels)
        small = np.asarray(Image.fromarray(pixels).reduce(4))
        image = np.tile(small, (FIELDS_ASIDE, FIELDS_ASIDE, 1))
        for _ in range(levels):
            _write_level(writer, image, len(image), copies=0)
            image = np.asarray(Image.fromarray(image).reduce(4))


def _write_level(
    writer: tifffile.TiffWriter,
    pixels: NDArray[np.uint8] | Iterator[NDArray[np.uint8]],
    side: int,
    copies: int,
) -> None:
    writer.write(
        pixels,
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        compression="jpeg",
        photometric="rgb",
        metadata=None,
        subifds=copies,
        subfiletype=0 if side == FIELD_PX * FIELDS_ASIDE else 1,
    )


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


def frames(page: Page, origin: str) -> list[float]:
    """Milliseconds between frames while the slide is zoomed into and moved across."""
    page.goto(origin + "/slides/0/field")
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    page.evaluate(
        "(() => { window.gaps = []; let last = performance.now(); const next = (now) => {"
        " window.gaps.push(now - last); last = now; requestAnimationFrame(next); };"
        " requestAnimationFrame(next); })()"
    )
    for key in ("+",) * 8 + ("ArrowRight",) * 30 + ("ArrowDown",) * 30 + ("-",) * 8:
        page.keyboard.press(key)
        page.wait_for_timeout(40)
    return [float(one) for one in page.evaluate("window.gaps")]


def memory_mb(pid: int) -> float:
    """Resident memory of a process, at its highest."""
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else float("nan")


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flat", action="store_true", help="a slide without reduced copies")
    flat = parser.parse_args().flat
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        results = make_run(Path(name), flat=flat)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with served(results) as (address, start_s, pid):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            sizes: list[int] = []
            page.on("response", lambda r: sizes.append(int(r.headers.get("content-length", 0))))
            memory = [memory_mb(pid)]
            times = sorted(measure(page, address))
            named = sum(sizes)
            memory.append(memory_mb(pid))
            gaps = sorted(frames(page, address.partition("/?")[0]))
            memory.append(memory_mb(pid))
        print(f"start of the server         {start_s:.1f} s")
        print(f"key to screen, {len(times)} keys    median {statistics.median(times):.0f} ms")
        print(f"                            95th   {times[int(0.95 * len(times))]:.0f} ms")
        print(f"frame of the field, {len(gaps)}      median {statistics.median(gaps):.0f} ms")
        print(f"                            95th   {gaps[int(0.95 * len(gaps))]:.0f} ms")
        began, cells, field = memory
        print(f"memory of the server        {began:.0f} MB at its start, {cells:.0f} MB with the")
        print(f"                            cells, {field:.0f} MB with the field, at most")
        print(f"sent to the browser         {named / 1e6:.1f} MB for the cells,")
        print(f"                            {(sum(sizes) - named) / 1e6:.1f} MB for the field")
        browser.close()


if __name__ == "__main__":
    main()
