"""Pages of a TIFF: which are fields, which planes of one field, and which lie beside a field.

- Pages that the file states to be a z-stack or a time series are one field; so are pages next to
  each other that show the same place, whatever the file says. The sharpest is counted.
- Thumbnails, pyramid levels, masks, labels and macro pictures are no fields, be they marked as
  such, named so, or less than half as large as the largest page. Of a scanner's file the largest
  page is the field.
- All other pages are fields of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import tifffile

from cellcount.core.records import Picture
from cellcount.errors import ImageError
from cellcount.images import planes, tiff_metadata
from cellcount.images.planes import View
from cellcount.images.tiff import checked_page, opened, page_of, read_page

REDUCED, _MASK = 0b001, 0b100  # NewSubfileType
#: Larger pages are not decoded to see whether they show the same place.
_COMPARED_PIXELS = 1 << 26
#: A page with less than this share of the largest page's area, and smaller both ways, is no field.
_LEAST_AREA = 0.5
#: Of files with more pages it is not said that their sizes differ.
_SIZED_PAGES = 64
_PLANES = "further planes of the place on page {} (z-stack or time series)"

#: Sharpness of a plane, its page, and its picture.
_Plane = tuple[float, int, Picture]


@dataclass(frozen=True, slots=True)
class Pages:
    """Roles of the pages (from 0) of a file.

    Attributes:
        fields: the first page of each field.
        beside: pages that are no fields of their own, and why.
    """

    fields: tuple[int, ...]
    beside: tuple[tuple[tuple[int, ...], str], ...] = ()


def pages_of(file: BinaryIO) -> Pages:
    """Return the pages of a TIFF, by their headers, and by their pixels where these do not tell.

    Channels of one field in separate pages are one field (which reading will refuse), and a
    chain of pages that is cut off yields one page too many, so that the loss gets its own row.
    """
    with opened(file) as tif:
        count = len(tif.pages)
        headers = {index: page for index in range(count) if (page := _header(tif, index))}
        first = headers.get(0)
        if first is not None and tiff_metadata.separate_channels(tif, first) > 1:
            return Pages((0,))
        reasons = _beside(tif, headers)
        fields = []
        for group in _groups(tif, file, [i for i in range(count) if i not in reasons]):
            fields.append(group[0])
            reasons.update(dict.fromkeys(group[1:], _PLANES.format(group[0] + 1)))
        if _is_cut_off(tif, file):
            fields.append(count)
    by_reason: dict[str, list[int]] = {}
    for index in sorted(reasons):
        by_reason.setdefault(reasons[index], []).append(index)
    return Pages(tuple(fields) or (0,), tuple((tuple(p), r) for r, p in by_reason.items()))


def read_tiff(file: BinaryIO, index: int, max_pixels: int) -> Picture:
    """The field that begins on a page: the page, or the sharpest of its planes."""
    with opened(file) as tif:
        checked_page(tif, index, max_pixels=None)
        stated = tiff_metadata.stated_planes(tif, index)
        if len(stated.pages) > 1 and stated.pages[0] == index:
            return _sharpest_stated(tif, file, stated.pages, max_pixels)
        picture = read_page(tif, file, index, max_pixels)
        if stated.stated > 1:
            if stated.stated > len(stated.pages):
                caution = f"the file states {stated.stated} planes and holds this one alone"
                picture = replace(picture, cautions=(*picture.cautions, caution))
            return picture
        picture = _sharpest_alike(tif, file, index, picture, max_pixels)
        caution = _size_caution(tif, index)
        return replace(picture, cautions=(*picture.cautions, caution)) if caution else picture


def _header(tif: tifffile.TiffFile, index: int) -> tifffile.TiffPage | None:
    """Read a page's header; None for a damaged one, whose row will state the error."""
    try:
        return page_of(tif, index)
    except Exception:  # noqa: BLE001 (whatever is wrong with it, reading will say so)
        return None


def _beside(tif: tifffile.TiffFile, headers: dict[int, tifffile.TiffPage]) -> dict[int, str]:
    """Page → why it is no field, for those that are not."""
    if len(headers) < 2:
        return {}
    reasons = {index: text for index, p in headers.items() if (text := _marked(tif, p, index))}
    if len(reasons) == len(headers):
        reasons = {i: text for i, text in reasons.items() if i != _largest(headers)}
    left = {index: page for index, page in headers.items() if index not in reasons}
    largest = _largest(left)
    scanner = is_scanner_file(tif)
    for index, page in left.items():
        if index == largest:
            continue
        if scanner:
            reasons[index] = f"a level, label or overview beside the scan on page {largest + 1}"
        elif _is_lesser(page, headers[largest]):
            reasons[index] = (
                f"a picture of {page.imagewidth} x {page.imagelength} px beside the larger page "
                f"{largest + 1}: a thumbnail, level, label or macro; save it as a file of its "
                "own if it is a field"
            )
    return reasons


def _marked(tif: tifffile.TiffFile, page: tifffile.TiffPage, index: int) -> str:
    """Return the reason why a page is no field by its own metadata, "" where it has none."""
    if page.subfiletype & _MASK:
        return "a transparency mask"
    if page.subfiletype & REDUCED:
        return "marked as a reduced copy (thumbnail or pyramid level)"
    name = tiff_metadata.name_beside(tif, page, index)
    return f"called {name!r}, which is no field" if name else ""


def _largest(headers: dict[int, tifffile.TiffPage]) -> int:
    return max(headers, key=lambda i: (headers[i].imagewidth * headers[i].imagelength, -i))


def _is_lesser(page: tifffile.TiffPage, largest: tifffile.TiffPage) -> bool:
    across = page.imagewidth / max(1, largest.imagewidth)
    down = page.imagelength / max(1, largest.imagelength)
    return 0 < across < 1 and 0 < down < 1 and across * down < _LEAST_AREA


def _groups(
    tif: tifffile.TiffFile, file: BinaryIO, indices: list[int]
) -> Iterator[tuple[int, ...]]:
    """The pages of each field, out of those that are not beside one."""
    taken: set[int] = set()
    view: View | None = None
    group: list[int] = []
    for index in indices:
        if index in taken:
            continue
        stated = _stated(tif, index)
        if len(stated) > 1:
            if group:
                yield tuple(group)
                group = []
            members = tuple(i for i in stated if i in set(indices) - taken)
            taken.update(members)
            yield members
            continue
        before, view = view, _view(tif, file, index, indices)
        if group and group[-1] == index - 1 and _are_alike(before, view):
            group.append(index)
            continue
        if group:
            yield tuple(group)
        group = [index]
    if group:
        yield tuple(group)


def _stated(tif: tifffile.TiffFile, index: int) -> tuple[int, ...]:
    try:
        return tiff_metadata.stated_planes(tif, index).pages
    except Exception:  # noqa: BLE001 (a damaged page on the way; its own row will say so)
        return (index,)


def _view(tif: tifffile.TiffFile, file: BinaryIO, index: int, indices: list[int]) -> View | None:
    """Reduced view of a page; None where no neighbour has its form or it cannot be read."""
    if not any(_may_join(tif, *sorted((index, i))) for i in (index - 1, index + 1) if i in indices):
        return None
    try:
        return planes.view_of(read_page(tif, file, index, _COMPARED_PIXELS).pixels)
    except Exception:  # noqa: BLE001 (its own row will say so)
        return None


def _may_join(tif: tifffile.TiffFile, first: int, second: int) -> bool:
    """Return whether two pages have one form, so that they could be planes of one field."""
    one, other = _header(tif, first), _header(tif, second)
    if one is None or other is None or _marked(tif, one, first) or _marked(tif, other, second):
        return False
    forms = {(p.imagewidth, p.imagelength, p.samplesperpixel, p.dtype) for p in (one, other)}
    return len(forms) == 1 and one.imagewidth * one.imagelength <= _COMPARED_PIXELS


def _are_alike(first: View | None, second: View | None) -> bool:
    alike = planes.likeness(first, second)
    return alike is not None and alike >= planes.SURELY_SAME


def _sharpest_stated(
    tif: tifffile.TiffFile, file: BinaryIO, pages: tuple[int, ...], max_pixels: int
) -> Picture:
    """The sharpest of stated planes; ``ImageError`` where they show different places."""
    best: _Plane | None = None
    view: View | None = None
    lost: list[str] = []
    for index in pages:
        try:
            picture = read_page(tif, file, index, max_pixels)
        except (ImageError, ValueError, RuntimeError, struct.error) as error:
            lost.append(f"page {index + 1}: {error}")
            continue
        shown = planes.view_of(picture.pixels)
        alike = planes.likeness(view, shown)
        if alike is not None and alike < planes.MAYBE_SAME:
            raise ImageError(
                f"the file states {len(pages)} planes of one place (z-stack or time series), but "
                f"page {index + 1} shows another place; save each field as a file of its own"
            )
        view = shown if view is None else view
        best = _better(best, index, picture)
    if best is None:
        raise ImageError(f"no plane can be read; {lost[0]}")
    picture = _as_plane(best, len(pages))
    if not lost:
        return picture
    caution = f"{len(lost)} of {len(pages)} planes cannot be read ({lost[0]})"
    return replace(picture, cautions=(*picture.cautions, caution))


def _sharpest_alike(
    tif: tifffile.TiffFile, file: BinaryIO, index: int, picture: Picture, max_pixels: int
) -> Picture:
    """The sharpest of a page and those after it that show the same place."""
    best, count, view = _better(None, index, picture), 1, planes.view_of(picture.pixels)
    for following in range(index + 1, len(tif.pages)):
        if not _may_join(tif, following - 1, following) or len(_stated(tif, following)) > 1:
            break
        try:
            other = read_page(tif, file, following, max_pixels)
        except Exception:  # noqa: BLE001 (its own row will say so)
            break
        shown = planes.view_of(other.pixels)
        if not _are_alike(view, shown):
            break
        best, count, view = _better(best, following, other), count + 1, shown
    return picture if count == 1 else _as_plane(best, count)


def _better(best: _Plane | None, index: int, picture: Picture) -> _Plane:
    sharpness = planes.sharpness(picture.pixels)
    return best if best is not None and best[0] >= sharpness else (sharpness, index, picture)


def _as_plane(best: _Plane, count: int) -> Picture:
    _, index, picture = best
    caution = (
        f"{count} pages show this place (z-stack or time series): page {index + 1}, the sharpest, "
        "is counted"
    )
    return replace(picture, cautions=(*picture.cautions, caution))


def _size_caution(tif: tifffile.TiffFile, index: int) -> str:
    """Caution for a page that is smaller than another one, "" where none is larger."""
    if not 1 < len(tif.pages) <= _SIZED_PAGES:
        return ""
    headers = {i: page for i in range(len(tif.pages)) if (page := _header(tif, i))}
    largest, page = headers[_largest(headers)], headers[index]
    if page.imagewidth >= largest.imagewidth or page.imagelength >= largest.imagelength:
        return ""
    return (
        f"page of {page.imagewidth} x {page.imagelength} px beside one of {largest.imagewidth} x "
        f"{largest.imagelength} px: check that it is a field of its own"
    )


def is_scanner_file(tif: tifffile.TiffFile) -> bool:
    """Scanner files whose further pages are levels, label and overview of one slide."""
    return bool(
        tif.is_svs or tif.is_ndpi or tif.is_scn or tif.is_bif or tif.is_philips or tif.is_qpi
    )


def _is_cut_off(tif: tifffile.TiffFile, file: BinaryIO) -> bool:
    """Return whether the last page found names a further one beyond the end of the file."""
    form = tif.tiff
    try:
        file.seek(tif.pages[-1].offset)
        (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
        file.seek(tags * form.tagsize, 1)
        (following,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
    except struct.error:
        return False  # nothing follows that could have been lost
    return bool(following >= file.seek(0, 2))
