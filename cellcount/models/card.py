"""Base of both cards: JSON to dataclasses, every key, type and range checked.

Shapes: none; plain data.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar

from cellcount.core.records import CellClass
from cellcount.errors import WeightsError
from cellcount.models.json_types import misfits

SCHEMA = 1
MAX_CARD_BYTES = 1_000_000
Kind = TypeVar("Kind")
Rgb = tuple[float, float, float]


class JsonCard:
    """Base of the dataclasses that a weight file carries as one JSON document.

    Class attributes:
        parts: field → dataclass of the parts that are objects of their own.
        listed: field that lists classes or types of cells, and what one of them is called.
    """

    __slots__ = ()
    parts: ClassVar[Mapping[str, type]]
    listed: ClassVar[tuple[str, str]]

    def to_json(self) -> str:
        """Write the card as the text that ``from_json`` reads."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]  # cards are dataclasses
        return json.dumps(values, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse and check a card.

        Raises:
            WeightsError: not JSON, unknown or missing keys, wrong types or values.
        """
        raw = read_object(text)
        for key, kind in cls.parts.items():
            raw[key] = build(kind, raw.get(key, {}), f"card's {key}")
        plural, singular = cls.listed
        if isinstance(raw.get(plural), list):
            raw[plural] = tuple(build(CellClass, c, f"card's {singular}") for c in raw[plural])
        return build(cls, raw)


def read_object(text: str) -> dict[str, Any]:
    """The JSON object that a card's text is.

    Raises:
        WeightsError: too long, not JSON, or no object.
    """
    if len(text) > MAX_CARD_BYTES:
        raise WeightsError(f"card has {len(text)} bytes, the limit is {MAX_CARD_BYTES}")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"card is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise WeightsError(f"card must be a JSON object, got {type(raw).__name__}")
    return raw


def build(kind: type[Kind], raw: object, what: str = "card") -> Kind:
    """``kind`` from a JSON object, every key and type checked; ``what`` it is, for messages."""
    if not isinstance(raw, Mapping):
        raise WeightsError(f"{what} must be a JSON object, got {type(raw).__name__}")
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = set(raw) - set(fields)
    if unknown:
        raise WeightsError(f"{what} has unknown keys {sorted(unknown)}; known are {list(fields)}")
    missing = [
        name
        for name, f in fields.items()
        if f.default is f.default_factory is dataclasses.MISSING and name not in raw
    ]
    if missing:
        raise WeightsError(f"{what} lacks {', '.join(missing)}")
    values = {key: _tuples(value) for key, value in raw.items()}
    if wrong := misfits(kind, values):
        raise WeightsError(f"{what}: {'; '.join(wrong)}")
    return kind(**values)


def _tuples(value: Any) -> Any:  # noqa: ANN401 -- JSON values are of any type
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def check_range(part: object, *bounds: tuple[str, float, float]) -> None:
    """Raises WeightsError where an attribute of ``part`` lies outside its bounds."""
    for name, low, high in bounds:
        if not low <= getattr(part, name) <= high:
            raise WeightsError(f"{name} is {getattr(part, name)}, expected {low:g} to {high:g}")


def check_statistics(mean: Rgb, std: Rgb) -> None:
    """Raises WeightsError where RGB statistics are not for values in 0 to 1."""
    if not all(0 < s < 100 for s in std):
        raise WeightsError(f"std is {std}, expected numbers above 0, for values in 0 to 1")
    if not all(abs(m) < 100 for m in mean):
        raise WeightsError(f"mean is {mean}, expected numbers for values in 0 to 1")


def check_printable(*texts: str, classes: Iterable[CellClass]) -> None:
    """Refuse texts that stand in tables and on terminals if they could command one."""
    named = [text for c in classes for text in (c.id, c.name, c.plural, c.abbreviation, c.lineage)]
    wrong = next((text for text in (*texts, *named) if not text.isprintable()), None)
    if wrong is not None:
        raise WeightsError(f"card says {wrong!r}, expected text without control characters")


def check_identity(name: str, license_: str, schema: int) -> None:
    """Raises WeightsError where a card has an unknown schema or no licence."""
    if schema != SCHEMA:
        raise WeightsError(
            f"card schema is {schema}, this cellcount reads {SCHEMA}; "
            "use the cellcount version that wrote the weights, or a newer one"
        )
    if not license_:
        raise WeightsError(f"card of {name!r} names no license; weights need one")
