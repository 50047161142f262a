"""Errors written for the person at the keyboard.

Every message says what went wrong, with which value, what was expected and what to do.
The command line prints the message alone; the traceback appears only with ``--debug``.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_NOTHING_DONE = 3
EXIT_FAILURE_RATE = 4
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class CellcountError(Exception):
    """Base of every error that cellcount raises on purpose."""

    exit_code = EXIT_NOTHING_DONE


class UsageError(CellcountError):
    """The request itself is wrong: an option, a setting, a combination."""

    exit_code = EXIT_USAGE


class ImageError(CellcountError):
    """One image cannot be used; its row says why and the batch goes on."""


class AnnotationError(CellcountError):
    """An annotation file cannot be read as the format it claims to be."""


class DeviceMemoryError(CellcountError):
    """The device has too little memory even for the smallest piece of work that was tried."""


class WeightsError(CellcountError):
    """A weight file or its card is unusable or unsafe."""


class ModelChoiceError(WeightsError):
    """The named file or model cannot serve for that option: it is of another kind, or a pickle."""

    exit_code = EXIT_USAGE


class PluginError(CellcountError):
    """A plugin is missing, broken, or does not keep its contract."""


class JournalError(CellcountError):
    """The journal beside an output belongs to other settings, or is in use, or is damaged."""


class EditConflictError(JournalError):
    """Somebody else has edited a cell since this person saw it.

    Attributes:
        cell: lasting id of the cell.
    """

    def __init__(self, cell: str, reviewer: str) -> None:
        super().__init__(
            f"cell {cell} was edited by {reviewer} meanwhile, so nothing was changed; look at it "
            "again, then repeat the correction"
        )
        self.cell = cell


class OutputError(CellcountError):
    """An output cannot be written."""
