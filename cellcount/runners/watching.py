"""Who shows the progress of a job to a person."""

from __future__ import annotations

from typing import Protocol

from cellcount.records import ImageResult


class Watcher(Protocol):
    """Whoever shows progress to a person."""

    def start(self, activity: str, total: int, already: int = 0) -> None:
        """``activity`` ("Counting") begins; ``already`` of ``total`` images are done."""
        ...

    def advance(self, result: ImageResult) -> None:
        """One more image is finished."""
        ...

    def note(self, text: str) -> None:
        """A line that a person should read now."""
        ...
