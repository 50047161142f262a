"""Work of several threads side by side, with results in order.

Shapes: none.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


_asking = threading.local()


@contextmanager
def in_this_thread() -> Iterator[None]:
    """Let the thread that asks do all work in the block, where a counter or a profiler sees it."""
    before = getattr(_asking, "does_it", False)
    _asking.does_it = True
    try:
        yield
    finally:
        _asking.does_it = before


class SideBySide:
    """Threads that compute items side by side; several threads may ask them at once.

    They start with the first work, since a process may be forked before.

    Args:
        count: of threads; with one, work is done by the thread that asks.
        start: makes threads that are special in some way, which then do all work; None for common
            ones, which leave a single item to the thread that asks.
    """

    def __init__(
        self, count: int, start: Callable[[int], ThreadPoolExecutor] | None = None
    ) -> None:
        self._count, self._start = count, start
        self._starting = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def map(self, compute: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Compute every item; results are in the order of the items.

        An error is raised when nothing is at work any more, so that less can be tried where memory
        was short.
        """
        is_little = self._start is None and len(items) < 2
        if self._count == 1 or is_little or getattr(_asking, "does_it", False):
            return [compute(item) for item in items]
        with self._starting:
            if self._pool is None:
                self._pool = (self._start or ThreadPoolExecutor)(self._count)
        begun = [self._pool.submit(compute, item) for item in items]
        try:
            return [future.result() for future in begun]
        finally:
            wait([future for future in begun if not future.cancel()])
            begun.clear()  # an error holds on to this frame


def in_order(
    pool: ThreadPoolExecutor,
    compute: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
) -> Iterator[Result]:
    """Compute items in a pool, ``ahead`` of them while one is used; results come in order."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(compute, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
