"""Record of a run in its journal, besides results, from which its outputs can be written again.

Neither models nor images are needed for that. Paths of outputs are kept relative to the journal,
so that a folder of results may be moved; mappings are kept as pairs, because their order shows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellcount.core.records import CellClass, ImageRef
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Confusion, Rules, TypeRows
from cellcount.differential.profile import parse_profile
from cellcount.errors import JournalError
from cellcount.outputs.forms import BUILT_IN, packages_of
from cellcount.outputs.run_content import RunFacts
from cellcount.settings import OutputSettings
from cellcount.store.journal import Journal

_NAME = "run"
_FORM = 1
_PATHS = {"out", "annotated", "pseudonymize", *BUILT_IN}


@dataclass(frozen=True, eq=False, slots=True)
class StoredRun:
    """The last run of a journal.

    Attributes:
        output: what it wrote, where and in which form.
        facts: what its outputs tell besides the results.
        refs: its images, in the order of its plan.
        folder: where relative paths of images start.
        profile_toml: the file of its profile.
        packages: form of a plugin → package that offered it.
    """

    output: OutputSettings
    facts: RunFacts
    refs: tuple[ImageRef, ...]
    folder: Path
    profile_toml: str
    packages: Mapping[str, str] = field(default_factory=dict)

    def keep(self, journal: Journal) -> None:
        """Store the record in the journal, in place of that of the run before."""
        place = journal.path.absolute().parent
        facts, forms = self.facts, self.output.forms
        packages = packages_of(forms)
        plugins = {n: [_relative(forms[n], place), package] for n, package in packages.items()}
        document = {
            "form": _FORM,
            "output": _output_document(self.output, place),
            **({"plugin_forms": plugins} if plugins else {}),
            "folder": str(self.folder),
            "refs": [ref.facts() for ref in self.refs],
            "counting": self.counting_facts(),
            "types": [asdict(t) for t in facts.types],
            "images": facts.images,
            "densest_field": facts.densest_field,
            "notes": list(facts.notes),
            "versions": _pairs(facts.versions),
            "settings": _pairs(facts.settings),
            "max_pixels": facts.max_pixels,
        }
        journal.set_value(_NAME, document)

    def counting_facts(self) -> dict[str, Any]:
        """Return the rules of counting, JSON-ready."""
        counting = self.facts.counting
        rules = asdict(counting.rules)
        if not counting.rules.experimental:
            del rules["experimental"]  # as earlier versions kept it
        if counting.rules.confusion is not None:
            rules["confusion"]["cells"] = counting.rules.confusion.cells.tolist()
        return {
            "profile": [counting.profile.name, self.profile_toml],
            "assessable": [_without_default(asdict(t)) for t in counting.assessable],
            "classes": [asdict(c) for c in counting.classes],
            "rules": rules,
            "models": _pairs(counting.models),
            **({"misfit": counting.misfit} if counting.misfit else {}),
        }

    @classmethod
    def read(cls, journal: Journal) -> StoredRun:
        """Read the record of the last run from a journal.

        Raises:
            JournalError: an earlier version of cellcount wrote the journal, or it is damaged.
        """
        stored = journal.get_value(_NAME)
        if not isinstance(stored, dict) or stored.get("form") != _FORM:
            raise JournalError(
                f"{journal.path} does not say what its run wrote: another version of cellcount "
                "made it; give the same analyze command again (finished images are kept)"
            )
        try:
            return _run_of(stored, journal.path.absolute().parent)
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(f"{journal.path} is damaged ({error!r}); restore it") from error

    def found(self, ref: ImageRef) -> ImageRef:
        """Return an image whose path starts at the journal's folder, so that it holds anywhere."""
        return replace(ref, path=self.folder / ref.path)


def _run_of(stored: Mapping[str, Any], place: Path) -> StoredRun:
    name, toml = stored["counting"]["profile"]
    output = output_of(stored, place)
    packages = {n: package for n, (_, package) in stored.get("plugin_forms", {}).items()}
    told = stored["counting"]
    counting = Counting(
        profile=parse_profile(name, toml, origin=f"the stored profile {name}"),
        assessable=tuple(
            TypeRows(**(one | {"rows": tuple(one["rows"])})) for one in told["assessable"]
        ),
        classes=tuple(CellClass(**one) for one in told["classes"]),
        rules=_rules(told["rules"]),
        models=dict(told["models"]),
        misfit=told.get("misfit", ""),
    )
    facts = RunFacts(
        counting=counting,
        types=tuple(CellClass(**one) for one in stored["types"]),
        images=stored["images"],
        densest_field=stored["densest_field"],
        notes=tuple(stored["notes"]),
        versions=dict(stored["versions"]),
        settings=dict(stored["settings"]),
        max_pixels=stored["max_pixels"],
    )
    refs = tuple(ImageRef(**(one | {"path": Path(one["path"])})) for one in stored["refs"])
    return StoredRun(output, facts, refs, Path(stored["folder"]), toml, packages)


def _output_document(output: OutputSettings, place: Path) -> dict[str, Any]:
    """The settings by name, our own forms among them; what was not asked for is left out."""
    asked = {f.name: getattr(output, f.name) for f in fields(output) if f.name != "forms"}
    asked |= {name: path for name, path in output.forms.items() if name in BUILT_IN}
    asked["csv_decimal"] = output.csv.decimal_sign
    if output.annotated_format == "png":  # as versions without a choice kept it
        del asked["annotated_format"]
    return {name: _relative(v, place) for name, v in asked.items() if v is not None}


def output_of(stored: Mapping[str, Any], place: Path) -> OutputSettings:
    """Read from a stored run what it wrote, and where.

    A run that names no decimal sign is of 0.1.0, which wrote points whatever the separator; tables
    that are written again after a review keep their form.

    Args:
        stored: as `StoredRun.keep` enters it.
        place: folder of the journal, from which paths are told.

    Raises:
        KeyError, TypeError, ValueError: it is no such document.
    """
    plugins = {n: path for n, (path, _) in stored.get("plugin_forms", {}).items()}
    settings: dict[str, Any] = {"csv_decimal": "point"}
    settings |= {n: _here(place / v) if n in _PATHS else v for n, v in stored["output"].items()}
    forms = {name: settings.pop(name) for name in BUILT_IN if name in settings}
    forms |= {name: _here(place / path) for name, path in plugins.items()}
    return OutputSettings(forms=forms, **settings)


def _rules(stored: Mapping[str, Any]) -> Rules:
    confusion = stored["confusion"]
    if confusion is not None:
        cells = np.array(confusion["cells"], np.int64)
        confusion = Confusion(tuple(confusion["ids"]), cells, confusion["source"])
    return Rules(**(dict(stored) | {"confusion": confusion}))


def _relative(value: object, place: Path) -> object:
    """Turn a path into one relative to the journal's folder; leave anything else as it is."""
    if not isinstance(value, Path):
        return value
    try:
        return os.path.relpath(value.absolute(), place)
    except ValueError:  # on another drive
        return str(value.absolute())


def _here(path: Path) -> Path:
    """Shorten a path to one relative to the current folder, where it lies below it."""
    whole = Path(os.path.normpath(path))
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def _without_default(type_rows: dict[str, Any]) -> dict[str, Any]:
    """Leave out ``white_cell`` where it is true, as earlier versions stored types without it."""
    return {k: v for k, v in type_rows.items() if k != "white_cell" or not v}


def _pairs(mapping: Mapping[str, Any]) -> list[list[Any]]:
    return [[name, value] for name, value in mapping.items()]
