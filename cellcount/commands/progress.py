"""Progress of a job: a rich bar on a terminal, plain lines in a batch job. All on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from cellcount.records import ImageResult

_LINE_EVERY_S = 15.0


class PlainProgress:
    """One line now and then: what schedulers and log files can hold."""

    def __init__(self) -> None:
        self._total = self._finished = self._now = self._cells = self._failed = 0
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def start(self, total: int, already: int) -> None:
        """Says how much there is to do."""
        self._total, self._finished = total, already
        self._started = self._said = time.monotonic()
        if already:
            click.echo(f"{already} of {total} images are in the journal; going on", err=True)

    def advance(self, result: ImageResult) -> None:
        """Counts one more image; failures are said at once."""
        self._finished += 1
        self._now += 1
        self._cells += len(result.cells)
        if result.status == "failed":
            self._failed += 1
            click.echo(f"failed: {result.ref.image}: {result.reason}", err=True)
        now = time.monotonic()
        if now - self._said >= _LINE_EVERY_S:
            self._said = now
            click.echo(self._line(now), err=True)

    def _line(self, now: float) -> str:
        rate = self._now / max(now - self._started, 1e-9)
        left = (self._total - self._finished) / rate
        return (
            f"{self._finished}/{self._total} images, {self._cells:,} cells, "
            f"{rate:.2f} images/s, {_span(left)} left"
        )


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
            TextColumn("[bold]Counting"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("[cyan]{task.fields[cells]:,} cells"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: Any = None
        self._cells = self._now = 0
        self._started = time.monotonic()

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

    def start(self, total: int, already: int) -> None:
        """Draws the bar."""
        self._started = time.monotonic()
        self._task = self._bar.add_task("", total=total, completed=already, cells=0, rate="")
        if already:
            self._bar.console.print(f"{already} of {total} images are in the journal; going on")

    def advance(self, result: ImageResult) -> None:
        """Moves the bar; failures are said above it."""
        from rich.markup import escape

        self._cells += len(result.cells)
        self._now += 1
        rate = self._now / max(time.monotonic() - self._started, 1e-9)
        if result.status == "failed":
            text = escape(f"{result.ref.image}: {result.reason}")
            self._bar.console.print(f"[red]failed[/red] {text}")
        self._bar.update(self._task, advance=1, cells=self._cells, rate=f"{rate:.1f} images/s")


def progress() -> PlainProgress | RichProgress:
    """The bar on a terminal, plain lines otherwise."""
    return RichProgress() if sys.stderr.isatty() else PlainProgress()


def _span(seconds: float) -> str:
    """A duration for people: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


duration = _span
