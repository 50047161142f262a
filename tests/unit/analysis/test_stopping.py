"""Signals: the first waits for the images in hand, the second does not, and handlers come back."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from cellcount.analysis.stopping import image_in_hand_first
from cellcount.cli import Terminated, _sigterm_raises


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def work(said: list[str], *signals: signal.Signals) -> None:
    """An image during which signals arrive."""
    with image_in_hand_first() as stopping:
        stopping.check()
        for number in signals:
            os.kill(os.getpid(), number)
        said.append("finished")
        stopping.check()


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_the_first_signal_waits_for_the_check(
    number: signal.Signals, error: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    with _sigterm_raises():
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with pytest.raises(error) as caught:
            work(said, number)
        assert type(caught.value) is error
        assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert said == ["finished"]
    assert "Press Ctrl-C again to stop now" in capfd.readouterr().err


def test_a_signal_while_stderr_is_being_written_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Python refuses to write to a stream from a handler that interrupted its writing."""

    class Busy(io.StringIO):
        def write(self, text: str) -> int:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr("sys.stderr", Busy())
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work(said, signal.SIGINT)
    assert said == ["finished"]
    assert "Stopping after the images in hand" in capfd.readouterr().err


def test_the_second_signal_acts_at_once() -> None:
    said: list[str] = []
    with _sigterm_raises(), pytest.raises(Terminated):
        work(said, signal.SIGINT, signal.SIGTERM)
    assert said == []


def test_what_is_ignored_stays_ignored_and_a_thread_changes_nothing() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with image_in_hand_first() as stopping:
        os.kill(os.getpid(), signal.SIGINT)
        stopping.check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    def elsewhere() -> None:
        with image_in_hand_first() as stopping:
            stopping.check()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
