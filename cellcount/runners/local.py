"""The local runner: one model in the main thread, reading and drawing in a few threads beside it.

Pillow and tifffile release the interpreter lock while they decode and encode, so threads suffice,
and nothing has to be copied between processes. Everything waits in bounded queues: memory does
not grow with the number of images.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cellcount.pipeline import Loaded, Pipeline
from cellcount.records import ImageRef, ImageResult


def default_workers() -> int:
    """Reading threads where none are asked for: one per core up to four."""
    return max(1, min(4, os.cpu_count() or 1))


def read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[ImageRef], Loaded], refs: Sequence[ImageRef],
    ahead: int,
) -> Iterator[Loaded]:
    """The images in order, ``ahead`` of them being read while one is used."""
    waiting: deque[Future[Loaded]] = deque()
    upcoming = iter(refs)
    for ref in upcoming:
        waiting.append(pool.submit(read, ref))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def run_local(
    pipeline: Pipeline,
    refs: Sequence[ImageRef],
    *,
    workers: int,
    on_result: Callable[[Loaded, ImageResult], Callable[[], None] | None],
) -> None:
    """Analyses ``refs`` in order.

    Args:
        pipeline: what is done with each image.
        refs: images that are not done yet.
        workers: threads that read and draw, 0 for the default.
        on_result: called in the main thread with every result; work that it returns (drawing) is
            done in the pool, never more pieces waiting than there are workers.
    """
    count = workers or default_workers()
    drawing: deque[Future[None]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="cellcount")
    try:
        for loaded in read_ahead(pool, pipeline.read, refs, count + 1):
            work = on_result(loaded, pipeline.analyze(loaded))
            if work is not None:
                drawing.append(pool.submit(work))
            while len(drawing) > count:
                drawing.popleft().result()
        while drawing:
            drawing.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
