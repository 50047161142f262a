"""Copies of a file: counted once within a slide; across slides they get a caution.

Only files of equal size are looked into: a few thousand bytes of each first, the whole content
where these agree.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from cellcount.core.records import ImageRef, path_order
from cellcount.images.find import PassedOver, Plan

#: The caution of a copy without the names of the others, for outputs that tell none.
NAMELESS_CAUTION = "the same file, byte for byte, is on another slide, too: counted on each"
_SAMPLE_BYTES = 4096
_SHOWN = 3


def without_copies(plan: Plan) -> Plan:
    """Return the plan with equal files once per slide, and a caution where slides share a file.

    The one with the shortest name is kept, so that ``field.png`` stays when ``field (1).png`` is
    added.
    """
    fields: dict[Path, list[ImageRef]] = defaultdict(list)
    for ref in plan.refs:
        fields[ref.path].append(ref)
    cautions: dict[Path, str] = {}
    passed_over: dict[Path, str] = {}
    for equal in _equal_files(list(fields)):
        kept: dict[tuple[str, str], Path] = {}
        for path in sorted(equal, key=lambda path: _preference(fields[path][0])):
            ref = fields[path][0]
            first = kept.setdefault((ref.specimen, ref.slide), path)
            if first is not path:
                passed_over[path] = f"a copy of {first}, byte for byte, counted once"
        if len(kept) > 1:
            images = [fields[path][0].image.partition("#page=")[0] for path in kept.values()]
            for path, own in zip(kept.values(), images, strict=True):
                cautions[path] = _caution([image for image in images if image != own])
    if not cautions and not passed_over:
        return plan
    refs = (ref for ref in plan.refs if ref.path not in passed_over)
    said = [*plan.passed_over, *(PassedOver(path, text) for path, text in passed_over.items())]
    return Plan(
        tuple(replace(r, caution=cautions[r.path]) if r.path in cautions else r for r in refs),
        tuple(sorted(said, key=lambda item: (item.path.parts, item.reason))),
    )


def _preference(ref: ImageRef) -> tuple[int, tuple[tuple[str, ...], int, str]]:
    return len(ref.path.name), path_order(ref.image)


def _caution(others: Sequence[str]) -> str:
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    named = ", ".join(others[:_SHOWN]) + more
    return f"the same file, byte for byte, as {named} of another slide: counted on each"


def _equal_files(paths: Sequence[Path]) -> list[list[Path]]:
    """Return groups of files that are equal byte for byte; an unreadable file equals none."""
    groups = _split([list(paths)], lambda path: os.stat(path).st_size or None)
    groups = _split(groups, _sample)
    return _split(groups, _content)


def _split(
    groups: Iterable[Sequence[Path]], key: Callable[[Path], Hashable | None]
) -> list[list[Path]]:
    """The groups divided by a key, those of one file left out."""
    parts: list[list[Path]] = []
    for group in groups:
        by_key: dict[Hashable, list[Path]] = defaultdict(list)
        for path in group:
            try:
                value = key(path)
            except (OSError, ValueError):
                continue
            if value is not None:
                by_key[value].append(path)
        parts += [part for part in by_key.values() if len(part) > 1]
    return parts


def _sample(path: Path) -> bytes:
    """The middle and the end: headers of a microscope's files are all alike."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(size // 2)
        middle = file.read(_SAMPLE_BYTES)
        file.seek(max(0, size - _SAMPLE_BYTES))
        return middle + file.read(_SAMPLE_BYTES)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
