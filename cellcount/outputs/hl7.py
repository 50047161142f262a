"""Differentials as HL7 v2.5.1 messages, ORU^R01, for systems that know no FHIR.

A message per specimen, one after the other in a file: an OBX per row with its limits in an NTE, the
specimen in an SPM at the end. Results are preliminary until people have signed the slides that they
rest on; then the OBR says who and when.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cellcount.files.atomic import atomic_write
from cellcount.outputs.laboratory_results import (
    METHOD,
    LaboratoryResult,
    ResultRow,
    ResultStatus,
    absent_because,
    laboratory_results,
    stated,
)
from cellcount.outputs.run_content import RunContent

OWN_SYSTEM = "99CELLCOUNT"
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_SPECIAL = re.compile(r"[\\|^&~]")
_LINE_END = re.compile(r"\s*[\r\n]+\s*")
#: Status of a result → HL7's code for it, of the whole (OBR-25) and of a row (OBX-11).
_STATUSES: dict[ResultStatus, str] = {"preliminary": "P", "final": "F", "amended": "C"}
_NO_RESULT = "X"


def write_hl7(path: Path, content: RunContent) -> None:
    """Write the messages.

    Raises:
        OutputError: the file cannot be written, or a specimen has several accession numbers.
    """
    counting = content.facts.counting
    version = content.facts.versions.get("cellcount", "")
    results = laboratory_results(
        counting.fields(content.results()), counting, content.facts.approvals
    )
    messages = [hl7_message(result, version, content.changed) for result in results]
    with atomic_write(path) as file:
        file.write("".join(messages).encode())


def hl7_message(result: LaboratoryResult, version: str, time: str) -> str:
    """The message of a specimen, each segment ended by a carriage return.

    Args:
        result: of the specimen.
        version: of cellcount, "" where it is not known.
        time: of the message, as ``20260131120000+0000``.
    """
    body = list(_body(result))
    digest = hashlib.sha256("\r".join([time, *body]).encode("utf-8", "surrogateescape"))
    sender = _joined("cellcount", version) if version else "cellcount"
    header = _segment(
        "MSH|^~\\&", sender, "", "", "", time, "", "ORU^R01^ORU_R01", digest.hexdigest()[:20], "P",
        "2.5.1", "", "", "", "", "", "UNICODE UTF-8",
    )  # fmt: skip
    return "".join(f"{segment}\r" for segment in (header, *body))


def _body(result: LaboratoryResult) -> Iterator[str]:
    panel = _joined(result.panel, result.title, OWN_SYSTEM)
    accession = _escaped(result.accession or result.specimen)
    signed, status = result.sign_off, _STATUSES[result.sign_off.status]
    gap, later = [""] * 17, [""] * 6
    last = f"&{_escaped(signed.people[-1])}" if signed.people else ""
    yield _segment(
        "OBR", "1", "", accession, panel, *gap, _time(signed.at), "", "HM", status, *later, last
    )
    yield from _notes(result.notes)
    for number, row in enumerate(result.rows, 1):
        yield _observation(number, row, status)
        yield from _notes(stated(row, result.limits))
    yield _segment("SPM", "1", _escaped(result.specimen), "", _joined("", result.specimen_type))


def _time(at: str) -> str:
    """A time as HL7 writes it; "" where there is none."""
    return datetime.fromisoformat(at).strftime("%Y%m%d%H%M%S%z") if at else ""


def _observation(number: int, row: ResultRow, status: str) -> str:
    code = _joined(row.id, row.name, OWN_SYSTEM)
    if row.loinc is not None:
        code = f"{_joined(row.loinc.code, row.loinc.name, 'LN')}^{code}"
    unit = _joined(row.ucum, row.unit, "UCUM")
    if row.value is None:
        told = _joined("", absent_because(row))
        return _segment(
            "OBX", str(number), "CWE", code, "", told, "", "", "", "", "", _NO_RESULT,
            "", "", "", "", "", _joined("", METHOD),
        )  # fmt: skip
    return _segment(
        "OBX", str(number), "NM", code, "", f"{row.value:.10g}", unit, "", "", "", "",
        status, "", "", "", "", "", _joined("", METHOD),
    )  # fmt: skip


def _notes(texts: Sequence[str]) -> Iterator[str]:
    for number, text in enumerate(texts, 1):
        yield _segment("NTE", str(number), "L", _escaped(text))


def _segment(*fields: str) -> str:
    return "|".join(fields).rstrip("|")


def _joined(*components: str) -> str:
    return "^".join(map(_escaped, components))


def _escaped(text: str) -> str:
    """Text without a character that would end a field or a segment."""
    one_line = _LINE_END.sub(" ", text)
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], one_line)
