"""Pictures that file systems, NAS devices and viewers put beside the real ones.

They are told by the names of folders and files. Whoever wants them counted all the same names the
folder itself as an INPUT.
"""

from __future__ import annotations

import re
from collections.abc import Container

_NAS = "thumbnails and bin of a NAS"
_SYSTEM = "bin or system files of an operating system"
_THUMBNAILS = "thumbnails of a viewer"
_MAC = "AppleDouble files of a Mac, which hold no pixels"
_FOLDERS = {
    "@eadir": _NAS, ".@__thumb": _NAS, "@__thumb": _NAS, "@recycle": _NAS, "#recycle": _NAS,
    "@recently-snapshot": _NAS, "#snapshot": _NAS, ".snapshot": _NAS, "~snapshot": _NAS,
    "@tmp": _NAS, ".@upload_cache": _NAS, "network trash folder": _NAS,
    ".appledouble": _MAC, "__macosx": _MAC,
    "$recycle.bin": _SYSTEM, "recycler": _SYSTEM, "recycled": _SYSTEM, ".trashes": _SYSTEM,
    "system volume information": _SYSTEM, "lost+found": _SYSTEM, "found.000": _SYSTEM,
    "temporary items": _SYSTEM, ".trash": _SYSTEM,
    "_thumb": _THUMBNAILS,
    "thumbs": _THUMBNAILS, ".thumbs": _THUMBNAILS, "_thumbs": _THUMBNAILS, "thumb": _THUMBNAILS,
    "thumbnails": _THUMBNAILS, ".thumbnails": _THUMBNAILS, "_thumbnails": _THUMBNAILS,
    "thumbnail": _THUMBNAILS, ".thumb": _THUMBNAILS, ".thumbcache": _THUMBNAILS,
    ".picasaoriginals": "originals that Picasa kept", "ipod photo cache": _THUMBNAILS,
}  # fmt: skip
_FOLDER_PATTERNS = (
    (re.compile(r"\.trash-\d+"), _SYSTEM),
    (re.compile(r"found\.\d{3}"), _SYSTEM),
    (re.compile(r".*\.lrdata"), _THUMBNAILS),
)
_NAS_FILE = re.compile(r"SYNO(PHOTO|FILE|VIDEO)_THUMB.*|.*@Syno(EAStream|Resource)", re.IGNORECASE)
_THUMBNAIL = re.compile(
    r"(?:tn_|thumb[-_ ]|th_)(?P<after>.+)|(?P<before>.+?)[-_. ](?:thumb(?:nail)?s?|tn)",
    re.IGNORECASE,
)
APPLE_DOUBLE = "._"


def folder_reason(name: str) -> str:
    """Return the reason why a folder of this name holds no fields, "" where nothing tells."""
    lowered = name.lower()
    if lowered in _FOLDERS:
        return _FOLDERS[lowered]
    return next((what for like, what in _FOLDER_PATTERNS if like.fullmatch(lowered)), "")


def file_reason(stem: str, stems_beside: Container[str]) -> str:
    """Return the reason why an image file is no field by its name, "" where nothing tells.

    Args:
        stem: its name without suffix.
        stems_beside: stems of the images in its folder, in lower case.
    """
    if _NAS_FILE.fullmatch(stem):
        return "a thumbnail of a NAS"
    found = _THUMBNAIL.fullmatch(stem)
    original = found and (found["after"] or found["before"])
    if original and original.lower() in stems_beside:
        return f"a thumbnail of {original}, by its name"
    return ""
