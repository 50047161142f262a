"""Detection on whole slides, tile by tile, in windows of bounded size.

Tiles, their pixels and so every detection depend on the slide's size alone; windows only say which
tiles are cut from pixels that are read together, the next ones being read meanwhile. A tile is
resampled from the pixels under it alone as if the whole slide had been resized.

Shapes: pixels uint8 (H, W, 3) RGB; boxes (N, 4) xyxy in original pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import Detections
from cellcount.core.side_by_side import SideBySide
from cellcount.core.tiles import Tile
from cellcount.engines.base import Engine
from cellcount.engines.field_detector import FieldDetector, Found
from cellcount.images.colour_balance import ColourBalance
from cellcount.images.quality import COARSE_PX, density_above_glass
from cellcount.images.scale import resize
from cellcount.images.source import Source
from cellcount.images.tiff_windows import Rect

#: A tile is empty glass where nothing in a small copy of it is darker by this optical density
#: (7 %): less than the palest of cells, more than camera noise.
EMPTY_DENSITY = 0.03


#: Takes the share of a slide that is done, 0 to 1.
Tell: TypeAlias = Callable[[float], None]


def detect_on_slide(
    detector: FieldDetector,
    source: Source,
    factor: float,
    balance: ColourBalance | None,
    *,
    window_px: int | None = None,
    tell: Tell = lambda share: None,
) -> Found:
    """Detect all cells above the card's score floor on a whole slide, in original pixels.

    Args:
        detector: the model on fields.
        source: the slide; any other source gives the same cells.
        factor: original pixels times this are the model's pixels.
        balance: of the colours of the whole slide, None to leave them.
        window_px: pixels read at a time, the slide's own number where None; never changes a result.
        tell: called before every window with the share that is done; ends the work by raising.

    Raises:
        ImageError: it cannot be read.
        DeviceMemoryError: memory is short even for a single tile of the smallest size.
    """
    view = _View.of(source, factor, balance)
    at_once = window_px or source.window_px
    return detector.with_tiles_that_fit(
        max(view.width, view.height),
        lambda side: _detect(detector, source, view, (side, at_once), tell),
    )


def _detect(
    detector: FieldDetector,
    source: Source,
    view: _View,
    sizes_px: tuple[int, int],
    tell: Tell,
) -> Found:
    """Detect on a slide with tiles of that side, read in windows of so many pixels."""
    tile_px, window_px = sizes_px
    tiles = detector.tiles_for(view.width, view.height, tile_px)
    parts: list[tuple[Tile, Detections]] = []
    engine = detector.engine
    threads = SideBySide(engine.tiles_at_once)
    done = 0
    for window, pixels in _read(source, _windows(tiles, view, window_px)):
        tell(done / len(tiles))
        done += len(window.tiles)
        size = engine.batch_size
        batches = [window.tiles[i : i + size] for i in range(0, len(window.tiles), size)]
        look = partial(_look, engine, view, (window.rect, pixels))
        for found in threads.map(look, batches):
            parts += found
    return detector.merged(parts, (view.width, view.height), source.size_px)


def _look(
    engine: Engine,
    view: _View,
    window: tuple[Rect, NDArray[np.uint8]],
    tiles: Sequence[Tile],
) -> list[tuple[Tile, Detections]]:
    """Detect on those of the tiles that show more than glass, cut from the pixels of a window."""
    rect, pixels = window
    cuts = [(tile, view.cut(tile, pixels, rect)) for tile in tiles]
    shown = [(t, p) for t, p in cuts if not is_empty(p, engine.card.rbc_diameter_px)]
    found = engine.detect([p for _, p in shown])
    return list(zip((t for t, _ in shown), found, strict=True))


def is_empty(tile: NDArray[np.uint8], rbc_diameter_px: float) -> bool:
    """Return whether a tile at the model's scale shows nothing but glass."""
    thumbnail = resize(tile, COARSE_PX / rbc_diameter_px).astype(np.float32)
    return bool(density_above_glass(thumbnail).mean(axis=2).max() < EMPTY_DENSITY)


@dataclass(frozen=True, slots=True)
class _Window:
    """Tiles that are cut from pixels read together."""

    rect: Rect
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, eq=False, slots=True)
class _View:
    """Geometry of a slide at the model's scale.

    Attributes:
        width, height: its size there.
        size: its own width and height.
        balance: of the colours of the whole slide, None for none.
    """

    width: int
    height: int
    size: tuple[int, int]
    balance: ColourBalance | None

    @classmethod
    def of(cls, source: Source, factor: float, balance: ColourBalance | None) -> _View:
        """Return the view that ``resize`` would produce for this factor."""
        width, height = (max(1, round(side * factor)) for side in source.size_px)
        return cls(width, height, source.size_px, balance)

    @property
    def step(self) -> tuple[float, float]:
        """Original pixels per pixel, across and down."""
        return self.size[0] / self.width, self.size[1] / self.height

    def seen(self, tile: Tile) -> Rect:
        """Rectangle of original pixels that the pixels of a tile are computed from."""
        x0, x1 = self._reach(tile.x, tile.width, axis=0)
        y0, y1 = self._reach(tile.y, tile.height, axis=1)
        return Rect(x0, y0, x1 - x0, y1 - y0)

    def _reach(self, start: int, length: int, *, axis: int) -> tuple[int, int]:
        step = self.step[axis]
        support = 0 if step == 1 else ceil(max(1.0, step)) + 1  # of the bilinear filter
        first, last = floor(start * step) - support, ceil((start + length) * step) + support
        return max(0, first), min(self.size[axis], last)

    def cut(self, tile: Tile, pixels: NDArray[np.uint8], window: Rect) -> NDArray[np.uint8]:
        """The pixels of a tile at the model's scale, from those of a window that holds it."""
        seen = self.seen(tile)
        left, top = seen.x - window.x, seen.y - window.y
        part = pixels[top : top + seen.height, left : left + seen.width]
        (across, down), size = self.step, (tile.width, tile.height)
        if (across, down) != (1, 1):
            x, y = tile.x * across - seen.x, tile.y * down - seen.y
            box = (x, y, x + tile.width * across, y + tile.height * down)
            # Rounding must not push the box a hair out of the picture.
            box = (*box[:2], min(box[2], seen.width), min(box[3], seen.height))
            image = Image.fromarray(np.ascontiguousarray(part))
            part = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))
        return part if self.balance is None else self.balance.apply(part)


def _windows(tiles: Sequence[Tile], view: _View, window_px: int) -> Iterator[_Window]:
    """Neighbouring tiles in their order, as many together as a window holds, one at least."""
    group: list[Tile] = []
    rect = Rect(0, 0, 0, 0)
    for tile in tiles:
        grown = _around(rect, view.seen(tile)) if group else view.seen(tile)
        if group and grown.pixels > window_px:
            yield _Window(rect, tuple(group))
            group, grown = [], view.seen(tile)
        group.append(tile)
        rect = grown
    yield _Window(rect, tuple(group))


def _around(a: Rect, b: Rect) -> Rect:
    x, y = min(a.x, b.x), min(a.y, b.y)
    right, lower = max(a.x + a.width, b.x + b.width), max(a.y + a.height, b.y + b.height)
    return Rect(x, y, right - x, lower - y)


def _read(
    source: Source, windows: Iterator[_Window]
) -> Iterator[tuple[_Window, NDArray[np.uint8]]]:
    """Windows with their pixels, the next being read while one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="cellcount-slide") as pool:
        waiting = [(w, pool.submit(source.read, w.rect)) for w in _first(windows)]
        while waiting:
            window, pixels = waiting.pop()
            ready = pixels.result()
            waiting += [(w, pool.submit(source.read, w.rect)) for w in _first(windows)]
            yield window, ready


def _first(windows: Iterator[_Window]) -> list[_Window]:
    """Return the next window, None at the end."""
    return [w for w in (next(windows, None),) if w is not None]
