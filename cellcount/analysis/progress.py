"""Display of the progress of a job to a person."""

from __future__ import annotations

from typing import Protocol

from cellcount.core.records import ImageResult


class Progress(Protocol):
    """Interface of a display of progress."""

    def start(self, activity: str, total: int, already: int = 0) -> None:
        """Begin an ``activity`` ("Counting"), with ``already`` of ``total`` images done."""
        ...

    def advance(self, result: ImageResult) -> None:
        """Count one more finished image."""
        ...

    def within(self, share: float) -> None:
        """Show the share of a scan that is done, 0 to 1; called in the thread that analyses it."""
        ...

    def note(self, text: str) -> None:
        """Show a line that a person should read now."""
        ...


class SilentProgress:
    """Progress that shows nothing."""

    def start(self, activity: str, total: int, already: int = 0) -> None:
        """Show nothing."""

    def advance(self, result: ImageResult) -> None:
        """Show nothing."""

    def within(self, share: float) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""
