"""The local runner: in order, never more at once than allowed, and every end is a clean one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellcount.analysis.load import Loaded
from cellcount.analysis.local import images_at_once, run_local
from cellcount.core.records import ImageRef
from cellcount.core.side_by_side import in_order
from cellcount.engines.field_detector import FieldDetector
from cellcount.errors import OutputError
from cellcount.store.file_key import key_of

REFS = [ImageRef(Path(f"{n}.png"), f"{n}.png", "s") for n in range(40)]


def read(ref: ImageRef) -> Loaded:
    time.sleep(0.002 if int(ref.path.stem) % 3 else 0)  # some finish before earlier ones
    return Loaded(ref, key_of(ref), None)


def as_it_is(loaded: Loaded) -> Loaded:
    return loaded


def name_after_a_while(loaded: Loaded) -> str:
    time.sleep(0.004 if int(loaded.ref.path.stem) % 2 else 0)  # later ones may be done before
    return loaded.ref.image


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_images_come_in_order_whatever_the_threads(workers: int, at_once: int) -> None:
    seen: list[str] = []
    run_local(
        REFS, read, name_after_a_while, lambda n: seen.append(n), workers=workers, at_once=at_once
    )
    assert seen == [ref.image for ref in REFS]


@pytest.mark.parametrize("at_once", [1, 3])
def test_as_many_images_as_allowed_are_analysed_side_by_side(at_once: int) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def analyze(loaded: Loaded) -> threading.Thread:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        return threading.current_thread()

    threads: set[threading.Thread] = set()
    run_local(REFS, read, analyze, lambda t: threads.add(t), workers=2, at_once=at_once)
    assert most == at_once
    assert (threading.current_thread() in threads) == (at_once == 1)  # where a signal can end it


@pytest.mark.parametrize(
    ("tiles", "batches", "images"), [(4, 4, 4), (4, 1, 1), (1, 4, 1), (64, 64, 8), (2, None, 2)]
)
def test_images_are_as_many_as_both_models_compute_side_by_side(
    tiles: int, batches: int | None, images: int
) -> None:
    engine: Any = SimpleNamespace(
        tiles_at_once=tiles, card=SimpleNamespace(inference=SimpleNamespace(tile_px=768))
    )
    loaded: Any = batches and SimpleNamespace(classifier=SimpleNamespace(batches_at_once=batches))
    assert images_at_once(FieldDetector(engine), loaded) == images


def test_images_in_hand_are_used_when_a_signal_ends_the_run() -> None:
    begun: list[str] = []
    used: list[str] = []

    def analyze(loaded: Loaded) -> str:
        begun.append(loaded.ref.image)
        return loaded.ref.image

    def check() -> None:
        if len(used) >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(REFS, read, analyze, lambda n: used.append(n), workers=2, at_once=3, check=check)
    assert 5 <= len(used) < len(REFS)
    assert used == begun[: len(used)] == [ref.image for ref in REFS[: len(begun)]]


def test_an_analysis_that_ends_the_run_is_told_by_its_own_error() -> None:
    def analyze(loaded: Loaded) -> Loaded:
        if loaded.ref.image == "3.png":
            raise KeyboardInterrupt  # a whole slide, stopped between its windows
        return loaded

    used: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_local(REFS, read, analyze, lambda d: used.append(d.ref.image), workers=2, at_once=2)
    assert used[:3] == ["0.png", "1.png", "2.png"]
    assert "3.png" not in used


def test_an_image_beside_two_stopped_slides_is_used() -> None:
    together = threading.Barrier(3, timeout=10)

    def analyze(loaded: Loaded) -> str:
        if loaded.ref.image in ("0.png", "1.png", "2.png"):
            together.wait()
        if loaded.ref.image in ("0.png", "1.png"):
            raise KeyboardInterrupt
        return loaded.ref.image

    used: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_local(REFS, read, analyze, lambda name: used.append(name), workers=2, at_once=3)
    assert used == ["2.png"]


def test_a_second_signal_uses_no_image_any_more() -> None:
    together = threading.Barrier(3, timeout=10)
    main = threading.main_thread().ident
    assert main is not None

    def analyze(loaded: Loaded) -> str:
        if together.wait() == 0:
            time.sleep(0.05)  # until the first of them is waited for
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.2)
        return loaded.ref.image

    used: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_local(REFS, read, analyze, lambda name: used.append(name), workers=2, at_once=3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert used == []


def test_no_images_is_no_work() -> None:
    run_local([], read, as_it_is, lambda loaded: pytest.fail("nothing to use"), workers=2)


def test_reading_stays_a_few_images_ahead() -> None:
    begun, used, most = [0], 0, 0

    def count(ref: ImageRef) -> Loaded:
        begun[0] += 1
        return Loaded(ref, key_of(ref), None)

    with ThreadPoolExecutor(4) as pool:
        for _ in in_order(pool, count, REFS, 5):
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

    run_local(REFS, read, as_it_is, use, workers=2)
    assert done == len(REFS)
    assert most <= 4


def test_a_drawing_that_fails_ends_the_run() -> None:
    def use(loaded: Loaded) -> Callable[[], None]:
        def draw() -> None:
            raise OutputError(f"cannot write {loaded.ref.image}: No space left on device")

        return draw

    with pytest.raises(OutputError, match="cannot write 0.png"):
        run_local(REFS, read, as_it_is, use, workers=2)


def test_an_interruption_leaves_no_thread_behind() -> None:
    used: list[str] = []

    def use(loaded: Loaded) -> None:
        used.append(loaded.ref.image)
        if len(used) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(REFS, read, as_it_is, use, workers=3)
    assert len(used) == 5
    assert not [t for t in threading.enumerate() if t.name.startswith("cellcount")]
