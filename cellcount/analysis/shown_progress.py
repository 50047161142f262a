"""Progress of a job: a rich bar on a terminal, plain lines in a batch job. All on stderr."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from cellcount.files.text import duration, number_of, shown, speed

if TYPE_CHECKING:
    from rich.progress import TaskID

    from cellcount.core.records import ImageResult

_LINE_EVERY_S = 15.0


class _Counts:
    """Counts that both kinds of progress show: images, cells, speed."""

    def __init__(self, total: int, already: int) -> None:
        self.total, self.finished = total, already
        self.now = self.cells = 0
        self.part = 0.0  # of the current image
        self.started = time.monotonic()

    def add(self, result: ImageResult) -> None:
        self.finished += 1
        self.now += 1
        self.part = 0.0
        self.cells += len(result.cells)

    @property
    def rate(self) -> float:
        """Images per second."""
        return (self.now + self.part) / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float:
        """At that rate; infinite before anything is done."""
        left = self.total - self.finished - self.part
        return left / self.rate if self.rate else math.inf


def _going_on(total: int, already: int) -> str:
    return f"going on: {already:,} of {number_of(total, 'image')} done before"


class PlainProgress:
    """Progress as a line now and then, for log files of batch jobs."""

    def __init__(self) -> None:
        self._counts = _Counts(0, 0)
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def start(self, activity: str, total: int, already: int = 0) -> None:
        """Print how many images there are to do."""
        self._counts = _Counts(total, already)
        self._said = time.monotonic()
        if already:
            click.echo(_going_on(total, already), err=True)
        if total > already:
            click.echo(f"{activity} {number_of(total - already, 'image')}", err=True)

    def note(self, text: str) -> None:
        """Print a message for the person."""
        click.echo(text, err=True)

    def advance(self, result: ImageResult) -> None:
        """Count one more image; print the reason at once if it failed."""
        self._counts.add(result)
        if result.status == "failed":
            click.echo(f"failed: {shown(result.ref.image)}: {shown(result.reason)}", err=True)
        self._say_now_and_then()

    def within(self, share: float) -> None:
        """Show the share of an image that is done, where it takes long."""
        self._counts.part = share
        if share > 0:
            self._say_now_and_then()

    def _say_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._said >= _LINE_EVERY_S:
            self._said = now
            click.echo(self._line(), err=True)

    def _line(self) -> str:
        counts, left = self._counts, duration(self._counts.seconds_left)
        images = f"{counts.finished:,} of {counts.total:,} images"
        if counts.part:
            return f"{images} and {counts.part:.0%} of the next, {left} left"
        return f"{images}, {counts.cells:,} cells, {speed(counts.rate)}, {left} left"


class RichProgress:
    """A bar with images per second, cells and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("[cyan]{task.fields[cells]:,} cells"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True, highlight=False),
        )
        self._task: TaskID | None = None
        self._counts = _Counts(0, 0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, activity: str, total: int, already: int = 0) -> None:
        """Draws the bar."""
        self._counts = _Counts(total, already)
        if already:
            self._bar.console.print(_going_on(total, already))
        self._task = self._bar.add_task(activity, total=total, completed=already, cells=0, rate="")

    def note(self, text: str) -> None:
        """Print a message for the person, above the bar."""
        self._bar.console.print(text, markup=False)

    def advance(self, result: ImageResult) -> None:
        """Move the bar by one image; print the reason above it if it failed."""
        from rich.markup import escape

        assert self._task is not None, "start comes first"
        self._counts.add(result)
        if result.status == "failed":
            text = escape(f"{shown(result.ref.image)}: {shown(result.reason)}")
            self._bar.console.print(f"[red]failed[/red]: {text}")
        rate = speed(self._counts.rate)
        self._bar.update(
            self._task, completed=self._counts.finished, cells=self._counts.cells, rate=rate
        )

    def within(self, share: float) -> None:
        """Move the bar within the current image, for images that take long."""
        assert self._task is not None, "start comes first"
        self._counts.part = share
        self._bar.update(
            self._task, completed=self._counts.finished + share, rate=f"{share:.0%} of this one"
        )


def progress() -> PlainProgress | RichProgress:
    """The bar on a terminal, plain lines otherwise."""
    return RichProgress() if sys.stderr.isatty() else PlainProgress()
