"""Ending a run by a signal: the images in hand are finished first; a second signal ends it at once.

A batch system sends SIGTERM some seconds before SIGKILL, a person presses Ctrl-C: either way what
was begun is worth its end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_SAID = (
    b"Stopping after the images in hand (whole slides stop immediately). "
    b"Press Ctrl-C again to stop now.\n"
)
Handler = Callable[[int, FrameType | None], object]


class Stopping:
    """Remembers the first signal; ``check`` acts on it."""

    def __init__(self) -> None:
        self._before: dict[int, Handler] = {}
        self._arrived: int | None = None

    def arrive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: remember the first one, pass the next one to the earlier handler."""
        if self._arrived is None:
            self._arrived = number
            # Not by sys.stderr: this may have come while that was writing, which then raises.
            with suppress(OSError):
                os.write(_STDERR, _SAID)
        else:
            self._before[number](number, frame)

    def check(self) -> None:
        """Call the earlier handler, which raises, if a signal has arrived."""
        if self._arrived is not None:
            self._before[self._arrived](self._arrived, None)

    def take(self, number: int) -> None:
        """Handle a signal in place of its present handler, if it has one that can be called."""
        before = signal.getsignal(number)
        if callable(before):  # not where it is ignored or left to the system
            self._before[number] = before
            signal.signal(number, self.arrive)

    def give_back(self) -> None:
        """Put all handlers back."""
        for number, before in self._before.items():
            signal.signal(number, before)


@contextmanager
def image_in_hand_first() -> Iterator[Stopping]:
    """Delay SIGINT and SIGTERM within the block until ``check`` is called; stderr says so."""
    stopping = Stopping()
    try:
        for number in _SIGNALS:
            stopping.take(number)
    except ValueError:  # not in the main thread, where handlers cannot be set
        pass
    try:
        yield stopping
    finally:
        stopping.give_back()
