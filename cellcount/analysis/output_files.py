"""Files and folders that a run writes, checked against each other and against its inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from cellcount.errors import UsageError
from cellcount.files.atomic import check_folder_writable, check_writable
from cellcount.files.locks import holder_file
from cellcount.outputs.approval_table import approvals_path
from cellcount.outputs.excel import is_excel
from cellcount.outputs.forms import BUILT_IN, COUNTS, OutputForm, check_needs, form_of
from cellcount.outputs.image_labels import stem_of
from cellcount.outputs.review_tables import history_path
from cellcount.outputs.run_record import run_manifest_path
from cellcount.outputs.tables import TABLE_SUFFIXES, check_forms_of, check_suffix
from cellcount.settings import OutputSettings
from cellcount.store.journal import journal_path


class OutputFiles:
    """The files and folders of a run.

    Args:
        settings: where the results go.
        packages: form of a plugin → package that offered it to an earlier run.

    Attributes:
        settings: likewise.
        journal, record, history, approvals: what the run keeps beside counts.csv.
    """

    def __init__(self, settings: OutputSettings, packages: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self._packages = packages or {}
        self.journal = journal_path(settings.out)
        self.record = run_manifest_path(settings.out)
        self.history = history_path(settings.out)
        self.approvals = approvals_path(settings.out)

    @cached_property
    def forms(self) -> list[tuple[OutputForm, Path]]:
        """The forms that were asked for, in the order in which they are written.

        Raises:
            PluginError: one is of a plugin that is not installed.
        """
        asked = self.settings.forms
        names = [n for n in BUILT_IN if n in asked] + sorted(asked.keys() - BUILT_IN)
        return [(form_of(name, self._packages.get(name, "")), asked[name]) for name in names]

    @property
    def _every_form(self) -> list[tuple[OutputForm, Path]]:
        return [(COUNTS, self.settings.out), *self.forms]

    @property
    def written(self) -> list[tuple[Path, list[OutputForm]]]:
        """Paths to write, in order, each with its form; a workbook with all its tables."""
        found: list[tuple[Path, list[OutputForm]]] = []
        books: dict[Path, list[OutputForm]] = {}
        for form, path in self._every_form:
            if _is_sheet(form, path) and _place(path) in books:
                books[_place(path)].append(form)
                continue
            found.append((path, [form]))
            if _is_sheet(form, path):
                books[_place(path)] = found[-1][1]
        return found

    @property
    def tables(self) -> list[Path]:
        """The files that were asked for, counts.csv first, each once."""
        return [path for path, forms in self.written if forms[0].kind == "file"]

    @property
    def folders(self) -> list[Path]:
        """The folders that were asked for, in which there is a file per image."""
        annotated = self.settings.annotated
        folders = [path for form, path in self.forms if form.kind == "folder"]
        return folders if annotated is None else [annotated, *folders]

    @property
    def differentials(self) -> list[tuple[str, Path]]:
        """Option and path of the forms that tell differentials."""
        return [(form.option, path) for form, path in self.forms if form.differential]

    def every(self) -> list[Path]:
        """List every single file that the run writes, but those in folders.

        Raises:
            UsageError: two have one name, or one is the table of another run.
        """
        self._check_names()
        own = {_place(path) for path in (self.record, self.journal, self.history, self.approvals)}
        for path in self.tables:
            if _place(path) in own:
                raise UsageError(
                    f"{path} is where this run keeps its own notes beside --out; name another file"
                )
            other = _place(journal_path(path))
            if other != _place(self.journal) and other.exists():
                raise UsageError(
                    f"{path} is the --out of another run, whose journal lies beside it; name "
                    "another file"
                )
        locks = map(holder_file, (self.journal, *self.tables))
        return [*self.tables, self.history, self.approvals, self.record, self.journal, *locks]

    def _check_names(self) -> None:
        """Refuse two options that name one file, but tables that are sheets of one workbook."""
        files = [(form, path) for form, path in self._every_form if form.kind == "file"]
        named = [(form.option, path, _is_sheet(form, path)) for form, path in files]
        if self.settings.pseudonymize is not None:
            named.append(("--pseudonymize", self.settings.pseudonymize, False))
        taken: dict[Path, tuple[str, bool]] = {}
        for option, path, is_sheet in named:
            other, shared = taken.setdefault(_place(path), (option, is_sheet))
            if other != option and not (is_sheet and shared):
                raise UsageError(f"{option} and {other} both name {path}; give each its own")

    def check_forms(self, *, shard: bool = False) -> None:
        """Raise, before hours of work, if a form cannot be written.

        Args:
            shard: the run sees a part of the images.

        Raises:
            UsageError: a name promises another form than the one it would hold; the library for a
                form is not there, or a form or option needs all images.
            PluginError: a form is of a plugin that is not installed.
        """
        for form, path in self._every_form:
            check_needs(form)
            if form.kind == "file":
                check_suffix(form.option, path, TABLE_SUFFIXES if form.table else form.suffixes)
        check_forms_of(path for path, forms in self.written if forms[0].table)
        whole = [option for option, _ in self.differentials] if shard else []
        if shard and self.settings.pseudonymize is not None:
            whole.append("--pseudonymize")
        if whole:
            raise UsageError(
                f"a shard sees a part of the images, and {whole[0]} needs all; give {whole[0]} to "
                "cellcount merge, which writes the outputs of all shards"
            )

    def check_stems(self, images: Iterable[str]) -> None:
        """Raise if two images have the same stem, by which a form names its files.

        Args:
            images: all of the run, as outputs name them.

        Raises:
            UsageError: a form needs that, and two images have one stem.
        """
        option = next((form.option for form, _ in self.forms if form.by_stem), None)
        if option is None:
            return
        of_stem: dict[str, str] = {}
        for image in images:
            other = of_stem.setdefault(stem_of(image).lower(), image)
            if other != image:
                raise UsageError(
                    f"{option} writes one label file for a stem, but {other} and {image} have "
                    f"the same: programs would take its labels for both; rename one of the "
                    f"two, or leave out {option} (--coco and --voc tell them apart)"
                )

    def check(self) -> None:
        """Raise, before anything is changed, if an output cannot be written.

        Raises:
            UsageError: two have one name, or one is the table of another run.
            OutputError: one cannot be written.
            PluginError: a form is of a plugin that is not installed.
        """
        for path in self.every():
            check_writable(path)
        for folder in self.folders:
            check_folder_writable(folder)


def _place(path: Path) -> Path:
    """Resolve a path to its file, so that two spellings of one file are equal."""
    return Path(os.path.abspath(path))


def _is_sheet(form: OutputForm, path: Path) -> bool:
    """Return whether a form is a table that becomes a sheet of a workbook."""
    return bool(form.table) and is_excel(path)
