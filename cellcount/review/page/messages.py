"""Strict parsing of request bodies: anything unexpected is refused with a sentence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

BATCH = re.compile(r"[0-9a-f]{16}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LONGEST_NAME, _LONGEST_TEXT = 100, 2000


class RefusedError(Exception):
    """A request that is refused.

    Attributes:
        status: of the answer.
        facts: further content of the answer.
    """

    def __init__(self, message: str, status: int = 400, **facts: object) -> None:
        super().__init__(message)
        self.status = status
        self.facts = facts


def parsed(body: bytes) -> dict[str, Any]:
    """Parse the body as a JSON object.

    Raises:
        RefusedError: it is no JSON object, or holds numbers that are none.
    """
    try:
        read = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RefusedError("the body is no JSON") from None
    if not isinstance(read, dict):
        raise RefusedError("the body is JSON, but no object")
    return read


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def text_of(said: Mapping[str, Any], name: str, *, longest: int = _LONGEST_TEXT) -> str:
    """A text without control characters; "" where there is none.

    Raises:
        RefusedError: it is something else, or too long.
    """
    value = said.get(name, "")
    if not isinstance(value, str) or len(value) > longest or _CONTROL.search(value):
        raise RefusedError(f"{name} must be a text of at most {longest} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RefusedError(f"{name} must be valid Unicode") from None
    return value.strip()


def person_of(said: Mapping[str, Any], name: str) -> str:
    """A person's name on one line.

    Raises:
        RefusedError: there is none, or it is too long.
    """
    who = " ".join(text_of(said, name, longest=_LONGEST_NAME).split())
    if not who:
        raise RefusedError("a name or initials are expected")
    return who


def whole_of(said: Mapping[str, Any], name: str) -> int:
    """A whole number from 0.

    Raises:
        RefusedError: it is something else.
    """
    value = said.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise RefusedError(f"{name} must be a whole number from 0")
    return value


def batch_of(said: Mapping[str, Any]) -> str:
    """Read the id that the page gave to a change, so that a repeated request changes nothing.

    Raises:
        RefusedError: there is none.
    """
    value = said.get("batch")
    if not isinstance(value, str) or not BATCH.fullmatch(value):
        raise RefusedError("batch must be 16 hexadecimal digits")
    return value


def list_of(said: Mapping[str, Any], name: str, *, most: int) -> list[dict[str, Any]]:
    """A list of objects with at least one.

    Raises:
        RefusedError: it is something else, or too long.
    """
    value = said.get(name)
    if not isinstance(value, list) or not 0 < len(value) <= most:
        raise RefusedError(f"{name} must be a list of 1 to {most} objects")
    if not all(isinstance(one, dict) for one in value):
        raise RefusedError(f"{name} must be a list of objects")
    return value


def box_of(said: Mapping[str, Any], name: str, size_px: tuple[int, int]) -> tuple[float, ...]:
    """A box of at least 2 px, clipped to the image and rounded as results are.

    Raises:
        RefusedError: it is something else.
    """
    value = said.get(name)
    if not isinstance(value, list) or len(value) != 4:
        raise RefusedError(f"{name} must be four numbers")
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
        raise RefusedError(f"{name} must be four numbers")
    if not all(math.isfinite(v) and abs(v) < 1e9 for v in value):
        raise RefusedError(f"{name} must be four numbers within the image")
    width, height = size_px
    clipped = [
        round(min(max(float(v), 0.0), float(most)), 2)
        for v, most in zip(value, (width, height, width, height), strict=True)
    ]
    if clipped[2] - clipped[0] < 2 or clipped[3] - clipped[1] < 2:
        raise RefusedError(f"{name} must be at least 2 px wide and high, within the image")
    return tuple(clipped)
