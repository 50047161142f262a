"""Images shared out among actors that may die, without Ray: the order of events alone."""

from __future__ import annotations

import importlib.util
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellcount.analysis.ray import (
    DIED,
    Analyzed,
    ScaleCache,
    _check_answers,
    _Scheduler,
    actor_resources,
    check_ray,
)
from cellcount.core.records import ImageRef, ImageResult
from cellcount.errors import CellcountError, UsageError
from cellcount.settings import RunSettings
from cellcount.store.file_key import FileKey

REFS = [ImageRef(Path(f"{n}.png"), f"{n}.png", "s") for n in range(9)]


class TaskError(Exception):
    cause = "the weights are not those of the driver"


class ActorError(Exception):
    pass


class Cluster:
    """Answers in the order of asking; ``fate`` says of each image whether its actor dies now."""

    def __init__(self, fate: Callable[[str], bool] = lambda image: False) -> None:
        self.exceptions = SimpleNamespace(RayTaskError=TaskError, RayActorError=ActorError)
        self.fate = fate
        self.most_waiting = 0
        self.asked: list[str] = []

    def wait(self, answers: list[Answer], num_returns: int) -> tuple[list[Answer], list[Answer]]:
        assert num_returns == 1
        first = min(answers, key=lambda a: a.number)
        return [first], [a for a in answers if a is not first]

    def get(self, answer: Answer) -> Any:  # noqa: ANN401
        return answer.take()


class Answer:
    count = 0

    def __init__(self, take: Callable[[], Any]) -> None:
        Answer.count += 1
        self.number, self.take = Answer.count, take


class Handle:
    """An actor of one process; when that dies, all it has been asked fails."""

    def __init__(self, cluster: Cluster, *, starts: bool | None = True) -> None:
        self.cluster, self.starts, self.life = cluster, starts, 0
        self.queue = deque[str]()
        self.ready = SimpleNamespace(remote=self._ready)
        self.analyze = SimpleNamespace(remote=self._analyze)

    def _ready(self, order: str) -> Answer:
        assert order == "order"

        def take() -> None:
            if self.starts is None:
                raise TaskError
            if not self.starts:
                raise ActorError("the actor died\nno memory on node 7")

        return Answer(take)

    def _analyze(self, ref: ImageRef) -> Answer:
        life = self.life
        self.queue.append(ref.image)
        self.cluster.asked.append(ref.image)
        self.cluster.most_waiting = max(self.cluster.most_waiting, len(self.queue))

        def take() -> Analyzed:
            self.queue.remove(ref.image)
            if life < self.life:
                raise ActorError("the actor died")
            if self.cluster.fate(ref.image):
                self.life += 1
                raise ActorError("the actor died")
            return Analyzed(ImageResult(ref, "done"), FileKey("", ""), {})

        return Answer(take)


def outcome(cluster: Cluster, actors: int = 2, check: Callable[[], None] = lambda: None) -> Any:  # noqa: ANN401
    done: list[ImageResult] = []
    handles = [Handle(cluster) for _ in range(actors)]
    _Scheduler(cluster, handles, REFS, "order").until_done(lambda a: done.append(a.result), check)
    return {result.ref.image: (result.status, result.reason) for result in done}, len(done)


def test_every_image_once_and_two_wait_at_each_actor() -> None:
    cluster = Cluster()
    results, count = outcome(cluster)
    assert count == len(results) == 9
    assert set(results.values()) == {("done", "")}
    assert cluster.most_waiting == 2


def test_a_worker_that_dies_costs_nothing() -> None:
    left = {"3.png"}

    def once(image: str) -> bool:
        dies = image in left
        left.discard(image)
        return dies

    cluster = Cluster(once)
    results, count = outcome(cluster)
    assert count == len(results) == 9
    assert set(results.values()) == {("done", "")}


@pytest.mark.parametrize("actors", [1, 2, 5])
def test_an_image_that_kills_every_worker_costs_itself_alone(actors: int) -> None:
    results, count = outcome(Cluster(lambda image: image == "4.png"), actors)
    assert count == len(results) == 9
    assert results.pop("4.png") == ("failed", DIED.format(3))
    assert set(results.values()) == {("done", "")}


def test_a_worker_that_never_starts_ends_the_run_when_it_is_the_last() -> None:
    cluster = Cluster()
    done: list[Analyzed] = []
    alone = _Scheduler(cluster, [Handle(cluster, starts=False)], REFS, "order")
    with pytest.raises(CellcountError, match="no Ray worker can be started: no memory on node 7"):
        alone.until_done(done.append, lambda: None)
    some = [Handle(cluster, starts=False), Handle(cluster)]
    _Scheduler(cluster, some, REFS, "order").until_done(done.append, lambda: None)
    assert len(done) == 9


def test_other_weights_on_a_node_end_the_run() -> None:
    cluster = Cluster()
    handles = [Handle(cluster), Handle(cluster, starts=None)]
    with pytest.raises(CellcountError, match="a Ray worker failed: the weights are not those"):
        _Scheduler(cluster, handles, REFS, "order").until_done(lambda a: None, lambda: None)


def test_an_end_waits_for_the_images_in_hand() -> None:
    cluster = Cluster()
    done: list[Analyzed] = []

    def check() -> None:
        if len(done) >= 2:
            raise KeyboardInterrupt

    handles = [Handle(cluster), Handle(cluster)]
    with pytest.raises(KeyboardInterrupt):
        _Scheduler(cluster, handles, REFS, "order").until_done(done.append, check)
    assert 2 <= len(done) < 9
    assert sorted(cluster.asked) == sorted(a.result.ref.image for a in done)


@pytest.mark.parametrize(
    ("resources", "device", "workers", "expected"),
    [
        ({"CPU": 8.0}, "auto", 0, (8, 0.0)),
        ({"CPU": 8.0}, "cpu", 3, (3, 0.0)),
        ({"CPU": 64.0, "GPU": 4.0}, "auto", 0, (8, 0.5)),
        ({"CPU": 64.0, "GPU": 4.0}, "cuda", 16, (16, 0.25)),
        ({"CPU": 64.0, "GPU": 4.0}, "cuda", 2, (2, 1.0)),
        ({"CPU": 64.0, "GPU": 4.0}, "cpu", 0, (64, 0.0)),
        ({}, "auto", 0, (1, 0.0)),
    ],
)
def test_actors_share_processors_and_gpus(
    resources: dict[str, float], device: str, workers: int, expected: tuple[int, float]
) -> None:
    assert actor_resources(resources, device, workers) == expected


def test_scales_are_handed_over_once() -> None:
    notes = ScaleCache({"scale:a": 1.0})
    notes.set_value("scale:b", {"factor": 2.0})
    assert (notes.get_value("scale:a"), notes.get_value("scale:b")) == (1.0, {"factor": 2.0})
    assert notes.take() == {"scale:b": {"factor": 2.0}}
    assert notes.take() == {}


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_nobody_at_an_address_is_said_at_once(address: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(CellcountError, match="no Ray cluster at .*start one with ray start"):
            _check_answers(address.format(port))  # bound, but nobody listens


def test_an_address_without_ray_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="add --runner ray"):
        RunSettings(ray_address="10.0.0.1:6379")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'cellcount\[ray\]'"):
        check_ray()
