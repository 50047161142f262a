"""Text from bytes by the encoding that they state: a byte-order mark, or an XML declaration."""

from __future__ import annotations

import codecs
import re

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_XML_WITHOUT_MARK = (
    ("<?xml".encode("utf-16-le"), "utf-16-le"),
    ("<?xml".encode("utf-16-be"), "utf-16-be"),
)
_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})""")
# Programs say gb2312 and mean its successors; latin-1 that holds curly quotes is windows-1252.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "iso8859-1": "cp1252", "ascii": "utf-8"}


def marked_encoding(data: bytes) -> str:
    """The encoding that a byte-order mark at the start tells, else UTF-8."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")


def decoded(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32 with a mark; raises UnicodeError."""
    return data.decode(marked_encoding(data))


def stated_xml_encoding(data: bytes) -> str:
    """The encoding by the mark or the declaration of an XML file, "" where neither says any.

    A declared name that Python does not know counts as none.
    """
    marked = marked_encoding(data)
    if marked != "utf-8":
        return marked
    for start, name in _XML_WITHOUT_MARK:
        if data.startswith(start):
            return name
    match = _DECLARATION.match(data)
    if match is None:
        return ""
    try:
        name = codecs.lookup(match[1].decode()).name
    except LookupError:
        return ""
    # A declaration in single bytes cannot be UTF-16, whatever it says.
    return "" if name.startswith(("utf-16", "utf-32")) else _WIDER.get(name, name)
