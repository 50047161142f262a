"""Run of the daily control: a slide is analysed, its known cells are sought, the log is extended.

Nothing but the log is written. Passing needs 95 % of the known cells, every field analysed, and no
value that has drifted by a rule that rejects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount import __version__
from cellcount.analysis.checked_request import CheckedRequest
from cellcount.analysis.fingerprint import fingerprint
from cellcount.analysis.job import Job
from cellcount.analysis.load import load
from cellcount.analysis.pipeline import Pipeline
from cellcount.analysis.progress import Progress
from cellcount.analysis.reviewer_types import Vocabulary
from cellcount.analysis.run_results import counted
from cellcount.analysis.slide_scales import ScalesInMemory, SlideScales
from cellcount.control.control_log import append_to_log, check_sound, read_control_log
from cellcount.control.drift import Row, Watched, counts_text, drift_text, runs_needed, watch
from cellcount.control.known_cells import KnownCell, locate, read_known_cells
from cellcount.control.slide_images import SlideImages, cells_by_image
from cellcount.core.blood import is_white
from cellcount.core.cells import count_by_class, count_by_type
from cellcount.core.records import UNCLASSIFIED, ImageRef, ImageResult
from cellcount.differential.limits import share_limits
from cellcount.errors import CellcountError, UsageError
from cellcount.files.digest import sha256_of, sha256_of_text
from cellcount.outputs.columns import Value
from cellcount.settings import AnalyzeRequest, AnalyzeSettings, OutputSettings

#: Least percentage of the known white cells that must be located.
LEAST_LOCATED_PERCENT = 95.0


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One ``cellcount control run`` call.

    Attributes:
        inputs: the slide's images, as for analyze.
        expected: list of its known white cells.
        log: where the run is added.
        analyze: what decides the numbers.
        new_baseline: earlier runs are not compared with from now on.
    """

    inputs: tuple[str, ...]
    expected: Path
    log: Path
    analyze: AnalyzeSettings = field(default_factory=AnalyzeSettings)
    new_baseline: bool = False


@dataclass(frozen=True, slots=True)
class ControlRun:
    """Result of a run of the control.

    Attributes:
        row: as it stands in the log.
        watched: values with their drift.
        missed: known cells that were not located.
        runs_needed: earlier runs that are missing before drift can be judged.
        sha256: of the row.
        passed_over: cells of the list that are of other slides.
    """

    row: Row
    watched: tuple[Watched, ...]
    missed: tuple[KnownCell, ...]
    runs_needed: int
    sha256: str
    passed_over: int = 0

    @property
    def passed(self) -> bool:
        """Whether the slide passed."""
        return self.row["result"] == "pass"


@dataclass
class _Sums:
    """Sums over the fields of the slide."""

    classes: NDArray[np.int64]
    types: NDArray[np.int64]
    done: int = 0
    located: int = 0
    typed: int = 0
    agreed: int = 0
    missed: list[KnownCell] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def run_control(request: ControlRequest, watcher: Progress) -> ControlRun:
    """Analyse the slide and add a row to the log.

    Raises:
        UsageError: slide and list do not belong together.
        OutputError: the log cannot be used, or its chain is broken.
        CellcountError: no field could be analysed.
    """
    check_sound(request.log, read_control_log(request.log))  # before the work
    asked = AnalyzeRequest(request.inputs, request.analyze, OutputSettings(request.log))
    job = Job(CheckedRequest.of(asked))
    white = [c.id for c in job.card.classes if is_white(c.id)]
    known = read_known_cells(request.expected, white)
    by_image = _by_image(known, job.refs, request.expected)
    sums = _analysed(job, by_image, watcher)
    log = read_control_log(request.log)
    check_sound(request.log, log)
    on_slide = sum(map(len, by_image.values()))
    row = _row(request, job, sums, on_slide)
    last = log.rows[-1] if log.rows else None
    number = len(log.rows) + 1
    row |= {"run": number, "baseline": _baseline(last, number, request)}
    watched = tuple(watch(log.rows, row))
    row["drift"] = drift_text(watched)
    reasons = [*sums.reasons, *_rejections(watched)]
    row["result"] = "fail" if reasons else "pass"
    row["reasons"] = "; ".join([*reasons, *_mind(watched, last, row)])
    digest = append_to_log(request.log, row, log.last_sha256)
    needed = runs_needed(log.rows, row)
    passed_over = len(known) - on_slide
    return ControlRun(row, watched, tuple(sums.missed), needed, digest, passed_over)


def _by_image(
    known: Sequence[KnownCell], refs: Sequence[ImageRef], expected: Path
) -> dict[str, list[KnownCell]]:
    """Group known cells by the slide's images, which the list may name differently.

    The list may be that of a larger run: names match by the end of their path, and cells of other
    slides are passed over.

    Raises:
        UsageError: a name may be that of several images, or none is that of any.
    """
    images = SlideImages(refs)
    found: dict[str, list[KnownCell]] = {}
    for name, cells in cells_by_image(known).items():
        named = images.named(name)
        if len(named) > 1:
            raise UsageError(
                f"{expected} has cells of {name!r}, but several images of the slide end so; name "
                "images as analyze does, relative to the INPUT"
            )
        if named:
            found.setdefault(named[0], []).extend(cells)
    if not found:
        raise UsageError(
            f"{expected} has cells of {known[0].image!r} and others, but no image of the slide is "
            "called so; name images as analyze does, relative to the INPUT"
        )
    return found


def _analysed(job: Job, known: Mapping[str, Sequence[KnownCell]], watcher: Progress) -> _Sums:
    settings = job.request.analyze
    scales = SlideScales(job.refs, job.detector, ScalesInMemory(), settings.max_pixels)
    pipeline = Pipeline(job.detector, settings, scales, job.typer)
    counting = job.counting
    words = Vocabulary(job.types, counting.assessable, counting.profile)
    types = len(job.types) + 1
    sums = _Sums(np.zeros(len(job.card.classes), np.int64), np.zeros(types, np.int64))
    watcher.start("Counting", len(job.refs))
    for ref in job.refs:
        result = pipeline.analyze(load(ref, settings.max_pixels))
        result = counting.rejecting(counted(result, counting.profile))
        watcher.advance(result)
        _add(sums, result, known.get(ref.image, ()), job, words)
    if not sums.done:
        raise CellcountError(
            f"no field of the control slide could be analysed: {'; '.join(sums.reasons[:3])}"
        )
    return sums


def _add(
    sums: _Sums, result: ImageResult, known: Sequence[KnownCell], job: Job, words: Vocabulary
) -> None:
    """Add one field to the sums."""
    if result.status != "done":
        sums.reasons.append(f"{result.ref.image} {result.status}: {result.reason}")
        sums.missed += known
        return
    sums.done += 1
    cells, types = result.cells, job.types
    sums.classes += count_by_class(cells, len(job.card.classes))
    sums.types += count_by_type(cells.types, len(types))
    white_labels = [is_white(c.id) for c in job.card.classes]
    white = np.flatnonzero(np.array(white_labels)[cells.detections.labels])
    found = locate(known, cells.detections.boxes_xyxy[white])
    for one, place in zip(known, found.tolist(), strict=True):
        if place < 0:
            sums.missed.append(one)
            continue
        sums.located += 1
        said = cells.types
        if one.type_name and said is not None and said.best[white[place]] >= 0:
            cell = int(white[place])
            given = types[said.best[cell]].id if said.accepted[cell] else UNCLASSIFIED
            sums.typed += 1
            sums.agreed += given == _known_type(one, words)


def _known_type(one: KnownCell, words: Vocabulary) -> str:
    try:
        return words.id_of(one.type_name)
    except ValueError as error:
        raise UsageError(f"a known cell of {one.image}: {error}") from None


def _row(request: ControlRequest, job: Job, sums: _Sums, known: int) -> dict[str, Value]:
    percent = 100 * sums.located / known
    if percent < LEAST_LOCATED_PERCENT:
        sums.reasons.insert(
            0,
            f"{sums.located} of {known} known white cells located, {percent:.1f} %, at least "
            f"{LEAST_LOCATED_PERCENT:g} % are needed",
        )
    settings = fingerprint(
        request.analyze,
        job.detector,
        job.weights_sha256,
        None if job.classifier is None else job.classifier.facts(),
    )
    engine, typing = job.detector.engine, job.classifier
    ids = [*(t.id for t in job.types), UNCLASSIFIED]
    classes = [c.id for c in job.card.classes]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "slide": ", ".join(Path(text).resolve().name for text in request.inputs),
        "known": known,
        "located": sums.located,
        **_share("located", sums.located, known),
        "typed": sums.typed,
        "agreed": sums.agreed,
        **_share("agreed", sums.agreed, sums.typed),
        "fields": len(job.refs),
        "fields_done": sums.done,
        "counts": counts_text(dict(zip(classes, sums.classes.tolist(), strict=True))),
        "types": counts_text(dict(zip(ids, sums.types.tolist(), strict=True))) if job.types else "",
        "program": f"cellcount {__version__}",
        "detector": f"{job.card.name} {job.card.version}, sha256 {job.weights_sha256}",
        "classifier": "none"
        if typing is None
        else f"{typing.card.name} {typing.card.version}, sha256 {typing.sha256}",
        "device": f"{engine.name}, {engine.device}, {engine.precision}",
        "settings_sha256": _json_sha256(settings),
        "images_sha256": _images_sha256(job.refs),
        "expected_sha256": _file_sha256(request.expected),
    }


def _share(name: str, count: int, total: int) -> dict[str, Value]:
    limits = share_limits(count, total)
    if limits is None or limits.high is None:
        return {}
    return {
        f"{name}_percent": round(100 * count / total, 2),
        f"{name}_low": 100 * limits.low,
        f"{name}_high": 100 * limits.high,
    }


def _baseline(last: Row | None, number: int, request: ControlRequest) -> int:
    if request.new_baseline or last is None:
        return number
    return int(last["baseline"] or 1)


def _rejections(watched: Sequence[Watched]) -> Iterator[str]:
    for one in watched:
        if one.drift is not None and one.drift.rejects:
            yield f"{_words(one)} (rule {', '.join(one.drift.rejects)})"


def _mind(watched: Sequence[Watched], last: Row | None, row: Row) -> Iterator[str]:
    """Yield warnings that do not fail the run."""
    for one in watched:
        if one.drift is not None and one.drift.rules and not one.drift.rejects:
            yield f"warning: {_words(one)} (rule {', '.join(one.drift.rules)})"
    names = ("program", "detector", "classifier", "device", "settings_sha256", "images_sha256")
    changed = [n.removesuffix("_sha256") for n in names if last is not None and last[n] != row[n]]
    if changed:
        yield f"changed since the run before: {', '.join(changed)}"
    if last is not None and last["expected_sha256"] != row["expected_sha256"]:
        yield "another list of known cells than in the run before, so its runs are not compared"


def _words(one: Watched) -> str:
    assert one.drift is not None, "only a drift has rules"
    return f"{one.name} {one.value:g} against {one.drift.mean:.4g} ± {one.drift.sd:.2g}"


def _json_sha256(document: Mapping[str, Any]) -> str:
    return sha256_of_text(json.dumps(document, sort_keys=True))


def _images_sha256(refs: Sequence[ImageRef]) -> str:
    digest = hashlib.sha256()
    for ref in refs:
        digest.update(ref.image.encode("utf-8", "surrogatepass") + b"\n")
        digest.update(_file_sha256(ref.path).encode())
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return "unreadable"
