"""Threads side by side: results in order, every item once, errors told."""

from __future__ import annotations

import threading
import time

import pytest

from cellcount.core.side_by_side import SideBySide, in_this_thread


def after_a_while(number: int) -> int:
    time.sleep(0.002 * (number % 3))
    return number * number


@pytest.mark.parametrize("count", [1, 4])
def test_results_are_in_the_order_of_the_items(count: int) -> None:
    assert SideBySide(count).map(after_a_while, range(20)) == [n * n for n in range(20)]


def test_items_are_computed_at_once() -> None:
    together = threading.Barrier(3, timeout=10)  # passed only where all three are there
    assert len(SideBySide(3).map(lambda _: together.wait(), range(3))) == 3


def test_one_thread_or_one_item_needs_no_other_thread() -> None:
    own = threading.current_thread()
    assert SideBySide(1).map(lambda _: threading.current_thread(), range(3)) == [own] * 3
    assert SideBySide(4).map(lambda _: threading.current_thread(), [0]) == [own]


def test_a_counter_can_have_all_work_in_its_own_thread() -> None:
    own, threads = threading.current_thread(), SideBySide(3)
    with in_this_thread():
        assert threads.map(lambda _: threading.current_thread(), range(3)) == [own] * 3
    assert own not in threads.map(lambda _: threading.current_thread(), range(3))


def test_several_threads_may_ask_the_same_threads() -> None:
    shared = SideBySide(2)
    found: dict[int, list[int]] = {}

    def ask(first: int) -> None:
        found[first] = shared.map(after_a_while, range(first, first + 10))

    asking = [threading.Thread(target=ask, args=[n]) for n in range(5)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert found == {n: [m * m for m in range(n, n + 10)] for n in range(5)}


def test_an_error_is_told_to_the_thread_that_asks() -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 2"):
        SideBySide(2).map(fail, range(4))


def test_nothing_is_at_work_any_more_when_an_error_is_told() -> None:
    together, ended = threading.Barrier(2, timeout=10), list[int]()

    def compute(number: int) -> None:
        if number < 2:
            together.wait()
        if number == 0:
            raise MemoryError
        time.sleep(0.05)
        ended.append(number)

    threads = SideBySide(2)
    with pytest.raises(MemoryError):
        threads.map(compute, range(20))
    then = list(ended)
    assert 1 in then
    time.sleep(0.1)
    assert ended == then
