"""A profile: the rows, groups and rules by which a kind of smear is counted.

The packaged ones are the TOML files beside this module; a laboratory names its own by path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from cellcount.differential.rows import SAME_CELLS, SmearKind
from cellcount.errors import UsageError
from cellcount.files.toml import nearest

Convention = Literal["icsh", "without-monocytes"]

_FOLDER = resources.files("cellcount.differential") / "profiles"


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows that are reported together: a group or a lineage."""

    id: str
    rows: tuple[str, ...]

    @property
    def name(self) -> str:
        """In words."""
        return self.id.replace("_", " ")


@dataclass(frozen=True, slots=True)
class BlastRule:
    """How blasts are reported.

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
    detector_class: str = "platelet"


@dataclass(frozen=True, slots=True)
class Target:
    """A number of cells to count, and what for."""

    cells: int
    meaning: str
    slides: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is counted on a kind of smear, and by which rules.

    Attributes:
        name, version, title: who it is; the name is that of its file.
        kind: the kind of smear.
        standard: where the rules come from.
        cells: what the denominator is made of, in words.
        rows: rows of the denominator, in the order of the report.
        outside: rows that are counted and listed, never part of a percentage.
        groups, lineages: rows that are reported together as well.
        names: row → its name in words, where it is not plain.
        blasts, me_ratio, absolute, platelets: rules; None where the profile has none.
        nrbc: row of nucleated red cells, stated per 100 cells of the denominator, or "".
        targets: numbers of cells to count, ascending.
        unclassified_percent: advice is given when more of the cells are unclassified.
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
    blasts: BlastRule | None = None
    me_ratio: MeRule | None = None
    nrbc: str = ""
    absolute: AbsoluteRule | None = None
    platelets: PlateletRule | None = None
    targets: tuple[Target, ...] = ()
    unclassified_percent: float = 10.0
    quality: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def name_of(self, row: str) -> str:
        """A row in words."""
        return self.names.get(row, row.replace("_", " "))

    def own_rows(self, rows: Iterable[str]) -> tuple[str, ...]:
        """Rows by this profile's names: what it lacks may be here under another one."""
        here = {*self.rows, *self.outside}
        named = ((row, SAME_CELLS.get(row, row)) for row in rows)
        return tuple(same if row not in here and same in here else row for row, same in named)

    def label(self, *, forced: bool = False) -> str:
        """How outputs call it: ``peripheral-blood 1.0``, and whether it was forced."""
        return f"{self.name} {self.version}" + (" (forced)" if forced else "")


def profiles() -> tuple[str, ...]:
    """Names of the packaged profiles, sorted."""
    names = [entry.name for entry in _FOLDER.iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_profile(name: str) -> Profile:
    """A packaged profile by name, or a laboratory's own by the path of its ``.toml`` file.

    Raises UsageError: unknown, or the file is not a valid profile; says where and what to do.
    """
    from cellcount.differential.profile_file import parse_profile

    if name.endswith(".toml"):
        return parse_profile(Path(name).stem, profile_text(name), origin=name)
    return parse_profile(name, profile_text(name), origin=f"the packaged profile {name}")


def profile_text(name: str) -> str:
    """The file of a profile as it is.

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
