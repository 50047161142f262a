"""Names and durations as a person reads them on a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def shown(text: object) -> str:
    """Text on one line: a file name may hold line ends, or codes that command a terminal."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def speed(per_second: float) -> str:
    """2.00 images/s; of slides, 26 min an image."""
    if 0 < per_second < 0.1:
        return f"{duration(1 / per_second)} an image"
    return f"{per_second:.2f} images/s"


def number_of(count: int, name: str, plural: str = "") -> str:
    """``1 image``, ``2,000 images``."""
    return f"{count:,} {name if count == 1 else plural or name + 's'}"
