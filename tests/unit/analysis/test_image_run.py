"""Images that may be analysed side by side, and scans, which take turns."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellcount.analysis.image_run import scans_one_by_one
from cellcount.analysis.load import Loaded
from cellcount.core.records import ImageRef, ImageResult
from cellcount.store.file_key import key_of


def image(name: str, *, scan: bool) -> Loaded:
    ref = ImageRef(Path(name), name, "s")
    source: Any = SimpleNamespace(picture=None if scan else "pixels")
    return Loaded(ref, key_of(ref), source)


class Analyst:
    """Counts the images that are analysed at the same time."""

    def __init__(self) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def __call__(self, loaded: Loaded) -> ImageResult:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
        return ImageResult(loaded.ref, "done")


@pytest.mark.parametrize(("scan", "most"), [(True, 1), (False, 3)])
def test_scans_take_turns_and_fields_do_not(scan: bool, most: int) -> None:
    analyst = Analyst()
    in_turn = scans_one_by_one(analyst, lambda: None)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(in_turn, [image(f"{n}", scan=scan) for n in range(6)]))
    assert [result.ref.image for result in found] == [str(n) for n in range(6)]
    assert analyst.most == most


def test_a_scan_that_waited_while_a_signal_came_is_not_begun() -> None:
    stopped = threading.Event()
    begun: list[str] = []

    def analyze(loaded: Loaded) -> ImageResult:
        begun.append(loaded.ref.image)
        time.sleep(0.05)
        stopped.set()
        return ImageResult(loaded.ref, "done")

    def stop() -> None:
        if stopped.is_set():
            raise KeyboardInterrupt

    in_turn = scans_one_by_one(analyze, stop)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(in_turn, image("first", scan=True))
        while not begun:
            time.sleep(0.001)
        second = pool.submit(in_turn, image("second", scan=True))
        assert first.result().status == "done"
        assert isinstance(second.exception(), KeyboardInterrupt)
    assert begun == ["first"]


def test_an_image_that_could_not_be_read_waits_for_none() -> None:
    ref = ImageRef(Path("a"), "a", "s")
    never = scans_one_by_one(lambda loaded: ImageResult(loaded.ref, "failed"), pytest.fail)
    assert never(Loaded(ref, key_of(ref), None, "broken")).status == "failed"
