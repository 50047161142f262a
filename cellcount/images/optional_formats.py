"""Image formats that need an optional library: those of slide scanners and cameras."""

from __future__ import annotations

from pathlib import Path

from cellcount.images.file_types import CAMERA_SUFFIXES, file_kind
from cellcount.images.lif_files import NEEDS_LIFFILE, has_liffile
from cellcount.images.scanner_slides import has_slide_name, is_slide, why_no_slide


def has_optional_name(path: Path) -> bool:
    """Tell whether a name ends like that of a slide that is no TIFF, or of a camera's file."""
    return has_slide_name(path) or path.suffix.lower() in CAMERA_SUFFIXES


def why_not_read(path: Path, head: bytes = b"") -> str:
    """Tell why a file of such a form cannot be read here; "" where it can, and for other forms.

    Args:
        path: of the file.
        head: its first bytes; none where its name is known to be that of such a file.
    """
    if path.suffix.lower() in CAMERA_SUFFIXES or file_kind(head) == "LIF":
        return "" if has_liffile() else NEEDS_LIFFILE
    return why_no_slide(path) if not head or is_slide(path, head) else ""
