"""The lit part of a picture: the disc of an eyepiece, or a turned or stitched field.

What lies around the field that the lamp lights shows no blood, but its edges and dark corners
look like cells. It is told by four properties together: it touches the border of the picture, it
is flat, its colour is neither that of glass nor of stain, and the field bulges into it rather than
it into the field, or its edge is straight. Dark nuclei and clumps at the border fail the last of
them, empty glass the third, tissue the second, and light that fades towards the corners has no
edge at all.

Shapes: pixels uint8 (H, W, 3) RGB; thumbnails (h, w, 3) and masks (h, w) of about 160 px; boxes
(N, 4) xyxy in pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cellcount.core.records import Picture
from cellcount.images.source import Field, Source
from cellcount.images.thumbnails import Thumbnails
from cellcount.images.white_balance import GLASS_PERCENTILE, percentile, percentiles

Mask = NDArray[np.bool_]
_SIDE_PX, _LEAST_SIDE_PX = 160, 8
#: Steps of brightness between neighbours of a thumbnail that are flat, and that are one colour.
_FLAT, _CONSTANT = 4.0, 1.0
#: Brighter than this share of the glass is no dark surround; small parts are told from a cell at
#: the border only where they are darker still.
_DARK, _DARK_SMALL, _SMALL = 0.65, 0.35, 0.04
#: Green is less than red and blue by this share of the brightness in what is stained.
_DYED = 0.12
#: One colour: the standard deviation of its pixels, and how much two parts of it differ at most.
_DEVIATION, _ALIKE = 1.7, 6.0
#: So much does a surround of one colour differ from the glass, which light makes uneven; less where
#: all channels are white.
_UNLIKE_GLASS, _WHITE, _WHITE_UNLIKE_GLASS = 25.0, 250.0, 8.0
#: A field in a white surround holds so much of the picture, and that much of it is its own glass.
_LEAST_IN_WHITE, _LEAST_CLEAR, _CLEAR = 0.25, 0.1, 20.0
#: So much brighter than at the edge of a dark surround it is a little further into the field; the
#: light of a lamp falls off more slowly.
_EDGE_STEP, _EDGE_FROM_PX, _EDGE_TO_PX = 1.3, 4, 7
#: Glass darker than this is no field with a dark surround, but a picture that is dark.
_LEAST_GLASS = 60.0
#: Smaller parts, as shares of the picture, are left to the detector.
_LEAST_PART, _LEAST_SURROUND, _LEAST_LIT = 0.002, 0.01, 0.1
#: A field and large pieces of it, and how much of what is lit they hold at least.
_LEAST_FIELD, _MOST = 0.02, 0.8
#: Share of a part that the convex hull of the field may cover.
_BULGE, _CONSTANT_BULGE = 0.1, 0.05
#: Share of a part's edge that runs straight in a stitched field, and how long that is at least.
_STRAIGHT, _LONG_PX = 0.85, 12
_EDGE_PX, _SOFT_EDGE_PX = 2, 6
#: Beside a surround that is found, the rest of it need not be flat: flares and rims of lenses.
_REST = 0.5
#: The soft edge ends where glass has this share of its brightness, at most so far (of the side).
_EDGE_LIGHT, _WIDEST_EDGE = 0.9, 0.08
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False, slots=True)
class LitField:
    """Lit part of a picture.

    Attributes:
        outside: what is not, (h, w), True around the field.
        size_px: width and height of the picture.
        glass: colour of the lit part's clear background, uint8 (3,).
    """

    outside: Mask
    size_px: tuple[int, int]
    glass: NDArray[np.uint8]

    @property
    def lit_share(self) -> float:
        """Share of the picture that is lit, 0 to 1."""
        return 1.0 - float(self.outside.mean())

    def painted(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture with clear glass around the lit part, as if it were larger."""
        mask = Image.fromarray(self.outside.astype(np.uint8) * 255)
        whole = np.asarray(mask.resize(self.size_px, Image.Resampling.BILINEAR)) >= 128
        painted = pixels.copy()
        painted[whole] = self.glass
        return painted

    def holds(self, boxes_xyxy: NDArray[np.floating[Any]]) -> Mask:
        """Mask of the boxes with their centre in the lit part, (N,)."""
        centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        return ~self._at(centres[:, 0], centres[:, 1])

    def cut(self, boxes_xyxy: NDArray[np.floating[Any]]) -> tuple[Mask, Mask]:
        """Masks of the boxes that reach out of the lit part at all, and to the right or downwards.

        Returns:
            Two masks (N,).
        """
        x_min, y_min, x_max, y_max = boxes_xyxy.T
        first, last = np.zeros(len(boxes_xyxy), np.bool_), np.zeros(len(boxes_xyxy), np.bool_)
        for share in (0.25, 0.5, 0.75):  # a round field reaches corners of boxes first, not cells
            x, y = x_min + share * (x_max - x_min), y_min + share * (y_max - y_min)
            first |= self._at(x_min, y) | self._at(x, y_min)
            last |= self._at(x_max, y) | self._at(x, y_max)
        return first | last, last

    def _at(self, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> Mask:
        height, width = self.outside.shape
        column = np.clip(x * (width / self.size_px[0]), 0, width - 1).astype(np.intp)
        row = np.clip(y * (height / self.size_px[1]), 0, height - 1).astype(np.intp)
        return np.asarray(self.outside[row, column], np.bool_)


def lit_part(
    source: Source, thumbnails: Thumbnails | None = None
) -> tuple[Source, LitField | None]:
    """Return the image with clear glass around its lit field, and that field; None for the whole.

    Args:
        source: the image; one that is not held whole is taken as it is.
        thumbnails: its views, where there are any.
    """
    if source.picture is None:
        return source, None
    field = find_lit_field(source.picture.pixels, thumbnails)
    if field is None:
        return source, None
    return Field(Picture(field.painted(source.picture.pixels), source.um_per_px)), field


def find_lit_field(
    pixels: NDArray[np.uint8], thumbnails: Thumbnails | None = None
) -> LitField | None:
    """The lit part of a picture, None where all of it is.

    Args:
        pixels: of the picture.
        thumbnails: its views, where there are any.
    """
    height, width = pixels.shape[:2]
    small = thumbnails or Thumbnails(pixels)
    view = small.grey(_SIDE_PX)  # (h, w)
    if min(view.shape) < _LEAST_SIDE_PX:
        return None
    grey, change = view.astype(np.float32), _change(view)
    constant = list(_at_the_border(change <= _CONSTANT))
    # Taken from the brightest there is, so that nothing is missed; most pictures end here.
    may_be_dark = (grey < _DARK * float(grey.max())) & (change <= _FLAT)
    if not constant and not _touches_the_border(may_be_dark):
        return None
    thumbnail = small.colour(_SIDE_PX)  # (h, w, 3)
    surround = _surround(thumbnail, grey, constant, change <= _FLAT)
    if surround.mean() < _LEAST_SURROUND or surround.mean() > 1 - _LEAST_LIT:
        return None
    surround = _with_islands(_with_soft_edge(surround, grey))
    if surround.all():
        return None
    colour = percentiles(thumbnail[~surround], GLASS_PERCENTILE)
    glass = np.clip(colour.round(), 1, 254).astype(np.uint8)  # 0 and 255 would be clipped
    return LitField(surround, (width, height), glass)


def _surround(
    thumbnail: NDArray[np.uint8], grey: NDArray[np.float32], constant: Sequence[Mask], flat: Mask
) -> Mask:
    """Mask of the unlit surround, without the soft edge of the field.

    Args:
        thumbnail: (h, w, 3).
        grey: its brightness, (h, w).
        constant: its parts at the border that are most flat.
        flat: all that is.
    """
    surround = _of_one_colour(thumbnail, constant)
    glass = percentile(grey[~surround].astype(np.uint8), GLASS_PERCENTILE)
    dark = ~surround & (grey < _DARK * glass) & flat
    if glass < _LEAST_GLASS or not _touches_the_border(dark):
        return surround
    for part in _at_the_border(dark & ~_is_stained(thumbnail, grey)):
        level = _DARK if part.mean() >= _SMALL else _DARK_SMALL
        is_dark = grey[part].mean() < level * glass and _has_edge(part, grey)
        if is_dark and _lies_around(part, surround, _BULGE):
            surround = surround | part
    if surround.any():
        bright = ~surround & (grey >= _REST * glass)
        field = _field(bright)
        if field is not None:
            surround = surround | (~bright & ~field)
    return surround


def _of_one_colour(thumbnail: NDArray[np.uint8], constant: Sequence[Mask]) -> Mask:
    """The parts of a surround that have one colour, other than that of glass, together."""
    surround = np.zeros(thumbnail.shape[:2], np.bool_)
    inner = [_pixels_of(thumbnail, part) for part in constant]
    of_one = [n for n, colours in enumerate(inner) if _is_one_colour(colours)]
    if not of_one:
        return surround
    colours = np.stack([percentiles(inner[n], 50) for n in of_one])  # (parts, 3)
    is_alike = np.abs(colours[:, None] - colours).max(axis=2) <= _ALIKE  # (parts, parts)
    rests: dict[bytes, tuple[Mask, _Rest]] = {}  # the same for most parts
    for number, colour, others in zip(of_one, colours, is_alike, strict=True):
        key, part = others.tobytes(), constant[number]
        if key not in rests:
            alike = np.logical_or.reduce([constant[of_one[n]] for n in np.flatnonzero(others)])
            left = _pixels_of(thumbnail, ~_dilated(alike, _SOFT_EDGE_PX))
            rests[key] = alike, _Rest.of(left, part.size)
        alike, rest = rests[key]
        if not rest.is_glass(colour) and _lies_around(part, alike, _CONSTANT_BULGE):
            surround = surround | part
    return surround


def _pixels_of(thumbnail: NDArray[np.uint8], part: Mask) -> NDArray[np.uint8]:
    """Colours in a part, (N, 3); as ``thumbnail[part]``, but faster."""
    return thumbnail.reshape(-1, 3).take(np.flatnonzero(part), axis=0)


class _Rest(NamedTuple):
    """Picture without the parts of one colour that touch its border.

    Attributes:
        colours: of its pixels, (N, 3).
        share: how much of the picture it is, 0 to 1.
        glass: colour of its clear background, (3,), None where next to nothing is left.
    """

    colours: NDArray[np.uint8]
    share: float
    glass: NDArray[np.float64] | None

    @classmethod
    def of(cls, colours: NDArray[np.uint8], size: int) -> _Rest:
        share = len(colours) / size
        return cls(
            colours, share, None if share < _LEAST_LIT else percentiles(colours, GLASS_PERCENTILE)
        )

    def is_glass(self, colour: NDArray[np.float64]) -> bool:
        """Return whether parts of a colour look like the clear glass of the rest of the picture."""
        if self.glass is None:
            return True
        unlike = _WHITE_UNLIKE_GLASS if colour.min() >= _WHITE else _UNLIKE_GLASS
        if np.abs(colour - self.glass).max() <= unlike:
            return True
        if colour.mean() < self.glass.mean():
            return False
        # What is brighter than the rest is glass around cells, unless there is glass in it too.
        is_clear = np.abs(self.colours - self.glass).max(axis=1) <= _CLEAR
        return bool(self.share < _LEAST_IN_WHITE or is_clear.mean() < _LEAST_CLEAR)


def _change(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest step of brightness to a neighbour above, below, left or right, (h, w)."""
    change = np.zeros_like(grey)
    down, right = (
        np.maximum(first, second) - np.minimum(first, second)  # bytes have no sign
        for first, second in ((grey[1:], grey[:-1]), (grey[:, 1:], grey[:, :-1]))
    )
    for target, step in (
        (change[1:], down),
        (change[:-1], down),
        (change[:, 1:], right),
        (change[:, :-1], right),
    ):
        np.maximum(target, step, out=target)
    return change


def _is_stained(thumbnail: NDArray[np.uint8], grey: NDArray[np.float32]) -> Mask:
    """Mask of pixels with clearly least green: dyes of blood films absorb it, darkness does not."""
    red, green, blue = (thumbnail[..., c].astype(np.float32) for c in range(3))
    return np.asarray(np.minimum(red, blue) - green > _DYED * np.maximum(grey, 40), np.bool_)


def _touches_the_border(mask: Mask) -> bool:
    return any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def _at_the_border(mask: Mask) -> Iterator[Mask]:
    """The connected parts of a mask that touch the border and are not too small, largest first."""
    if np.count_nonzero(mask) < _LEAST_PART * mask.size or not _touches_the_border(mask):
        return
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    parts = [n for n in touching.tolist() if n and sizes[n] >= _LEAST_PART * mask.size]
    for number in sorted(parts, key=lambda n: (-sizes[n], n)):
        yield labels == number


def _is_one_colour(colours: NDArray[np.uint8]) -> bool:
    return bool(colours.astype(np.float32).std(axis=0).max() <= _DEVIATION)


def _has_edge(part: Mask, grey: NDArray[np.float32]) -> bool:
    """Return whether brightness rises sharply at the border of a part."""
    away = ndimage.distance_transform_edt(~part)
    beside = grey[(away >= _EDGE_FROM_PX) & (away <= _EDGE_TO_PX)]
    edge = grey[part & ~ndimage.binary_erosion(part, border_value=1)]
    if not len(beside) or not len(edge):
        return False
    return float(np.percentile(beside, 80)) >= _EDGE_STEP * float(np.median(edge))


def _lies_around(part: Mask, others: Mask, bulge: float) -> bool:
    """Return whether a part's edge is straight along the picture, or the field bulges into it."""
    near = _dilated(part | others, _EDGE_PX)
    field = _field(~near)
    if field is None:
        return False
    return float(field[part].mean()) <= bulge or _straight_share(part) >= _STRAIGHT


def _straight_share(part: Mask) -> float:
    """Share of a part's edge in the picture that runs along rows or columns for long."""
    filled = ndimage.binary_fill_holes(part)
    straight = every = 0
    for edges in (filled[:, 1:] != filled[:, :-1], (filled[1:] != filled[:-1]).T):
        every += int(edges.sum())
        near = edges.copy()  # cells soften it
        near[:, 1:] |= edges[:, :-1]
        near[:, :-1] |= edges[:, 1:]
        straight += int((edges & _in_long_runs(near)).sum())
    return straight / every if every else 0.0


def _in_long_runs(mask: Mask) -> Mask:
    """Mask of pixels in a run of a column that is long enough."""
    long = np.zeros(mask.shape, np.bool_)
    if mask.shape[0] < _LONG_PX:
        return long
    begins = sliding_window_view(mask, _LONG_PX, axis=0).all(axis=2)
    for offset in range(_LONG_PX):
        long[offset : offset + begins.shape[0]] |= begins
    return long


def _field(lit: Mask) -> Mask | None:
    """Return the convex hull of the lit pixels, None where these are single cells and no field."""
    labels, count = ndimage.label(lit)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    is_large = sizes >= _LEAST_FIELD * lit.size
    is_large[0] = False
    if sizes[is_large].sum() < _MOST * sizes[1:].sum() or not is_large.any():
        return None
    return _hull(is_large[labels])


def _hull(mask: Mask) -> Mask:
    """The pixels within the convex hull of a mask: from its left side to its right in each row."""
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) < 2:
        return mask
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    every = np.arange(rows[0], rows[-1] + 1)
    left, right = _leftmost(rows, first, every), -_leftmost(rows, -last, every)
    x = np.arange(mask.shape[1])
    inside = np.zeros(mask.shape, np.bool_)
    inside[every] = (x >= left[:, None] - _ROUNDING) & (x <= right[:, None] + _ROUNDING)
    return inside


def _leftmost(
    rows: NDArray[np.intp], x: NDArray[np.intp], every: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Left side of the convex hull of points, one in each row: its x in every row."""
    hull: list[tuple[int, int]] = []
    for row, place in zip(rows.tolist(), x.tolist(), strict=True):
        while len(hull) > 1:
            (row_0, x_0), (row_1, x_1) = hull[-2:]
            if (x_1 - x_0) * (row - row_1) < (place - x_1) * (row_1 - row_0):
                break  # the side still bends to the left at the last point
            hull.pop()
        hull.append((row, place))
    corners = np.array(hull)
    return np.asarray(np.interp(every, corners[:, 0], corners[:, 1]), np.float64)


def _dilated(mask: Mask, times: int) -> Mask:
    """Grow the mask by so many steps up, down, left and right."""
    for _ in range(times):
        wider = mask.copy()
        wider[1:] |= mask[:-1]
        wider[:-1] |= mask[1:]
        wider[:, 1:] |= mask[:, :-1]
        wider[:, :-1] |= mask[:, 1:]
        mask = wider
    return mask


def _with_soft_edge(surround: Mask, grey: NDArray[np.float32]) -> Mask:
    """The surround with the edge in which the light comes up, as wide on all sides."""
    glass = float(np.percentile(grey[~surround], GLASS_PERCENTILE))
    away = ndimage.distance_transform_edt(~surround)
    widest = max(2, round(_WIDEST_EDGE * min(grey.shape)))
    rings = [grey[(away > d) & (away <= d + 1)] for d in range(widest)]
    # Of each ring what is between cells; how far it is from the glass at its clearest.
    light = [abs(float(np.percentile(r, 80)) - glass) for r in rings if r.size]
    best = min(light, default=0.0)
    near = [d for d, off in enumerate(light) if off - best <= (1 - _EDGE_LIGHT) * glass]
    return np.asarray(away <= (near[0] if near else 0), np.bool_)


def _with_islands(surround: Mask) -> Mask:
    """Add to the surround the captions and dust that it encloses."""
    labels, count = ndimage.label(~surround)
    if count < 2:
        return surround
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = sizes < _LEAST_SURROUND * surround.size
    small[0] = False
    return np.asarray(surround | small[labels], np.bool_)
