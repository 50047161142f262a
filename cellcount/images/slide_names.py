"""Slide of a field, by its path and a regular expression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from cellcount.core.records import ImageRef
from cellcount.errors import UsageError
from cellcount.files.text import listed

_SHOWN = 3


def slides_from(pattern: str) -> re.Pattern[str]:
    """The compiled pattern of ``--slide-from``.

    Raises:
        UsageError: it is no regular expression, or has no group to take a name from.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--slide-from {pattern!r} is no regular expression: {error}") from error
    names = set(compiled.groupindex)
    if not compiled.groups or (names and "slide" not in names):
        raise UsageError(
            f"--slide-from {pattern!r} does not say which part is the slide; put that part in "
            r"brackets, as in '([A-Z]\d+)_', or name it, as in '(?P<specimen>\d+)/(?P<slide>\w+)_'"
        )
    return compiled


def with_slides(refs: Sequence[ImageRef], pattern: str) -> tuple[ImageRef, ...]:
    """The fields with slides, and specimens where it names them, from their identities.

    The pattern is searched for in ``image``. Its group ``slide``, else its first group, is the
    slide; its group ``specimen`` is the specimen. It goes before the manifest and the folder.

    Raises:
        UsageError: it is no such pattern, or a field does not match it.
    """
    compiled = slides_from(pattern)
    found = [compiled.search(ref.image) for ref in refs]
    which = "slide" if "slide" in compiled.groupindex else 1
    lost = [ref.image for ref, m in zip(refs, found, strict=True) if m is None or not m[which]]
    if lost:
        raise UsageError(
            f"--slide-from {pattern!r} finds no slide in {listed(lost, _SHOWN)}; every "
            "image must match, so that none is counted on the wrong slide"
        )
    has_specimen = "specimen" in compiled.groupindex
    return tuple(
        replace(
            ref,
            slide=match[which],
            specimen=(match["specimen"] or "") if has_specimen else ref.specimen,
        )
        for ref, match in zip(refs, found, strict=True)
        if match is not None
    )
