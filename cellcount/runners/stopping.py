"""Ending a run by a signal: the image in hand is finished first, a second signal ends it at once.

A batch system sends SIGTERM some seconds before SIGKILL, a person presses Ctrl-C: either way what
was begun is worth its end.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], object]


class Stopping:
    """Remembers the first signal; ``check`` acts on it."""

    def __init__(self, said: Callable[[str], None]) -> None:
        self._said = said
        self._before: dict[int, Handler] = {}
        self._arrived: int | None = None

    def arrive(self, number: int, frame: FrameType | None) -> None:
        """A signal is here: the first one is kept, the next one acts as it would have before."""
        if self._arrived is None:
            self._arrived = number
            self._said("stopping after the image in hand; once more stops at once")
        else:
            self._before[number](number, frame)

    def check(self) -> None:
        """Ends the work here if a signal has come: raises what its own handler raises."""
        if self._arrived is not None:
            self._before[self._arrived](self._arrived, None)

    def take(self, number: int) -> None:
        """Stand before the handler of a signal, if it has one that can be called."""
        before = signal.getsignal(number)
        if callable(before):  # not where it is ignored or left to the system
            self._before[number] = before
            signal.signal(number, self.arrive)

    def give_back(self) -> None:
        """Put all handlers back."""
        for number, before in self._before.items():
            signal.signal(number, before)


@contextmanager
def image_in_hand_first(said: Callable[[str], None]) -> Iterator[Stopping]:
    """While it lasts, SIGINT and SIGTERM wait for ``check``.

    Args:
        said: called with a line for the person who waits.
    """
    stopping = Stopping(said)
    try:
        for number in _SIGNALS:
            stopping.take(number)
    except ValueError:  # not in the main thread, where handlers cannot be set
        pass
    try:
        yield stopping
    finally:
        stopping.give_back()
