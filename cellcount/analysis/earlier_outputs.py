"""Outputs of an earlier run with the same --out: written again with this run, or named as old.

A page that tells other numbers than the table beside it is worse than none. What the run before
wrote and still lies there is therefore written again, whether it is asked for again or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cellcount.analysis.stored_run import output_of
from cellcount.files.text import listed
from cellcount.outputs.excel import is_excel
from cellcount.outputs.forms import BUILT_IN
from cellcount.plugins import OUTPUTS, available
from cellcount.settings import OutputSettings
from cellcount.store.journal import journal_path
from cellcount.store.journal_file import peek

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class RenewedOutputs:
    """Outputs that were asked for, with those of the run before.

    Attributes:
        settings: both together.
        renewed: paths that only the run before asked for; they are written again.
        old: paths that lie there from the run before and are not written again.
    """

    settings: OutputSettings
    renewed: tuple[Path, ...] = ()
    old: tuple[Path, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on them for people, in a sentence each."""
        said = []
        if self.renewed:
            said.append(
                f"also written again, since the run before wrote it: {_paths(self.renewed)}; "
                "delete what is not wanted any more"
            )
        if self.old:
            said.append(
                f"of an earlier run, not written again, and old now: {_paths(self.old)}; delete it"
            )
        return tuple(said)


def with_earlier_outputs(asked: OutputSettings, *, shard: bool = False) -> RenewedOutputs:
    """Add the outputs of an earlier run with the same --out whose files still exist.

    Of a workbook that is written now, the sheets that the run before had in it stay.

    Args:
        asked: for this run.
        shard: the run sees a part of the images and cannot write what needs all.
    """
    before = _earlier(asked.out)
    if before is None:
        return RenewedOutputs(asked)
    taken = {asked.out.resolve(), *(path.resolve() for path in asked.forms.values())}
    if asked.annotated is not None:
        taken.add(asked.annotated.resolve())
    forms: dict[str, Path] = {}
    renewed, old = [], []
    for name, path in before.forms.items():
        is_taken, is_open = path.resolve() in taken, name not in asked.forms
        if is_taken and is_excel(path) and is_open and _is_writable(name, shard=shard):
            forms[name] = path
        elif is_taken or not path.exists():
            continue
        elif is_open and _is_writable(name, shard=shard):
            forms[name] = path
            renewed.append(path)
        else:
            old.append(path)
    annotated = asked.annotated
    if before.annotated is not None and before.annotated.resolve() not in taken:
        if annotated is None and before.annotated.is_dir():
            annotated = before.annotated
            renewed.append(annotated)
        elif before.annotated.is_dir():
            old.append(before.annotated)
    settings = replace(asked, forms={**forms, **asked.forms})
    if annotated is not asked.annotated:  # drawn as the earlier run chose
        settings = replace(
            settings,
            annotated=annotated,
            annotate=before.annotate,
            annotated_format=before.annotated_format,
        )
    return RenewedOutputs(settings, tuple(renewed), tuple(old))


def _earlier(out: Path) -> OutputSettings | None:
    """Outputs of the run before; None where there was none, or its journal does not tell."""
    journal = journal_path(out)
    try:
        stored = peek(journal, "user:run")
        return output_of(stored, journal.absolute().parent) if isinstance(stored, Mapping) else None
    except (KeyError, TypeError, ValueError):
        return None


def _is_writable(name: str, *, shard: bool) -> bool:
    """Return whether this run can write a form: a built-in one, or that of a plugin found."""
    form = BUILT_IN.get(name)
    if form is None:
        return not shard and name in available(OUTPUTS)
    return not (shard and form.differential)


def _paths(paths: tuple[Path, ...]) -> str:
    return listed(list(dict.fromkeys(map(str, paths))), _SHOWN)
