"""Which files and folders a run writes, so that none of them is another or is read."""

from __future__ import annotations

from pathlib import Path

from cellcount.errors import UsageError
from cellcount.files.atomic import check_folder_writable, check_writable
from cellcount.files.locks import holder_file
from cellcount.outputs.parquet import check_parquet, is_parquet
from cellcount.outputs.review_tables import history_path
from cellcount.outputs.run_record import run_manifest_path
from cellcount.settings import OutputSettings
from cellcount.store.journal import journal_path


class OutputFiles:
    """The files and folders of a run.

    Args:
        settings: where the results go.

    Attributes:
        settings: likewise.
        tables: files that were asked for, counts.csv first.
        folders: that were asked for, in which there is a file per image.
        journal, record, history: what the run keeps beside counts.csv.
    """

    def __init__(self, settings: OutputSettings) -> None:
        self.settings = settings
        files = (settings.out, settings.cells, settings.slides, settings.coco, settings.report)
        self.tables = [path for path in files if path is not None]
        self.folders = settings.folders
        self.journal = journal_path(settings.out)
        self.record = run_manifest_path(settings.out)
        self.history = history_path(settings.out)

    def every(self) -> list[Path]:
        """List every single file that the run writes, but those in folders.

        Raises:
            UsageError: two have one name, or one is the table of another run.
        """
        own = {path.absolute() for path in (self.record, self.journal, self.history)}
        for path in self.tables:
            if path.absolute() in own:
                raise UsageError(
                    f"{path} is where this run keeps its own notes beside --out; name another file"
                )
            other = journal_path(path).absolute()
            if other != self.journal.absolute() and other.exists():
                raise UsageError(
                    f"{path} is the --out of another run, whose journal lies beside it; name "
                    "another file"
                )
        locks = map(holder_file, (self.journal, *self.tables))
        return [*self.tables, self.history, self.record, self.journal, *locks]

    def check_forms(self) -> None:
        """Find out before hours of work whether every table can be written in the form of its name.

        Raises:
            UsageError: it is to be Parquet, and pyarrow is not there.
        """
        if any(is_parquet(path) for path in self.tables):
            check_parquet()

    def check(self) -> None:
        """Find out before anything is changed that all of them can be written.

        Raises:
            UsageError: two have one name, or one is the table of another run.
            OutputError: one cannot be written.
        """
        for path in self.every():
            check_writable(path)
        for folder in self.folders:
            check_folder_writable(folder)
