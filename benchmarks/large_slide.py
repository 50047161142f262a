"""Is a whole slide counted in little memory, and right? On a rendered one whose cells are known.

    python benchmarks/large_slide.py                   # 40,000 x 40,000 px, about 100,000 cells
    python benchmarks/large_slide.py --side 4000       # the same in minutes
    python benchmarks/large_slide.py --keep slides/    # keeps the TIFF files there

The slide is rendered patch by patch straight into a tiled TIFF; its right quarter is empty glass.
Then cellcount counts it, and each of its quarters by itself, as programs of their own, whose
resident memory, time and cells are told. Cells within one margin of a cut, or of the edge of the
glass, are left aside in comparisons: there a quarter shows other cells than the slide does.

It also times the merge of 50,000 boxes from overlapping tiles.

Shapes: N cells; boxes (N, 4) xyxy in pixels of the slide.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cellcount.core.records import Detections
from cellcount.core.tile_merge import merge
from cellcount.core.tiles import split
from cellcount.images.scale import RBC_DIAMETER_UM
from cellcount.models.weights import read_card, resolve
from cellcount.rendering.field import LABELS, FieldSpec, render_window, window_truth
from cellcount.rendering.layout import Plane
from cellcount.settings import DEFAULT_DETECTOR, DEFAULT_MAX_PIXELS

Pixels = NDArray[np.uint8]
TILE_PX, PATCH_TILES = 512, 4
RBC_PX = 64.0
GLASS_SHARE = 0.25
RED_CELLS_PER_WHITE, RED_CELLS_PER_PLATELET = 300, 15
#: Red cells in a square of 40,000 px, three quarters of it covered.
RED_CELLS = 94_000
FULL_SIDE_PX = 40_000


@dataclass(frozen=True)
class Counted:
    """Result of one run of cellcount.

    Attributes:
        boxes_xyxy: float32 (N, 4).
        labels: int64 (N,), index in ``LABELS``.
        seconds, mebibytes: wall time and largest resident memory of the whole program.
    """

    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    seconds: float
    mebibytes: float


def spec_of(side_px: int, seed: int) -> FieldSpec:
    """The slide: as dense at any size."""
    covered = 1 - GLASS_SHARE
    red = RED_CELLS * (side_px / FULL_SIDE_PX) ** 2 / covered
    density = red * np.pi * RBC_PX**2 / 4 / side_px**2
    white, platelets = red / RED_CELLS_PER_WHITE, red / RED_CELLS_PER_PLATELET
    return FieldSpec(side_px, side_px, seed, RBC_PX, density, white, platelets, debris=0.2)


def glass_from(side_px: int) -> int:
    """Return the place where the empty glass begins, on a border of patches."""
    step = TILE_PX * PATCH_TILES if side_px > 4 * TILE_PX * PATCH_TILES else TILE_PX
    return int(side_px * (1 - GLASS_SHARE)) // step * step


def tiles_of(spec: FieldSpec, x0: int, y0: int, width: int, height: int) -> Iterator[Pixels]:
    """The TIFF tiles of a part of the slide, row by row, rendered a patch at a time."""
    glass = np.array(spec.stain.background)
    edge, patch = glass_from(spec.width_px), TILE_PX * PATCH_TILES
    rng = np.random.default_rng(spec.seed)
    for y in range(y0, y0 + height, TILE_PX):
        for x in range(x0, x0 + width, patch):
            across = min(patch, x0 + width - x)
            pixels = render_window(spec, x, y, across, min(TILE_PX, y0 + height - y)).pixels
            if x + across > edge:
                empty = pixels[:, max(0, edge - x) :]
                empty[:] = np.clip(glass + rng.normal(0, spec.noise, empty.shape), 0, 255)
            for left in range(0, across, TILE_PX):
                tile = pixels[:, left : left + TILE_PX]
                missing = (TILE_PX - tile.shape[0], TILE_PX - tile.shape[1])
                yield np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def write_part(path: Path, spec: FieldSpec, part: tuple[int, int, int, int]) -> None:
    """A part (x, y, width, height) of the slide as tiled TIFF with its scale."""
    per_cm = 1e4 * RBC_PX / RBC_DIAMETER_UM
    tifffile.imwrite(
        path,
        tiles_of(spec, *part),
        shape=(part[3], part[2], 3),
        dtype=np.uint8,
        bigtiff=True,
        photometric="rgb",
        tile=(TILE_PX, TILE_PX),
        compression="jpeg",
        compressionargs={"level": 92},
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )


def truth_of(spec: FieldSpec) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes and labels of the cells that the slide shows."""
    side = spec.width_px
    cells = Plane(spec).cells_in(0, 0, side, side)
    shown = [cell for cell in cells if cell.x < glass_from(side)]
    boxes, labels, _ = window_truth(shown, 0, 0, side, side)
    return boxes, np.array([LABELS.index(label) for label in labels], np.int64)


def count(path: Path, settings: argparse.Namespace) -> Counted:
    """Run cellcount on one picture, as a person would."""
    out, cells = path.with_suffix(".csv"), path.with_suffix(".cells.csv")
    options = ["--detector", settings.detector, "--classifier", "none"]
    options += ["--max-pixels", str(settings.max_pixels), "--tile-px", str(settings.tile_px)]
    command = [sys.executable, "-m", "cellcount", "analyze", str(path), "--fresh", *options]
    started = time.perf_counter()
    child = subprocess.Popen([*command, "--out", str(out), "--cells", str(cells)])
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"cellcount failed on {path}")
    with cells.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    sides = ("x_min_px", "y_min_px", "x_max_px", "y_max_px")
    boxes = np.array([[float(row[s]) for s in sides] for row in rows], np.float32).reshape(-1, 4)
    labels = np.array([LABELS.index(row["label"]) for row in rows], np.int64)
    return Counted(boxes, labels, seconds, usage.ru_maxrss / 1024)


def clear_of(
    boxes_xyxy: NDArray[np.float32], margin_px: float, across: list[int], down: list[int]
) -> NDArray[np.bool_]:
    """Return whether boxes keep a margin from vertical and horizontal lines, (N,)."""
    clear = np.ones(len(boxes_xyxy), np.bool_)
    for axis, lines in ((0, across), (1, down)):
        for line in lines:
            near = boxes_xyxy[:, axis] < line + margin_px
            clear &= ~(near & (boxes_xyxy[:, axis + 2] > line - margin_px))
    return clear


def matched(
    one: tuple[NDArray[np.float32], NDArray[np.int64]],
    other: tuple[NDArray[np.float32], NDArray[np.int64]],
    *,
    largest_px: float,
) -> int:
    """Cells of one class whose centres are each other's nearest and at most so far apart."""
    found = 0
    for label in range(len(LABELS)):
        a, b = ((boxes[labels == label]) for boxes, labels in (one, other))
        if not len(a) or not len(b):
            continue
        centres_a, centres_b = ((v[:, :2] + v[:, 2:]) / 2 for v in (a, b))
        distance, there = cKDTree(centres_b).query(centres_a)
        _, back = cKDTree(centres_a).query(centres_b)
        found += int(((back[there] == np.arange(len(a))) & (distance <= largest_px)).sum())
    return found


def merge_seconds(boxes: int = 50_000) -> tuple[float, int]:
    """Time to merge so many boxes from overlapping tiles, and how many cells they are."""
    side, cell = 12_800, 64
    tiles = split(side, side, tile_px=1024, margin_px=128)
    rng = np.random.default_rng(0)
    per_row = int(np.sqrt(boxes / 1.7))
    places = np.stack(np.meshgrid(*[np.linspace(40, side - 104, per_row)] * 2), -1).reshape(-1, 2)
    corners = np.concatenate([places, places + cell], axis=1)
    parts = []
    for tile in tiles:
        start, end = (tile.x, tile.y), (tile.x + tile.width, tile.y + tile.height)
        inside = (corners[:, :2] >= start).all(1) & (corners[:, 2:] <= end).all(1)
        seen = corners[inside] - np.tile(start, 2) + rng.uniform(-2, 2, (int(inside.sum()), 4))
        scores = rng.uniform(0.3, 1, len(seen)).astype(np.float32)
        parts.append((tile, Detections(seen.astype(np.float32), scores, np.zeros(len(seen), int))))
    total = sum(len(part) for _, part in parts)
    started = time.process_time()  # whatever else the machine has to do
    merged = merge(parts, width_px=side, height_px=side)
    seconds = time.process_time() - started
    assert len(merged) == len(corners), "every cell is there once"
    print(f"merge        {total:,} boxes to {len(merged):,} cells in {seconds:.2f} s of a core")
    return seconds, total


def compare_quarters(
    folder: Path, spec: FieldSpec, whole: Counted, settings: argparse.Namespace, margin_px: float
) -> None:
    """Count the quarters, each by itself, and tell how far they agree with the slide."""
    side = spec.width_px
    half = side // 2 // TILE_PX * TILE_PX
    boxes, labels = [], []
    for x, width in ((0, half), (half, side - half)):
        for y, height in ((0, half), (half, side - half)):
            path = folder / f"quarter-{x}-{y}.tif"
            write_part(path, spec, (x, y, width, height))
            part = count(path, settings)
            print(f"  quarter    {len(part.labels):,} cells, {part.mebibytes:,.0f} MiB")
            boxes.append(part.boxes_xyxy + np.array([x, y, x, y], np.float32))
            labels.append(part.labels)
            if settings.keep is None:
                path.unlink()
    apart = np.concatenate(boxes), np.concatenate(labels)
    across = [half, glass_from(side)]
    kept = []
    for found in ((whole.boxes_xyxy, whole.labels), apart):
        clear = clear_of(found[0], margin_px, across, [half])
        kept.append((found[0][clear], found[1][clear]))
    same = matched(*kept, largest_px=RBC_PX / 8)
    ours, theirs = len(kept[0][1]), len(kept[1][1])
    print(
        f"quarters     {same:,} cells the same; {ours - same:,} only on the slide, "
        f"{theirs - same:,} only on the quarters ({same / max(1, ours, theirs):.2%} agree)"
    )


def main() -> None:
    """Render, count, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=FULL_SIDE_PX, help="of the slide, in pixels")
    parser.add_argument("--detector", default=DEFAULT_DETECTOR)
    parser.add_argument("--tile-px", type=int, default=0, help="larger ones overlap less")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--no-quarters", action="store_true", help="count the slide alone")
    parser.add_argument("--keep", type=Path, help="folder for the TIFF files and tables")
    settings = parser.parse_args()
    side: int = settings.side
    # Below what would be decoded whole, so that a small slide is read by windows, too.
    settings.max_pixels = min(DEFAULT_MAX_PIXELS, (side // 2 // TILE_PX * TILE_PX) ** 2 - 1)
    merge_seconds()
    with tempfile.TemporaryDirectory() as made:
        folder = settings.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        spec, path = spec_of(side, settings.seed), folder / "slide.tif"
        started = time.perf_counter()
        write_part(path, spec, (0, 0, side, side))
        truth = truth_of(spec)
        seconds, megabytes = time.perf_counter() - started, path.stat().st_size / 1e6
        print(f"rendered     {side:,} x {side:,} px, {megabytes:,.0f} MB, in {seconds:,.0f} s")
        whole = count(path, settings)
        rate = side * side / whole.seconds / 1e6
        print(f"time         {whole.seconds:,.0f} s ({rate:.1f} Mpx/s)")
        print(f"memory       {whole.mebibytes:,.0f} MiB resident at most")
        for index, name in enumerate(LABELS):
            counted, true = ((v == index).sum() for v in (whole.labels, truth[1]))
            error = f"{(counted - true) / true:+.2%}" if true else ""
            print(f"  {name:<10} {counted:,} counted, {true:,} there {error}")
        found = matched((whole.boxes_xyxy, whole.labels), truth, largest_px=RBC_PX / 2)
        print(f"truth        {found:,} of {len(truth[1]):,} found, {len(whole.labels):,} counted")
        if not settings.no_quarters:
            card = read_card(resolve(settings.detector))
            margin_px = card.tile_margin_px * RBC_PX / card.rbc_diameter_px
            compare_quarters(folder, spec, whole, settings, margin_px)


if __name__ == "__main__":
    main()
