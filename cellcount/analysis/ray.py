"""The Ray runner: the same pipeline in actors on a cluster, the journal on the driver.

Each actor loads the models once, from the files that the driver has (their hashes are compared),
and is sent one image after another; a second one waits at each, so that none is idle, and no more,
so that memory does not grow with the number of images. Results come back without pixels and in any
order. An image whose actor dies is tried again, alone on an actor, so that a file which ends every
process that opens it costs itself and nothing else.

Folders must have the same paths on all nodes, as on a network file system.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from cellcount.analysis.load import load
from cellcount.analysis.loaded_models import Models
from cellcount.analysis.pipeline import Pipeline
from cellcount.analysis.slide_scales import SlideScales
from cellcount.core.records import ImageRef, ImageResult
from cellcount.errors import CellcountError, UsageError
from cellcount.settings import AUTO_ADDRESS, AnalyzeSettings, RunSettings
from cellcount.store.changed_settings import Json
from cellcount.store.file_key import FileKey, key_of

#: Two actors share a GPU: one reads while the other computes.
_PER_GPU = 2
_WAITING = 2  # images at an actor, the one in hand included
_TRIES = 3
_ANSWER_S = 5.0
DIED = "its worker died {} times while it was analysed"


class Analyzed(NamedTuple):
    """Answer of an actor: a result, the state of its file, and newly measured scales."""

    result: ImageResult
    file_key: FileKey
    values: dict[str, Json]


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Specification that every actor is given once.

    Attributes:
        settings: what decides the numbers.
        refs: all images of the run: the scale of a slide is measured on some of them.
        values: scales that are known.
        hashes: of the weights that the driver has.
        folder: the driver's current folder, where relative paths start.
    """

    settings: AnalyzeSettings
    refs: tuple[ImageRef, ...]
    values: dict[str, Json]
    hashes: tuple[str, ...]
    folder: str = field(default_factory=os.getcwd)


class ScaleCache:
    """Cache of scales in an actor; newly measured ones go to the driver with the next result."""

    def __init__(self, known: dict[str, Json]) -> None:
        self._known, self._new = dict(known), dict[str, Json]()

    def get_value(self, name: str) -> Json:
        """The value of that name, or None."""
        return self._known.get(name)

    def set_value(self, name: str, value: Json, forget: Iterable[str] = ()) -> None:
        """Keeps a value; there are no results to forget here."""
        self._known[name] = self._new[name] = value

    def take(self) -> dict[str, Json]:
        """Return the scales measured since the last call."""
        new, self._new = self._new, {}
        return new


class Worker:
    """An actor: the models of a run, loaded once."""

    def ready(self, order: WorkerSpec) -> None:
        """Load the models; called again for a worker that died and was started anew."""
        os.chdir(order.folder)
        models = Models.of(order.settings)
        if models.hashes != order.hashes:
            raise CellcountError(
                f"the weights on {os.uname().nodename} are not those of the driver; give all nodes "
                "the same files"
            )
        self._notes, self._max_pixels = ScaleCache(order.values), order.settings.max_pixels
        scales = SlideScales(order.refs, models.detector, self._notes, self._max_pixels)
        self._pipeline = Pipeline(models.detector, order.settings, scales, models.typer)

    def analyze(self, ref: ImageRef) -> Analyzed:
        """One image, a failed one included."""
        loaded = load(ref, self._max_pixels)
        return Analyzed(self._pipeline.analyze(loaded), loaded.file_key, self._notes.take())


def check_ray() -> None:
    """Raise, before anything is loaded, if Ray is not installed.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--runner ray needs Ray, which is not installed: pip install 'cellcount[ray]', or "
            "use --runner local"
        )


def actor_resources(resources: dict[str, float], device: str, workers: int) -> tuple[int, float]:
    """Number of actors, and the GPUs that each gets; a CPU each where there are none.

    Args:
        resources: of the whole cluster, as Ray names them.
        device: that was asked for.
        workers: actors asked for, 0 for the default.
    """
    gpus = resources.get("GPU", 0.0) if device == "auto" or device.startswith("cuda") else 0.0
    if gpus:
        count = workers or round(gpus * _PER_GPU)
        return count, min(1.0, gpus / count)
    return workers or max(1, int(resources.get("CPU", 1.0))), 0.0


def run_ray(
    pending: Sequence[ImageRef],
    order: WorkerSpec,
    use: Callable[[Analyzed], None],
    run: RunSettings,
    check: Callable[[], None],
) -> None:
    """Analyses images on a cluster.

    Args:
        pending: the images.
        order: what actors are told.
        use: called here with what becomes of every image.
        run: names the cluster, and how many actors.
        check: called here after every image; raises to end the run, which it does when the images
            in hand are finished.

    Raises:
        CellcountError: no cluster, or an actor cannot load the models.
    """
    if not pending:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        _connect(ray, run.ray_address)
    try:
        count, gpus = actor_resources(ray.cluster_resources(), order.settings.device, run.workers)
        remote = ray.remote(num_cpus=0 if gpus else 1, num_gpus=gpus, max_restarts=-1)(Worker)
        actors = [remote.remote() for _ in range(min(count, len(pending)))]
        try:
            _Scheduler(ray, actors, pending, ray.put(order)).until_done(use, check)
        finally:
            for actor in actors:
                ray.kill(actor)
    finally:
        if started_here:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:  # noqa: ANN401 -- a module
    place = None if address == AUTO_ADDRESS else address
    if place is not None:
        _check_answers(place)
    before = signal.getsignal(signal.SIGTERM)  # Ray would put its own in its place
    try:
        ray.init(address=place, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise CellcountError(
            f"no Ray cluster at {address} ({str(error).splitlines()[0]}); start one with ray "
            "start, or use --runner local"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_answers(address: str) -> None:
    """Check that the cluster answers: Ray itself would retry for minutes in silence."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    try:
        if host and port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise CellcountError(
            f"no Ray cluster at {address} ({error}); start one with ray start, or use --runner "
            "local"
        ) from error


@dataclass(eq=False)
class _Actor:
    """State of an actor on the driver: ``waiting`` images, and whether it has its models."""

    handle: Any
    is_ready: bool = False
    lost_starts: int = 0  # it died before it was ready
    waiting: int = 0
    is_alone: bool = False  # with an image that a worker died of


class _Scheduler:
    """Sends images to free actors and collects their results, until all are done."""

    def __init__(
        self,
        ray: Any,  # noqa: ANN401 -- a module
        handles: Sequence[Any],
        refs: Sequence[ImageRef],
        order: Any,  # noqa: ANN401 -- where Ray keeps it
    ) -> None:
        self._ray, self._order = ray, order
        self._actors = [_Actor(handle) for handle in handles]
        self._left, self._again = deque(refs), deque[ImageRef]()
        self._deaths: dict[str, int] = {}
        # What is awaited → who was asked, and for which image; None for whether it is ready.
        self._asked: dict[Any, tuple[_Actor, ImageRef | None]] = {}
        for actor in self._actors:
            self._ask_ready(actor)

    def until_done(self, use: Callable[[Analyzed], None], check: Callable[[], None]) -> None:
        """Run until all images are done; if ``check`` raises, those already sent are finished."""
        ended: BaseException | None = None
        while self._is_work_left():
            (answer,), _ = self._ray.wait(list(self._asked), num_returns=1)
            actor, ref = self._asked.pop(answer)
            analyzed = self._taken(answer, actor, ref)
            if analyzed is not None:
                use(analyzed)
            if ended is None:
                try:
                    check()
                except BaseException as error:  # noqa: BLE001 -- raised again below
                    ended = error
                    self._left.clear()
                    self._again.clear()
                self._send()
        if ended is not None:
            raise ended

    def _is_work_left(self) -> bool:
        in_hand = any(ref is not None for _, ref in self._asked.values())
        return in_hand or bool(self._left or self._again)

    def _ask_ready(self, actor: _Actor) -> None:
        actor.is_ready = actor.is_alone = False
        self._asked[actor.handle.ready.remote(self._order)] = (actor, None)

    def _taken(self, answer: Any, actor: _Actor, ref: ImageRef | None) -> Analyzed | None:  # noqa: ANN401
        """Take an answer, and set the actor's new state."""
        try:
            said = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:  # from our own code
            raise CellcountError(f"a Ray worker failed: {error.cause}") from error
        except self._ray.exceptions.RayActorError as error:
            return self._died(actor, ref, error)
        if ref is None:
            actor.is_ready, actor.lost_starts = True, 0
            return None
        actor.waiting -= 1
        actor.is_alone = False
        # As the driver names it, whatever the actor was told.
        return Analyzed(replace(said.result, ref=ref), said.file_key, said.values)

    def _died(self, actor: _Actor, ref: ImageRef | None, error: Exception) -> Analyzed | None:
        """Handle the death of an actor: its images are sent again, while Ray restarts it."""
        if ref is None:
            actor.lost_starts += 1
            if actor.lost_starts < _TRIES:
                self._ask_ready(actor)
                return None
            self._actors.remove(actor)
            if not self._actors:
                reason = str(error).strip().splitlines()[-1]
                raise CellcountError(f"no Ray worker can be started: {reason}") from error
            return None
        actor.waiting -= 1
        if actor.is_ready:
            self._ask_ready(actor)
        deaths = self._deaths[ref.image] = self._deaths.get(ref.image, 0) + 1
        if deaths < _TRIES:
            self._again.append(ref)
            return None
        result = ImageResult(ref, "failed", DIED.format(deaths))
        return Analyzed(result, key_of(ref), {})

    def _send(self) -> None:
        """Send one more image to every actor with room; one that an actor died of is sent alone."""
        for actor in sorted(self._actors, key=lambda a: a.waiting):
            if not actor.is_ready or actor.is_alone:
                continue
            if self._again and not actor.waiting:
                self._ask(actor, self._again.popleft())
                actor.is_alone = True
                continue
            while self._left and actor.waiting < _WAITING:
                self._ask(actor, self._left.popleft())

    def _ask(self, actor: _Actor, ref: ImageRef) -> None:
        self._asked[actor.handle.analyze.remote(ref)] = (actor, ref)
        actor.waiting += 1
