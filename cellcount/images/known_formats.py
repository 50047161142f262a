"""Formats of images that are read, and the library that reads each."""

from __future__ import annotations

from cellcount.images.lif_files import has_liffile
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

_BY_LIFFILE = {"Leica LIF": True, "Leica LOF": False}


def read_formats() -> tuple[list[str], list[str], dict[str, list[str]]]:
    """List the image formats that can be read here.

    Returns:
        Those that are tested, those that are not, and, by the extra that reads them, those that
        need one.
    """
    known, missing = dict(_ALWAYS), {}
    for extra, forms, is_there in (
        ("slides", _BY_OPENSLIDE, has_openslide()),
        ("cameras", _BY_LIFFILE, has_liffile()),
    ):
        if is_there:
            known |= forms
        else:
            missing[extra] = list(forms)
    tested = [name for name, is_tested in known.items() if is_tested]
    return tested, [name for name in known if name not in tested], missing
