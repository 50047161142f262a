"""Comparison of two folders of outputs, byte by byte after masking what differs between runs."""

from __future__ import annotations

import csv
import difflib
import fnmatch
import hashlib
import io
import json
import re
import sqlite3
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DIFF_LINES = 20
_LINE_CHARACTERS = 240
_JSON_LINE = 2_000


@dataclass(frozen=True, slots=True)
class Mask:
    """A pattern of text that two runs of the same program do not share.

    Attributes:
        pattern: regular expression; its matches are replaced.
        replacement: what replaces them; may refer to groups.
        reason: why they differ.
    """

    pattern: str
    replacement: str
    reason: str

    def apply(self, text: str) -> str:
        """The text with all matches replaced."""
        return re.sub(self.pattern, self.replacement, text)


_NUMBER = r"(?<![\d.])\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
#: Folders of `tempfile`, wherever this machine has them.
_TEMPORARY = re.escape(f"{tempfile.gettempdir()}/{tempfile.gettempprefix()}") + r"\w+"
MASKS = (
    Mask(
        r"(?m)^[\d,]+ of [\d,]+ images(?:, [\d,]+ cells, | and \d+% of the next, ).* left\n",
        "",
        "progress, told every fifteen seconds",
    ),
    Mask(
        r"\b((?:last hash is|as run \d+, hash) )[0-9a-f]{64}",
        r"\1<chain>",
        "last hash of a control log, whose rows contain times",
    ),
    Mask(
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?UTC|Z|[+-]\d\d:?\d\d)?",
        "<time>",
        "time of the run in run.json, reports, review history, control logs and journals",
    ),
    Mask(r"\b20\d\d-\d\d-\d\d\b", "<date>", "date of the run in cards and reports"),
    Mask(
        rf'("(?:[a-z_]*seconds|[a-z_]*_s|[a-z_]*per_second|ms_per_\w+|\w+_ms)": ){_NUMBER}',
        r"\1<duration>",
        "durations and rates in JSON",
    ),
    Mask(r'("timings_s": )\{[^}]*\}', r"\1<durations>", "stages' durations in run.json"),
    Mask(
        rf"\b(seconds:?\s+){_NUMBER}",
        r"\1<duration>",
        "duration of an epoch in messages, cards and checkpoints of trainings",
    ),
    Mask(
        rf"{_NUMBER} ?(?:s|ms|min|h|seconds?|minutes?|images/s|cells/s|ms/cell)(?![\w/])",
        "<duration>",
        "durations and rates in messages and reports",
    ),
    Mask(r'("cellcount": )"[^"]*"', r'\1"<version>"', "version in run.json"),
    Mask(r"\bcellcount(,? version|-)? ?\d+\.\d+(\.\d+)?\w*", "cellcount <version>", "version"),
    Mask(
        rf"{_NUMBER} ?(?:[KMG]i?B)\b(?= (?:free|of memory|memory|left|RAM))",
        "<memory>",
        "free memory and disk space, which dry runs and doctor tell",
    ),
    Mask(r"\b(pid|process) \d+", r"\1 <process>", "process number"),
    Mask(r"0x[0-9a-f]{6,}", "<address>", "address of an object in memory"),
    Mask(_TEMPORARY, "<temporary>", "name of a temporary folder"),
)
#: Columns of CSV files that hold durations.
TIMED_COLUMNS = frozenset({"seconds", "training_s", "ms_per_cell"})
#: Replaced in files whose path matches: (pattern of the path, mask).
FILE_MASKS: tuple[tuple[str, Mask], ...] = (
    (
        "control*.csv",
        Mask(r",[0-9a-f]{64}$", ",<chain>", "hash of a row, which contains its time"),
    ),
)


def masked(text: str, path: str = "", hashes: Mapping[str, str] | None = None) -> str:
    """The text with everything replaced that two equal runs do not share.

    Args:
        text: an output.
        path: where it stood, relative to the case; decides on the masks of single files.
        hashes: SHA-256 to path of the files of the same side: a hash of a file that contains a time
            differs, and that the file is the same is compared by itself.
    """
    if hashes:
        text = re.sub(r"[0-9a-f]{64}", lambda m: _file_of(m[0], hashes), text)
    if path.endswith(".csv"):
        text = _mask_columns(text)
    for mask in MASKS:
        text = mask.apply(text)
    for pattern, mask in FILE_MASKS:
        if fnmatch.fnmatch(Path(path).name, pattern):
            text = "\n".join(mask.apply(line) for line in text.split("\n"))
    return text


def _file_of(digest: str, hashes: Mapping[str, str]) -> str:
    return f"<sha256 of {hashes[digest]}>" if digest in hashes else digest


def _mask_columns(text: str) -> str:
    """CSV text whose timed columns are masked; other text as it is."""
    head = text.partition("\n")[0].rstrip("\r").split(",")
    timed = [number for number, name in enumerate(head) if name in TIMED_COLUMNS]
    if not timed:
        return text
    masked_text = io.StringIO(newline="")
    writer = csv.writer(masked_text, lineterminator="\n")
    for row in csv.reader(io.StringIO(text, newline="")):
        for number in timed:
            if row[number] not in ("", head[number]):
                row[number] = "<duration>"
        writer.writerow(row)
    return masked_text.getvalue()


def text_of(path: Path) -> str | None:
    """The content as text that tells all of it, None for a file to be compared by its bytes."""
    suffix = path.suffix.lower()
    if suffix == ".sqlite":
        return _sqlite_text(path)
    if suffix == ".safetensors":
        return _safetensors_text(path)
    if suffix in (".checkpoint", ".pt", ".pth"):
        return _checkpoint_text(path)
    if suffix == ".parquet":
        return _parquet_text(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _sqlite_text(path: Path) -> str:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        pragmas = [
            f"{name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]}"
            for name in ("application_id", "user_version")
        ]
        tables = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        lines = [*pragmas, *(str(sql) for _, sql in tables)]
        for name, sql in tables:
            if sql is None or not sql.upper().startswith("CREATE TABLE"):
                continue
            rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()
            shown = [[_blob(v) if isinstance(v, bytes) else str(v) for v in row] for row in rows]
            for row in shown:  # that one column is the hash of another one is all that it says
                known = {hashlib.sha256(v.encode()).hexdigest(): n for n, v in enumerate(row)}
                row[:] = [f"<sha256 of column {known[v]}>" if v in known else v for v in row]
            # Sorted: threads that read images finish in any order.
            lines += sorted(f"{name}: {' | '.join(row)}" for row in shown)
    finally:
        connection.close()
    return "\n".join(lines)


def _blob(value: bytes) -> str:
    if len(value) < 200 and value.isascii():
        return value.decode()
    return f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}"


def _safetensors_text(path: Path) -> str | None:
    """Header and a hash per tensor; None for a file that is damaged."""
    content = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
    except (struct.error, ValueError):
        return None
    lines = []
    for name, entry in header.items():
        if name == "__metadata__":
            for key, value in entry.items():
                lines.append(f"metadata {key}:")
                lines += _indented(value).split("\n")
            continue
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        digest = hashlib.sha256(content[start:end]).hexdigest()
        lines.append(f"{name}: {entry['dtype']} {entry['shape']} {digest}")
    return "\n".join(lines)


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except ValueError:
        return text


def _checkpoint_text(path: Path) -> str:
    """One line per value of the nested state that torch saved."""
    import torch

    def lines(name: str, value: object) -> Iterator[str]:
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest = hashlib.sha256(plain.numpy().tobytes()).hexdigest()
            yield f"{name}: {value.dtype} {tuple(value.shape)} {digest}"
        elif isinstance(value, dict):
            for key, entry in value.items():
                yield from lines(f"{name}.{key}", entry)
        elif isinstance(value, list | tuple):
            for number, entry in enumerate(value):
                yield from lines(f"{name}.{number}", entry)
        else:
            yield f"{name}: {value!r}"

    return "\n".join(lines("", torch.load(path, map_location="cpu", weights_only=True)))


def _parquet_text(path: Path) -> str:
    """Schema with its metadata, and the rows as CSV."""
    import pyarrow.csv
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    rows = io.BytesIO()
    pyarrow.csv.write_csv(table, rows)
    return f"{table.schema.to_string(truncate_metadata=False)}\n{rows.getvalue().decode()}"


def compare_files(
    before: Path, after: Path, name: str, hashes: Sequence[Mapping[str, str]] = ({}, {})
) -> list[str]:
    """Return the differences of two files as lines of a unified diff; none where they are equal.

    Args:
        before: the expected file.
        after: the file to judge.
        name: their path relative to the case.
        hashes: for each side SHA-256 to path of its files.
    """
    if before.read_bytes() == after.read_bytes():
        return []
    old, new = text_of(before), text_of(after)
    if old is None or new is None:
        sizes = " and ".join(f"{path.stat().st_size:,}" for path in (before, after))
        return [f"{name}: other bytes ({sizes} bytes)"]
    pair = [masked(text, name, known) for text, known in zip((old, new), hashes, strict=True)]
    return compare_texts(pair[0], pair[1], name)


def compare_texts(old: str, new: str, name: str) -> list[str]:
    """The first lines of the unified diff of two texts; none where they are the same."""
    if old == new:
        return []
    before, after = _lines(old), _lines(new)
    if before == after:
        return [f"{name}: line ends or the layout of JSON differ"]
    diff = difflib.unified_diff(before, after, f"before/{name}", f"after/{name}", lineterm="", n=1)
    shown = [line for _, line in zip(range(DIFF_LINES + 1), diff, strict=False)]
    if len(shown) > DIFF_LINES:
        shown[DIFF_LINES:] = ["..."]
    return _cut(shown)


def _lines(text: str) -> list[str]:
    """Lines of a text; a document on one long line is indented first."""
    if len(text) > _JSON_LINE and text.count("\n") <= 1:
        text = _indented(text)
    return text.splitlines()


def _cut(lines: Sequence[str]) -> list[str]:
    """Shorten long lines to the part where a removed line and the added one after it part ways."""
    shown = []
    for number, line in enumerate(lines):
        start = 0
        if len(line) > _LINE_CHARACTERS and line[0] in "+-":
            step = 1 if line[0] == "-" else -1
            other = lines[number + step] if 0 <= number + step < len(lines) else ""
            same = next(
                (i for i, (a, b) in enumerate(zip(line[1:], other[1:], strict=False)) if a != b), 0
            )
            start = max(0, same - 40)
        part = line[start + 1 : start + _LINE_CHARACTERS]
        before = "…" if start else ""
        rest = "…" if len(line) > start + _LINE_CHARACTERS else ""
        shown.append(f"{line[:1]}{before}{part}{rest}")
    return shown


def compare_folders(before: Path, after: Path, ignore: Sequence[str] = ()) -> dict[str, list[str]]:
    """Compare all files of two folders.

    Args:
        before: the expected outputs.
        after: the outputs to judge.
        ignore: patterns of relative paths that are not compared.

    Returns:
        Relative path to what differs, for the files that do.
    """
    found: dict[str, list[str]] = {}
    sides = [_files(folder) for folder in (before, after)]
    hashes = [_hashes(folder, names) for folder, names in zip((before, after), sides, strict=True)]
    for name in sorted({*sides[0], *sides[1]}):
        if any(fnmatch.fnmatch(name, pattern) for pattern in ignore):
            continue
        if name not in sides[1]:
            found[name] = [f"{name}: written before, not any more"]
        elif name not in sides[0]:
            found[name] = [f"{name}: not written before"]
        elif lines := compare_files(before / name, after / name, name, hashes):
            found[name] = lines
    return found


def _hashes(folder: Path, names: set[str]) -> dict[str, str]:
    """SHA-256 to path; of files with the same content the last path in order."""
    return {hashlib.sha256((folder / n).read_bytes()).hexdigest(): n for n in sorted(names)}


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
