"""Display of the progress of a job to a person."""

from __future__ import annotations

from typing import Protocol

from cellcount.core.records import ImageResult


class Progress(Protocol):
    """Whoever shows progress to a person."""

    def start(self, activity: str, total: int, already: int = 0) -> None:
        """``activity`` ("Counting") begins; ``already`` of ``total`` images are done."""
        ...

    def advance(self, result: ImageResult) -> None:
        """One more image is finished."""
        ...

    def within(self, share: float) -> None:
        """Show the share of the current image that is done, 0 to 1, for those that take long."""
        ...

    def note(self, text: str) -> None:
        """A line that a person should read now."""
        ...


class SilentProgress:
    """Watches and says nothing."""

    def start(self, activity: str, total: int, already: int = 0) -> None:
        """Nothing to show."""

    def advance(self, result: ImageResult) -> None:
        """Nothing to show."""

    def within(self, share: float) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to say."""
