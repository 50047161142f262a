"""The local runner: images are read, analysed, and stored and drawn in threads of their own.

Pillow, tifffile, numpy and the engines release the interpreter lock while they compute, so threads
suffice, and nothing has to be copied between processes. Everything waits in bounded queues: memory
does not grow with the number of images.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from cellcount.analysis.load import Loaded
from cellcount.analysis.loaded_models import LoadedClassifier
from cellcount.core.processors import usable_processors
from cellcount.core.records import ImageRef
from cellcount.core.side_by_side import in_order
from cellcount.engines.field_detector import FieldDetector

Work: TypeAlias = Callable[[], None]
Done = TypeVar("Done")


def images_at_once(detector: FieldDetector, loaded: LoadedClassifier | None) -> int:
    """Images to analyse side by side: as many as both models look at."""
    if loaded is None:
        return detector.images_at_once
    return min(detector.images_at_once, loaded.classifier.batches_at_once)


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


def run_local(
    refs: Sequence[ImageRef],
    read: Callable[[ImageRef], Loaded],
    analyze: Callable[[Loaded], Done],
    use: Callable[[Done], Work | None],
    *,
    workers: int,
    at_once: int = 1,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Reads the images in threads, analyses them, and uses what comes out in order in this one.

    Args:
        refs: the images.
        read: called in the threads.
        analyze: called in threads of its own, or here where it is ``at_once`` alone.
        use: called here with every analysed image; work that it returns (storing, drawing) is done
            in threads, never more pieces waiting than there are workers, and whatever was returned
            is done before this function ends, also by an exception.
        workers: threads that read, and that store and draw; 0 for the default.
        at_once: images that are analysed side by side.
        check: called here before and after every image; ends the run by raising. Images that are
            being analysed when it, or one of them, raises ``KeyboardInterrupt`` are used before. A
            signal that raises it itself waits for none of them.
    """
    count = workers or default_workers()
    readers = ThreadPoolExecutor(count, thread_name_prefix="cellcount-read")
    analysts = ThreadPoolExecutor(at_once, thread_name_prefix="cellcount-analyze")
    writers = ThreadPoolExecutor(
        count, thread_name_prefix="cellcount-write", initializer=_yield_to_the_model
    )
    in_hand: deque[Future[Done]] = deque()
    written: deque[Future[None]] = deque()

    def use_next() -> KeyboardInterrupt | None:
        """Use the image longest in hand; return what ended its analysis, as it does a scan's."""
        analyzed = in_hand.popleft()
        if isinstance(end := analyzed.exception(), KeyboardInterrupt):
            return end
        work = use(analyzed.result())
        if work is not None:
            written.append(writers.submit(work))
        while len(written) > count:
            written.popleft().result()
        return None

    def go_on(end: KeyboardInterrupt | None = None) -> None:
        """Raise, after the images in hand, where the run is to end."""
        try:
            check()
        except KeyboardInterrupt as told:
            end = end or told
        if end is not None:
            while in_hand:
                use_next()
            raise end

    try:
        for loaded in in_order(readers, read, refs, count + 1):
            go_on()
            in_hand.append(
                analysts.submit(analyze, loaded) if at_once > 1 else _now(analyze, loaded)
            )
            if len(in_hand) >= at_once:
                go_on(use_next())
        while in_hand:
            go_on(use_next())
        while written:
            written.popleft().result()
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        analysts.shutdown(wait=True, cancel_futures=True)
        writers.shutdown(wait=True)


def _now(analyze: Callable[[Loaded], Done], loaded: Loaded) -> Future[Done]:
    """Analyse an image in this thread, where a signal can end it."""
    done: Future[Done] = Future()
    done.set_result(analyze(loaded))
    return done
