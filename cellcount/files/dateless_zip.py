"""Zip archives without dates: equal content gives equal bytes."""

from __future__ import annotations

import datetime
import zipfile
from typing import Any

#: The oldest time that a zip archive can state.
FIXED_TIME = datetime.datetime(1980, 1, 1)


class DatelessZip(zipfile.ZipFile):
    """A zip archive that is written; every entry has the same time and the same rights."""

    def writestr(self, zinfo_or_arcname: Any, data: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Add an entry."""
        super().writestr(_entry(zinfo_or_arcname), data)

    def write(self, filename: Any, arcname: Any = None, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Add a file, which is streamed, not read whole."""
        entry = self.open(_entry(arcname or filename), "w", force_zip64=True)
        with open(filename, "rb") as source, entry as to:
            while chunk := source.read(1 << 20):
                to.write(chunk)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, FIXED_TIME.timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    entry.create_system = 3  # Unix, wherever it is written
    return entry
