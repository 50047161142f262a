"""Which files a run writes, so that none of them is another or is read."""

from __future__ import annotations

from pathlib import Path

from cellcount.errors import UsageError
from cellcount.files.atomic import check_folder_writable, check_writable
from cellcount.files.locks import holder_file
from cellcount.outputs.review_tables import history_path
from cellcount.outputs.run_record import run_manifest_path
from cellcount.settings import OutputSettings
from cellcount.store.journal import journal_path


def tables_of(output: OutputSettings) -> list[Path]:
    """The files that were asked for."""
    files = (output.out, output.cells, output.slides, output.coco, output.report)
    return [path for path in files if path is not None]


def files_of(output: OutputSettings) -> list[Path]:
    """Every single file that a run writes.

    Raises:
        UsageError: two have one name, or one is the table of another run.
    """
    record, journal = run_manifest_path(output.out), journal_path(output.out)
    history = history_path(output.out)
    files = tables_of(output)
    for path in files:
        if path.absolute() in {p.absolute() for p in (record, journal, history)}:
            raise UsageError(
                f"{path} is where this run keeps its own notes beside --out; name another file"
            )
        other = journal_path(path).absolute()
        if other != journal.absolute() and other.exists():
            raise UsageError(
                f"{path} is the --out of another run, whose journal lies beside it; name another "
                "file"
            )
    return [*files, history, record, journal, *map(holder_file, (journal, *files))]


def check_outputs(output: OutputSettings) -> None:
    """Find out before anything is changed that all outputs can be written.

    Raises:
        UsageError: two have one name, or one is the table of another run.
        OutputError: one cannot be written.
    """
    for path in files_of(output):
        check_writable(path)
    for folder in output.folders:
        check_folder_writable(folder)
