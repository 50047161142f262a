"""Text of tables, made safe for spreadsheets and for UTF-8, and back again."""

from __future__ import annotations

import re

_FORMULA_STARTS = tuple("=+-@'\t\r\n")
_NEEDS_ESCAPE = re.compile(r"[\ud800-\udfff]|\\(?=ud[89a-f][0-9a-f]{2}|x5c)")
_ESCAPED = re.compile(r"\\u(d[89a-f][0-9a-f]{2})|\\x5c")


def escape_text(text: str) -> str:
    """Text that no spreadsheet runs as a formula, and that can be written as UTF-8.

    An apostrophe stands before a leading ``= + - @ '`` tab or line end; see `encodable`.
    """
    escaped = encodable(text)
    return f"'{escaped}" if escaped.startswith(_FORMULA_STARTS) else escaped


def encodable(text: str) -> str:
    """Bytes of a file name that are no UTF-8 as ``\\udc80`` … ``\\udcff``, to be found again."""
    return _NEEDS_ESCAPE.sub(
        lambda match: r"\x5c" if match[0] == "\\" else f"\\u{ord(match[0]):04x}", text
    )


def unescape_text(text: str) -> str:
    """What `escape_text` was given."""
    text = text.removeprefix("'") if text[1:].startswith(_FORMULA_STARTS) else text
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else "\\", text)
