"""Forms of images that are read, by what reads them: for people who ask what they can count."""

from __future__ import annotations

from cellcount.images.scanner_slides import has_openslide

#: Form → read in the tests of this package.
_ALWAYS = {
    "JPEG": True,
    "PNG": True,
    "BMP": True,
    "WebP": True,
    "GIF": True,
    "TIFF, BigTIFF, OME-TIFF": True,
    "Aperio SVS": True,
    "Hamamatsu NDPI and Leica SCN as far as tifffile reads them": False,
}
_BY_OPENSLIDE = {
    "DICOM whole slides": True,
    "MIRAX MRXS": False,
    "Hamamatsu NDPI, VMS and VMU": False,
    "Leica SCN": False,
    "Ventana BIF": False,
    "Zeiss CZI": False,
    "Sakura SVSLIDE": False,
}


def read_formats() -> tuple[list[str], list[str], list[str]]:
    """Tell the forms that are read here: tested, not tested, and those that need OpenSlide."""
    tested = [name for name, is_tested in _ALWAYS.items() if is_tested]
    others = [name for name, is_tested in _ALWAYS.items() if not is_tested]
    if not has_openslide():
        return tested, others, list(_BY_OPENSLIDE)
    tested += [name for name, is_tested in _BY_OPENSLIDE.items() if is_tested]
    others = [name for name, is_tested in _BY_OPENSLIDE.items() if not is_tested]
    return tested, others, []
