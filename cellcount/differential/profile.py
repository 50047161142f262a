"""A profile: the rows, groups and rules by which a kind of smear is counted.

The packaged ones are the TOML files beside this module; a laboratory names its own by path.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from cellcount.core.blood import PLATELET
from cellcount.differential.codes import RowCodes, row_codes
from cellcount.differential.field_quality import MEASURES, THRESHOLDS
from cellcount.differential.rows import ROWS, SAME_CELLS, SMEAR_KINDS, SmearKind
from cellcount.errors import UsageError
from cellcount.files.toml import check_keys, complain, nearest, one_of, texts

Convention = Literal["icsh", "without-monocytes"]

_FOLDER = resources.files("cellcount.differential") / "profiles"


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows that are reported together: a group or a lineage."""

    id: str
    rows: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name in words."""
        return self.id.replace("_", " ")


@dataclass(frozen=True, slots=True)
class BlastRule:
    """Rule by which blasts are reported.

    Attributes:
        row: the row that holds them.
        erythroid: rows left out of the second percentage; none where there is no second one.
        thresholds_percent: of all cells of the differential; near one, more cells are advised.
        note: what a reader must know.
    """

    row: str
    erythroid: tuple[str, ...] = ()
    thresholds_percent: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class MeRule:
    """The myeloid to erythroid ratio.

    Attributes:
        myeloid: rows that are myeloid by every convention.
        monocytes: rows that ICSH counts as myeloid too, and many laboratories do not.
        erythroid: rows of the denominator.
        convention: the one that counts; the other is shown beside it.
    """

    myeloid: tuple[str, ...]
    monocytes: tuple[str, ...]
    erythroid: tuple[str, ...]
    convention: Convention = "icsh"


@dataclass(frozen=True, slots=True)
class AbsoluteRule:
    """Absolute counts from the analyzer's white cell count.

    Attributes:
        anc: the group that is the absolute neutrophil count.
        analyzer_counts_nrbc: the analyzer takes nucleated red cells for white cells, so absolute
            counts rest on the corrected white cell count; else they rest on the given one.
    """

    anc: str
    analyzer_counts_nrbc: bool = False


@dataclass(frozen=True, slots=True)
class PlateletRule:
    """The platelet estimate.

    Attributes:
        factor_10e9_per_l: platelets of a field times this are 10⁹/L.
        field_um2: area of the field that the factor belongs to; 0 where it belongs to an image.
        detector_class: class of the detector that is a platelet.
    """

    factor_10e9_per_l: float
    field_um2: float = 0.0
    detector_class: str = PLATELET


@dataclass(frozen=True, slots=True)
class Target:
    """Number of cells to count, and its purpose."""

    cells: int
    meaning: str
    slides: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Rows and rules of counting for a kind of smear.

    Attributes:
        name, version, title: who it is; the name is that of its file.
        kind: the kind of smear.
        standard: where the rules come from.
        cells: what the denominator is made of, in words.
        rows: rows of the denominator, in the order of the report.
        outside: rows that are counted and listed, never part of a percentage.
        groups, lineages: rows that are reported together as well.
        names: row → its name in words, where it is not plain.
        synonyms: row → what the laboratory calls it besides, in sheets and corrections.
        blasts, me_ratio, absolute, platelets: rules; None where the profile has none.
        nrbc: row of nucleated red cells, stated per 100 cells of the denominator, or "".
        targets: numbers of cells to count, ascending.
        unclassified_percent: advice is given when more of the cells are unclassified.
        codes: by which information systems know its rows.
        quality: threshold of a field's quality (``profiles.quality.THRESHOLDS``) → number.
        notes: what a reader must know.
    """

    name: str
    version: str
    title: str
    kind: SmearKind
    standard: str
    cells: str
    rows: tuple[str, ...]
    outside: tuple[str, ...] = ()
    groups: tuple[RowSet, ...] = ()
    lineages: tuple[RowSet, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blasts: BlastRule | None = None
    me_ratio: MeRule | None = None
    nrbc: str = ""
    absolute: AbsoluteRule | None = None
    platelets: PlateletRule | None = None
    targets: tuple[Target, ...] = ()
    unclassified_percent: float = 10.0
    quality: Mapping[str, float] = field(default_factory=dict)
    codes: RowCodes = field(default_factory=RowCodes)
    notes: tuple[str, ...] = ()

    def name_of(self, row: str) -> str:
        """A row in words."""
        return self.names.get(row, row.replace("_", " "))

    def own_rows(self, rows: Iterable[str]) -> tuple[str, ...]:
        """Return rows by this profile's names: one that it lacks may be here under another name."""
        here = {*self.rows, *self.outside}
        named = ((row, SAME_CELLS.get(row, row)) for row in rows)
        return tuple(same if row not in here and same in here else row for row, same in named)

    def label(self, *, forced: bool = False, experimental: str = "") -> str:
        """Return its name in outputs, like ``peripheral-blood 1.0``, and marks of doubt.

        Args:
            forced: it was made to apply to models of another kind of smear.
            experimental: why no count of the detector can be relied on yet, "" where it can.
        """
        label = f"{self.name} {self.version}"
        if forced:
            label += " (forced)"
        if experimental:
            label += f" (experimental: {experimental})"
        return label


def profiles() -> tuple[str, ...]:
    """Names of the packaged profiles, sorted."""
    names = [entry.name for entry in _FOLDER.iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_profile(name: str) -> Profile:
    """A packaged profile by name, or a laboratory's own by the path of its ``.toml`` file.

    Raises UsageError: unknown, or the file is not a valid profile; says where and what to do.
    """
    if name.endswith(".toml"):
        return parse_profile(Path(name).stem, profile_text(name), origin=name)
    return parse_profile(name, profile_text(name), origin=f"the packaged profile {name}")


def profile_text(name: str) -> str:
    """Text of the file of a profile.

    Raises UsageError: there is none, or it cannot be read.
    """
    if name.endswith(".toml"):
        try:
            return Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the profile {name} cannot be read: {error}") from error
    if name not in profiles():
        raise UsageError(
            f"there is no profile {name!r}; {nearest(name, profiles())}known: "
            f"{', '.join(profiles())}; or name your own file, which ends in .toml"
        )
    return (_FOLDER / f"{name}.toml").read_text("utf-8")


_TOP: dict[str, type] = {
    "title": str,
    "version": str,
    "kind": str,
    "standard": str,
    "cells": str,
    "notes": list,
    "rows": list,
    "outside": list,
    "names": dict,
    "synonyms": dict,
    "groups": dict,
    "lineages": dict,
    "blasts": dict,
    "me_ratio": dict,
    "nrbc": str,
    "absolute": dict,
    "platelets": dict,
    "targets": list,
    "unclassified_percent": float,
    "quality": dict,
    "loinc": dict,
}
_NEEDED = ("title", "version", "kind", "standard", "cells", "rows")
_BLASTS: dict[str, type] = {"row": str, "erythroid": list, "thresholds_percent": list, "note": str}
_ME: dict[str, type] = {"myeloid": list, "monocytes": list, "erythroid": list, "convention": str}
_ABSOLUTE: dict[str, type] = {"anc": str, "analyzer_counts_nrbc": bool}
_PLATELETS: dict[str, type] = {
    "factor_10e9_per_l": float,
    "field_um2": float,
    "detector_class": str,
}
_TARGET: dict[str, type] = {"cells": int, "meaning": str, "slides": int}
_RISING = ("exclude_{}_min", "{}_min", "{}_max", "exclude_{}_max")
_ID = re.compile(r"[a-z][a-z0-9_]*")


def parse_profile(name: str, text: str, *, origin: str) -> Profile:
    """The profile that a file's text describes.

    Args:
        name: what it is called.
        text: TOML.
        origin: the file, for messages.

    Raises:
        UsageError: not TOML, an unknown, missing or wrongly typed key, an unknown row, a row used
            twice, a number out of range.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        complain(origin, f"is not valid TOML: {error}", "mend that line")
    check_keys(origin, content, _TOP, needed=_NEEDED, other_lists=("targets",))
    one_of(origin, "kind", content["kind"], SMEAR_KINDS)
    rows, outside = tuple(content["rows"]), tuple(content.get("outside", ()))
    _check_rows(origin, rows, outside)
    groups = _row_sets(origin, "groups", content, rows, outside)
    percent = content.get("unclassified_percent", 10.0)
    _in_range(origin, "unclassified_percent", percent, 0, 100)
    if "nrbc" in content:
        one_of(origin, "nrbc", content["nrbc"], outside)
    return Profile(
        name=name,
        version=content["version"],
        title=content["title"],
        kind=content["kind"],
        standard=content["standard"],
        cells=content["cells"],
        rows=rows,
        outside=outside,
        groups=groups,
        lineages=_row_sets(origin, "lineages", content, rows, outside),
        names=_names(origin, content.get("names", {}), (*rows, *outside)),
        synonyms=_synonyms(origin, content.get("synonyms", {}), (*rows, *outside)),
        blasts=_blasts(origin, content.get("blasts"), rows),
        me_ratio=_me_ratio(origin, content.get("me_ratio"), rows),
        nrbc=content.get("nrbc", ""),
        absolute=_absolute(origin, content.get("absolute"), groups),
        platelets=_platelets(origin, content.get("platelets")),
        targets=_targets(origin, content.get("targets", [])),
        unclassified_percent=float(percent),
        quality=_numbers(origin, content.get("quality", {})),
        codes=row_codes(origin, content.get("loinc"), (*rows, *outside, *(g.id for g in groups))),
        notes=tuple(content.get("notes", ())),
    )


def _check_rows(origin: str, rows: tuple[str, ...], outside: tuple[str, ...]) -> None:
    for key, several in (("rows", rows), ("outside", outside)):
        for row in several:
            one_of(origin, key, row, ROWS)
    twice = [row for row, times in Counter((*rows, *outside)).items() if times > 1]
    if twice:
        complain(origin, f"names {', '.join(twice)} more than once", "name each row once")


def _known_rows(where: str, key: str, value: object, known: Iterable[str]) -> tuple[str, ...]:
    names = list(known)
    rows = texts(where, key, value)
    for row in rows:
        one_of(where, key, row, names)
    if len(set(rows)) < len(rows):
        complain(where, f"has {key} = {rows}", "name each row once")
    return tuple(rows)


def _row_sets(
    origin: str,
    key: str,
    content: dict[str, Any],
    rows: tuple[str, ...],
    outside: tuple[str, ...],
) -> tuple[RowSet, ...]:
    found = []
    for name, value in content.get(key, {}).items():
        where = f"{origin}, {key}"
        if not _ID.fullmatch(name):
            complain(where, f"has the id {name!r}", "use lower-case letters, digits and _")
        members = _known_rows(where, name, value, (*rows, *outside))
        if not members:
            complain(where, f"has {name} = []", "name at least one row")
        if 0 < len(set(members) & set(rows)) < len(members):
            complain(
                where,
                f"has {name} = {list(members)}, in which {_listed(members, outside)} lie outside "
                "the denominator and others do not",
                "keep the two apart: a percentage of such a sum would mean nothing",
            )
        found.append(RowSet(name, members))
    return tuple(found)


def _listed(members: tuple[str, ...], outside: tuple[str, ...]) -> str:
    return ", ".join(row for row in members if row in outside)


def _synonyms(
    origin: str, entry: dict[str, Any], known: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    where = f"{origin}, synonyms"
    for row, value in entry.items():
        one_of(where, "a row", row, known)
        if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
            complain(where, f"{row} is {value!r}", 'list names in quotes, as in ["Segs", "PMN"]')
    return {row: tuple(value) for row, value in entry.items()}


def _names(origin: str, entry: dict[str, Any], known: tuple[str, ...]) -> dict[str, str]:
    where = f"{origin}, names"
    for row, name in entry.items():
        one_of(where, "a row", row, known)
        if not isinstance(name, str) or not name.strip():
            complain(where, f"has {row} = {name!r}", "expected text")
    return dict(entry)


def _blasts(origin: str, entry: dict[str, Any] | None, rows: tuple[str, ...]) -> BlastRule | None:
    if entry is None:
        return None
    where = f"{origin}, blasts"
    check_keys(where, entry, _BLASTS, needed=("row",), other_lists=("thresholds_percent",))
    one_of(where, "row", entry["row"], rows)
    thresholds = entry.get("thresholds_percent", [])
    for threshold in thresholds:
        _in_range(where, "thresholds_percent", threshold, 0, 100)
    if list(thresholds) != sorted(thresholds):
        complain(where, f"has thresholds_percent = {thresholds}", "name them in rising order")
    return BlastRule(
        entry["row"],
        _known_rows(where, "erythroid", entry.get("erythroid", []), rows),
        tuple(float(t) for t in thresholds),
        entry.get("note", ""),
    )


def _me_ratio(origin: str, entry: dict[str, Any] | None, rows: tuple[str, ...]) -> MeRule | None:
    if entry is None:
        return None
    where = f"{origin}, me_ratio"
    check_keys(where, entry, _ME, needed=("myeloid", "erythroid", "convention"))
    one_of(where, "convention", entry["convention"], ("icsh", "without-monocytes"))
    parts = {
        key: _known_rows(where, key, entry.get(key, []), rows)
        for key in ("myeloid", "monocytes", "erythroid")
    }
    twice = [r for r, times in Counter(r for p in parts.values() for r in p).items() if times > 1]
    if twice:
        complain(where, f"names {', '.join(twice)} more than once", "name each row once")
    return MeRule(**parts, convention=entry["convention"])


def _absolute(
    origin: str, entry: dict[str, Any] | None, groups: tuple[RowSet, ...]
) -> AbsoluteRule | None:
    if entry is None:
        return None
    where = f"{origin}, absolute"
    check_keys(where, entry, _ABSOLUTE, needed=("anc",))
    one_of(where, "anc", entry["anc"], [group.id for group in groups])
    return AbsoluteRule(**entry)


def _platelets(origin: str, entry: dict[str, Any] | None) -> PlateletRule | None:
    if entry is None:
        return None
    where = f"{origin}, platelets"
    check_keys(where, entry, _PLATELETS, needed=("factor_10e9_per_l",))
    _in_range(where, "factor_10e9_per_l", entry["factor_10e9_per_l"], 0.001, 1000)
    _in_range(where, "field_um2", entry.get("field_um2", 0), 0, 1e9)
    return PlateletRule(**entry)


def _targets(origin: str, entries: list[Any]) -> tuple[Target, ...]:
    targets = []
    for entry in entries:
        where = f"{origin}, targets"
        if not isinstance(entry, dict):
            complain(where, f"has {entry!r}", "each target is a [[targets]] table")
        check_keys(where, entry, _TARGET, needed=("cells", "meaning"))
        _in_range(where, "cells", entry["cells"], 1, 1_000_000)
        _in_range(where, "slides", entry.get("slides", 1), 1, 100)
        targets.append(Target(**entry))
    if [t.cells for t in targets] != sorted({t.cells for t in targets}):
        complain(
            f"{origin}, targets",
            f"has cells {[t.cells for t in targets]}",
            "name each number once, in rising order",
        )
    return tuple(targets)


def _numbers(origin: str, entry: dict[str, Any]) -> dict[str, float]:
    for key, value in entry.items():
        one_of(f"{origin}, quality", "a key", key, THRESHOLDS)
        _in_range(f"{origin}, quality", key, value, -1e12, 1e12)
    for measure in MEASURES:
        _check_order(f"{origin}, quality", measure, entry)
    return {key: float(value) for key, value in entry.items()}


def _check_order(where: str, measure: str, entry: dict[str, Any]) -> None:
    """Refuse limits that no value can meet, or that exclude a field before they warn of it."""
    rising = (name.format(measure) for name in _RISING)
    stated = [name for name in rising if name in entry]
    for low, high in pairwise(stated):
        if entry[low] > entry[high]:
            complain(
                where,
                f"has {low} = {entry[low]:g} above {high} = {entry[high]:g}",
                "a minimum lies below its maximum, and what is excluded lies beyond both",
            )


def _in_range(where: str, key: str, value: object, low: float, high: float) -> None:
    # A bool is an int to Python, and nan is within no bounds.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= float(str(value)) <= high:
        complain(where, f"has {key} = {value!r}", f"expected a number from {low:g} to {high:g}")
