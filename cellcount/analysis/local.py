"""The local runner: one model in the main thread, reading and writing in a few threads beside it.

Pillow and tifffile release the interpreter lock while they decode and encode, so threads suffice,
and nothing has to be copied between processes. Everything waits in bounded queues: memory does
not grow with the number of images.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from cellcount.analysis.load import Loaded
from cellcount.core.processors import usable_processors
from cellcount.core.records import ImageRef

Work: TypeAlias = Callable[[], None]
Read = TypeVar("Read")


def default_workers() -> int:
    """Default number of reading threads: one per processor, at most four."""
    return min(4, usable_processors())


def _yield_to_the_model() -> None:
    """Give the calling thread a lower priority, where the system has priorities of threads.

    The threads of a layer wait for each other: where drawing takes a core from one of them, all
    are late. Drawing fits in between, where the model is not at work on all cores.
    """
    if sys.platform == "linux":
        os.nice(10)


def read_ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[ImageRef], Read],
    refs: Sequence[ImageRef],
    ahead: int,
) -> Iterator[Read]:
    """The images in order, ``ahead`` of them being read while one is used."""
    waiting: deque[Future[Read]] = deque()
    for ref in refs:
        waiting.append(pool.submit(read, ref))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def run_local(
    refs: Sequence[ImageRef],
    read: Callable[[ImageRef], Loaded],
    use: Callable[[Loaded], Work | None],
    *,
    workers: int,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Reads the images in threads and uses them in order in this one.

    Args:
        refs: the images.
        read: called in the threads.
        use: called here with every image; work that it returns (storing, drawing) is done in the
            threads, never more pieces waiting than there are workers, and whatever was returned
            is done before this function ends, also by an exception.
        workers: threads, 0 for the default.
        check: called here before and after every image; ends the run by raising.
    """
    count = workers or default_workers()
    waiting: deque[Future[None]] = deque()
    readers = ThreadPoolExecutor(count, thread_name_prefix="cellcount-read")
    writers = ThreadPoolExecutor(
        count, thread_name_prefix="cellcount-write", initializer=_yield_to_the_model
    )
    try:
        for loaded in read_ahead(readers, read, refs, count + 1):
            check()
            work = use(loaded)
            if work is not None:
                waiting.append(writers.submit(work))
            while len(waiting) > count:
                waiting.popleft().result()
            check()
        while waiting:
            waiting.popleft().result()
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        writers.shutdown(wait=True)
