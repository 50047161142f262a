"""Names and durations as a person reads them on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def shown(text: object) -> str:
    """Put text on one line, without the line ends and terminal codes that a file name may hold."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def duration(seconds: float) -> str:
    """Write seconds as 45 s, 12 min, 3 h 20 min."""
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
    """Write a number with its noun: ``1 image``, ``2,000 images``."""
    return f"{count:,} {name if count == 1 else plural or name + 's'}"


def and_more(count: int, shown: int) -> str:
    """`` and 3 more`` where ``shown`` of ``count`` things are named, "" where all are."""
    return f" and {count - shown:,} more" if count > shown else ""


def listed(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are: ``a, b and 3 more``."""
    return ", ".join(names[:most]) + and_more(len(names), most)


_FORMULA_STARTS = tuple("=+-@'")  # line ends and tabs are escaped
#: Two hexadecimal digits of a control character, or of the backslash.
_HEX = "[01][0-9a-f]|7f|[89][0-9a-f]|5c"
_NEEDS_ESCAPE = re.compile(
    rf"[\ud800-\udfff\x00-\x1f\x7f-\x9f]|\\(?=ud[89a-f][0-9a-f]{{2}}|x(?:{_HEX}))"
)
_ESCAPED = re.compile(rf"\\u(d[89a-f][0-9a-f]{{2}})|\\x({_HEX})")


def escape_text(text: str) -> str:
    """Escape text: no spreadsheet runs it as a formula, it is one line and valid UTF-8.

    An apostrophe stands before a leading ``= + - @ '``; see `encodable`.
    """
    escaped = encodable(text)
    return f"'{escaped}" if escaped.startswith(_FORMULA_STARTS) else escaped


def encodable(text: str) -> str:
    """Escape invalid UTF-8 and control characters reversibly.

    Bytes that are no UTF-8 as ``\\udc80`` … ``\\udcff``; control characters, which could steer the
    terminal that shows a table, as ``\\x1b`` and the like.
    """
    return _NEEDS_ESCAPE.sub(lambda match: _escape(match[0]), text)


def unescape_text(text: str) -> str:
    """Return the text that `escape_text` was given."""
    text = text.removeprefix("'") if text[1:].startswith(_FORMULA_STARTS) else text
    return _ESCAPED.sub(lambda match: chr(int(match[1] or match[2], 16)), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
