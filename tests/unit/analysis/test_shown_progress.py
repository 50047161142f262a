"""Plain progress: a line now and then, with rate and time left that can be checked by hand."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from cellcount.analysis.shown_progress import PlainProgress
from cellcount.core.records import Cells, Detections, ImageRef, ImageResult


def done(image: str, cells: int = 3) -> ImageResult:
    boxes = np.zeros((cells, 4), np.float32)
    found = Detections(boxes, np.ones(cells, np.float32), np.zeros(cells, np.int64))
    ref = ImageRef(Path(image), image, "s")
    return ImageResult(ref, "done", cells=Cells(found, np.zeros(cells, np.bool_)))


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(1000.0)
    monkeypatch.setattr(time, "monotonic", found)
    return found


def test_lines_come_at_intervals(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bar = PlainProgress()
    bar.start("Counting", 100, 20)
    for _ in range(40):  # 2 images a second
        clock.now += 0.5
        bar.advance(done("a.png"))
    assert capsys.readouterr().err.splitlines() == [
        "going on: 20 of 100 images done before",
        "Counting 80 images",
        "50 of 100 images, 90 cells, 2.00 images/s, 25 s left",
    ]


def test_a_slide_that_takes_long_says_how_far_it_is(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = PlainProgress()
    bar.start("Counting", 4)
    for share in (0.0, 0.1, 0.2, 0.3, 0.4):
        bar.within(share)
        clock.now += 10
    bar.advance(done("a.tif"))
    assert capsys.readouterr().err.splitlines() == [
        "Counting 4 images",
        "0 of 4 images and 20% of the next, 6 min left",  # 20 s for 0.2 of one, 3.8 to come
        "0 of 4 images and 40% of the next, 6 min left",
    ]
    bar.within(0.5)
    clock.now += 100
    bar.within(0.5)
    assert "1 of 4 images and 50% of the next, 4 min left" in capsys.readouterr().err


def test_the_bar_moves_within_an_image() -> None:
    from cellcount.analysis.shown_progress import RichProgress

    with RichProgress() as bar:
        bar.start("Counting", 2)
        bar.within(0.25)
        (task,) = bar._bar.tasks
        assert (task.completed, task.fields["rate"]) == (0.25, "25% of this one")
        bar.advance(done("a.tif"))
        assert task.completed == 1


def test_nothing_left_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    PlainProgress().start("Counting", 1, 1)
    assert capsys.readouterr().err == "going on: 1 of 1 image done before\n"


def test_failures_are_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    bar = PlainProgress()
    bar.start("Counting", 2)
    bar.advance(ImageResult(ImageRef(Path("x"), "x\n.png", "s"), "failed", "empty file"))
    assert capsys.readouterr().err.splitlines()[-1] == "failed: x\\n.png: empty file"
