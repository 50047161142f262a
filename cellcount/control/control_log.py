"""The log of a control slide: a CSV that is only appended to, with hashes that reveal changes.

The last field of every row is a SHA-256 over the row itself and that of the row before (of the
header, for the first), so a row that is changed, taken out or put in breaks the chain from there
on. Rows taken off the end leave no trace in the file: note the last hash elsewhere, as
``control run`` prints it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cellcount.errors import OutputError
from cellcount.files.digest import sha256_of_text
from cellcount.files.locks import locked
from cellcount.outputs.columns import Column, Value

CONTROL_COLUMNS = (
    Column("run", "int", "", "number of the row, from 1"),
    Column("time", "text", "", "when, in UTC"),
    Column("slide", "text", "", "the INPUT, by its last name"),
    Column("result", "text", "", "`pass` or `fail`", choices=("pass", "fail")),
    Column("reasons", "text", "", "why it failed, or what to mind"),
    Column("known", "int", "cells", "white cells known to be there"),
    Column("located", "int", "cells", "those of them that were located"),
    Column("located_percent", "float", "%", "share of them", ".2f"),
    Column("located_low", "float", "%", "its lower 95 % limit (Wilson)", ".2f"),
    Column("located_high", "float", "%", "its upper 95 % limit", ".2f"),
    Column("typed", "int", "cells", "located cells whose type is known and was asked for"),
    Column("agreed", "int", "cells", "those of them that were given it"),
    Column("agreed_percent", "float", "%", "share of them; empty where none was compared", ".2f"),
    Column("agreed_low", "float", "%", "its lower 95 % limit (Wilson)", ".2f"),
    Column("agreed_high", "float", "%", "its upper 95 % limit", ".2f"),
    Column("fields", "int", "", "fields of the slide"),
    Column("fields_done", "int", "", "those that were analysed"),
    Column("counts", "text", "", "cells of each class: `rbc=233; wbc=14`"),
    Column("types", "text", "", "cells of each type, likewise; empty without a classifier"),
    Column(
        "drift",
        "text",
        "",
        "Westgard's rules that a value broke against earlier runs: `located_percent 1_3s -4.2 SD`",
    ),
    Column("baseline", "int", "", "run from which on earlier runs are compared with"),
    Column("program", "text", "", "version of cellcount"),
    Column("detector", "text", "", "name, version and SHA-256 of its weights"),
    Column("classifier", "text", "", "likewise; `none` where none ran"),
    Column("device", "text", "", "engine, device and precision"),
    Column("settings_sha256", "text", "", "of all that decides the numbers"),
    Column("images_sha256", "text", "", "of the names and contents of the image files"),
    Column("expected_sha256", "text", "", "of the list of known cells"),
    Column("row_sha256", "text", "", "of this row and that of the row before"),
)
"""control.csv, one row per run of the control slide."""

_HEADER = ",".join(column.name for column in CONTROL_COLUMNS)
_WAIT_S = 60.0  # another run appends within a moment
_ADVICE = "keep it as it is for the inquiry, and begin another one with --log"


@dataclass(frozen=True, slots=True)
class ControlLog:
    """Control log as it was read, with its rows and their chain.

    Attributes:
        rows: column → value, the oldest first, up to where the chain breaks.
        last_sha256: what the next row continues.
        broken: where and how the chain breaks, "" where it is sound.
    """

    rows: tuple[Mapping[str, Value], ...]
    last_sha256: str
    broken: str = ""


def read_control_log(path: Path) -> ControlLog:
    """A log with its chain verified; an empty one where there is no such file.

    Raises:
        OutputError: it cannot be read, or is no log of controls.
    """
    try:
        return _parsed(path, path.read_bytes())
    except FileNotFoundError:
        return ControlLog((), sha256_of_text(_HEADER))
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def append_to_log(path: Path, row: Mapping[str, Value], after: str) -> str:
    """Add one row at the end, safe on disk on return; nothing before it is written again.

    Args:
        path: the log; it is begun where it is not there.
        row: all columns but the hash.
        after: ``last_sha256`` of the log that the row was made for.

    Returns:
        The row's hash.

    Raises:
        OutputError: it cannot be written, its chain is broken, or another run was added meanwhile.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked([path], _WAIT_S), path.open("a+b") as file:
            file.seek(0)
            before = file.read()
            log = _parsed(path, before) if before else ControlLog((), sha256_of_text(_HEADER))
            check_sound(path, log)
            if log.last_sha256 != after:
                raise OutputError(f"another run was added to {path} meanwhile; run this one again")
            body = ",".join(c.write(_one_line(row.get(c.name))) for c in CONTROL_COLUMNS[:-1])
            digest = sha256_of_text(f"{log.last_sha256}\n{body}")
            text = f"{body},{digest}\n" if before else f"{_HEADER}\n{body},{digest}\n"
            file.write(text.encode())  # in append mode this goes to the end, wherever that is
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return digest


def _one_line(value: Value) -> Value:
    return " ".join(value.split()) if isinstance(value, str) else value


def check_sound(path: Path, log: ControlLog) -> None:
    """Refuse a log whose chain is broken.

    Raises:
        OutputError: it is.
    """
    if log.broken:
        raise OutputError(f"{path}: {log.broken}; {_ADVICE}")


def _parsed(path: Path, content: bytes) -> ControlLog:
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise OutputError(f"{path} is no log of controls: it is not UTF-8 text") from error
    if lines[0] != _HEADER:
        raise OutputError(
            f"{path} is no log of controls, or another program has saved it: its first line is "
            f"{lines[0][:80]!r}; {_ADVICE}"
        )
    last, rows = sha256_of_text(_HEADER), list[Mapping[str, Value]]()
    complete = lines[-1] == ""
    if complete:
        lines.pop()
    for number, line in enumerate(lines[1:], 1):
        body, _, digest = line.rpartition(",")
        if digest != sha256_of_text(f"{last}\n{body}"):
            cut_off = not complete and number == len(lines) - 1
            how = "is cut off" if cut_off else "does not continue the row before it"
            broken = f"run {number} {how}: the log was changed after it was written"
            return ControlLog(tuple(rows), last, broken)
        rows.append(_row(path, number, line))
        last = digest
    if not complete:
        return ControlLog(tuple(rows), last, "its last line has no end: something was taken off")
    return ControlLog(tuple(rows), last)


def _row(path: Path, number: int, line: str) -> Mapping[str, Value]:
    try:
        fields = next(csv.reader([line], strict=True))
        return {c.name: c.read(f) for c, f in zip(CONTROL_COLUMNS, fields, strict=True)}
    except (ValueError, csv.Error) as error:
        raise OutputError(f"{path}: run {number} cannot be read: {error}; {_ADVICE}") from error
