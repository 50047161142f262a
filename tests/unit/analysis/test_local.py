"""The local runner: in order, never more at once than allowed, and every end is a clean one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cellcount.analysis.load import Loaded
from cellcount.analysis.local import read_ahead, run_local
from cellcount.core.records import ImageRef
from cellcount.errors import OutputError
from cellcount.store.file_key import key_of

REFS = [ImageRef(Path(f"{n}.png"), f"{n}.png", "s") for n in range(40)]


def read(ref: ImageRef) -> Loaded:
    time.sleep(0.002 if int(ref.path.stem) % 3 else 0)  # some finish before earlier ones
    return Loaded(ref, key_of(ref), None)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_images_come_in_order_whatever_the_workers(workers: int) -> None:
    seen: list[str] = []
    run_local(REFS, read, lambda loaded: seen.append(loaded.ref.image), workers=workers)
    assert seen == [ref.image for ref in REFS]


def test_no_images_is_no_work() -> None:
    run_local([], read, lambda loaded: pytest.fail("nothing to use"), workers=2)


def test_reading_stays_a_few_images_ahead() -> None:
    begun, used, most = [0], 0, 0

    def count(ref: ImageRef) -> Loaded:
        begun[0] += 1
        return Loaded(ref, key_of(ref), None)

    with ThreadPoolExecutor(4) as pool:
        for _ in read_ahead(pool, count, REFS, 5):
            time.sleep(0.001)
            most = max(most, begun[0] - used)
            used += 1
    assert used == len(REFS)
    assert 5 <= most <= 6


def test_drawing_runs_beside_and_never_piles_up() -> None:
    waiting, most, done = 0, 0, 0
    lock = threading.Lock()

    def use(loaded: Loaded) -> Callable[[], None]:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return draw

    def draw() -> None:
        nonlocal waiting, done
        time.sleep(0.003)
        with lock:
            waiting -= 1
            done += 1

    run_local(REFS, read, use, workers=2)
    assert done == len(REFS)
    assert most <= 4


def test_a_drawing_that_fails_ends_the_run() -> None:
    def use(loaded: Loaded) -> Callable[[], None]:
        def draw() -> None:
            raise OutputError(f"cannot write {loaded.ref.image}: No space left on device")

        return draw

    with pytest.raises(OutputError, match="cannot write 0.png"):
        run_local(REFS, read, use, workers=2)


def test_an_interruption_leaves_no_thread_behind() -> None:
    used: list[str] = []

    def use(loaded: Loaded) -> None:
        used.append(loaded.ref.image)
        if len(used) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(REFS, read, use, workers=3)
    assert len(used) == 5
    assert not [t for t in threading.enumerate() if t.name.startswith("cellcount")]
