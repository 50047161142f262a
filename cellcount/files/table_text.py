"""Text of tables, made safe for spreadsheets, terminals and UTF-8, and back again."""

from __future__ import annotations

import re

_FORMULA_STARTS = tuple("=+-@'")  # line ends and tabs are escaped
#: Two hexadecimal digits of a control character, or of the backslash.
_HEX = "[01][0-9a-f]|7f|[89][0-9a-f]|5c"
_NEEDS_ESCAPE = re.compile(
    rf"[\ud800-\udfff\x00-\x1f\x7f-\x9f]|\\(?=ud[89a-f][0-9a-f]{{2}}|x(?:{_HEX}))"
)
_ESCAPED = re.compile(rf"\\u(d[89a-f][0-9a-f]{{2}})|\\x({_HEX})")


def escape_text(text: str) -> str:
    """Text that no spreadsheet runs as a formula, on one line, and that is valid UTF-8.

    An apostrophe stands before a leading ``= + - @ '``; see `encodable`.
    """
    escaped = encodable(text)
    return f"'{escaped}" if escaped.startswith(_FORMULA_STARTS) else escaped


def encodable(text: str) -> str:
    """What a file name may hold and no text should, in a form from which it is found again.

    Bytes that are no UTF-8 as ``\\udc80`` … ``\\udcff``; control characters, which could steer the
    terminal that shows a table, as ``\\x1b`` and the like.
    """
    return _NEEDS_ESCAPE.sub(lambda match: _escape(match[0]), text)


def unescape_text(text: str) -> str:
    """What `escape_text` was given."""
    text = text.removeprefix("'") if text[1:].startswith(_FORMULA_STARTS) else text
    return _ESCAPED.sub(lambda match: chr(int(match[1] or match[2], 16)), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
