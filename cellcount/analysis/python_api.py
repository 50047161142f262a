"""The commands for Python: the same options by name, the same defaults, the same numbers."""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, get_args, get_origin, get_type_hints

from cellcount.analysis.checked_request import CheckedRequest
from cellcount.analysis.finished_run import Results
from cellcount.analysis.job import Job
from cellcount.analysis.outcome import Outcome
from cellcount.analysis.progress import Progress, SilentProgress
from cellcount.analysis.request import analyze_request
from cellcount.errors import CellcountError, UsageError
from cellcount.files.text import number_of
from cellcount.outputs.forms import BUILT_IN
from cellcount.outputs.run_record import NotDone
from cellcount.settings import (
    AnnotateRule,
    DecimalSign,
    EdgeRule,
    EngineName,
    PictureFormat,
    Precision,
    RunnerName,
    Separator,
    StainFor,
)
from cellcount.shards import shard_of

PathLike: TypeAlias = str | os.PathLike[str]

_PATHS = frozenset({"annotated", "pseudonymize", "plugins", *BUILT_IN})
_SHOWN = 10


class AnalyzeOptions(TypedDict, total=False):
    """Options of analyze, called as on the command line, ``--map`` alone as ``type_map``.

    `docs/commands.md` says what each of them does.
    """

    detector: PathLike
    classifier: PathLike
    type_map: str | None
    engine: EngineName
    device: str
    precision: Precision
    um_per_px: float | None
    min_score: float | None
    edge_rule: EdgeRule
    batch_size: int
    max_pixels: int
    tile_px: int
    refine_steps: int | None
    stain_reference: PathLike
    stain_for: StainFor
    plugins: PathLike | None
    profile: PathLike | None
    force_profile: bool
    keep_rejected: bool
    limits: Literal["wilson", "clopper-pearson"]
    adjust: PathLike | None
    slide_from: str | None
    workers: int
    max_failure_rate: float
    fresh: bool
    shard: str | None
    runner: RunnerName
    ray_address: str
    cells: PathLike | None
    slides: PathLike | None
    coco: PathLike | None
    geojson: PathLike | None
    rois: PathLike | None
    yolo: PathLike | None
    voc: PathLike | None
    fhir: PathLike | None
    hl7: PathLike | None
    report: PathLike | None
    plugin_forms: Mapping[str, PathLike]
    annotated: PathLike | None
    annotate: AnnotateRule
    annotated_format: PictureFormat
    csv_separator: Separator
    csv_bom: bool
    csv_decimal: DecimalSign | None
    pseudonymize: PathLike | None


def analyze(
    paths: PathLike | Iterable[PathLike],
    *,
    out: PathLike | None = None,
    progress: bool | Progress = False,
    **options: Unpack[AnalyzeOptions],
) -> Results:
    """Count the cells of smear images, as ``cellcount analyze`` does.

    Args:
        paths: images, folders, glob patterns or manifests; one or several.
        out: counts.csv, beside which the run is kept, so that it can be reviewed and goes on after
            an interruption; None keeps it in a temporary folder for as long as the results are
            used.
        progress: True shows it on stderr; a `Progress` of your own is called instead.
        options: as on the command line.

    Raises:
        TypeError: there is no such option.
        UsageError: an option has a value that cannot be meant, or inputs and outputs do not go
            together.
        CellcountError: there is no image, or more failed than ``max_failure_rate`` allows.
    """
    inputs = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    checked = _checked(options)
    if out is not None:
        return _analyzed(inputs, Path(out), checked, progress=progress)
    folder = tempfile.mkdtemp(prefix="cellcount-")
    try:
        results = _analyzed(inputs, Path(folder) / "counts.csv", checked, progress=progress)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(results, shutil.rmtree, folder, ignore_errors=True)
    return results


def open_results(path: PathLike) -> Results:
    """Open a finished run.

    Args:
        path: its counts.csv, run.json or journal, or the folder in which they lie.

    Raises:
        UsageError: there is none.
        JournalError: it is in use, damaged, or of another version of cellcount.
    """
    results = Results(Path(path))
    results.check()
    return results


def _analyzed(
    inputs: Iterable[PathLike],
    out: Path,
    options: Mapping[str, Any],
    *,
    progress: bool | Progress,
) -> Results:
    request = analyze_request([os.fspath(path) for path in inputs], {**options, "out": out})
    job = Job(CheckedRequest.of(request))
    with _shown(progress=progress) as shown:
        outcome = job.run(shown)
    if outcome.interrupted is not None:
        raise outcome.interrupted
    if outcome.gave_up:
        raise CellcountError(
            f"stopped: {outcome.failed:,} of {number_of(outcome.images, 'image')} failed, more "
            f"than max_failure_rate {request.run.max_failure_rate:g} allows; the first: "
            f"{_first_failure(outcome)}"
        )
    passed_over = job.outputs.names.passed_over(job.plan)
    return Results(out, (*_passed_over(passed_over), *outcome.notes))


def _first_failure(outcome: Outcome) -> str:
    return next(f"{n.name}: {n.reason}" for n in outcome.totals.not_done if n.status == "failed")


def _passed_over(files: Sequence[NotDone]) -> list[str]:
    """List what lay in the inputs and has no row, in a sentence each, by code where there are."""
    said = [f"passed over: {one.name}: {one.reason}" for one in files[:_SHOWN]]
    more = len(files) - _SHOWN
    return [*said, f"passed over: {more:,} more"] if more > 0 else said


@contextmanager
def _shown(*, progress: bool | Progress) -> Iterator[Progress]:
    if not isinstance(progress, bool):
        yield progress
    elif progress:
        from cellcount.analysis.shown_progress import progress as shown_progress

        with shown_progress() as shown:
            yield shown
    else:
        yield SilentProgress()


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the settings hold them.

    Raises:
        TypeError: one is not there.
        UsageError: one has a value of another kind.
    """
    hints = get_type_hints(AnalyzeOptions)
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; docs/commands.md lists them"
            raise TypeError(f"analyze() has no option {name!r}{hint}")
        if name == "plugin_forms":
            checked[name] = {form: Path(path) for form, path in value.items()}
        else:
            checked[name] = _value(name, value, hints[name])
    if checked.get("shard") is not None:
        checked["shard"] = shard_of(checked["shard"], os.environ)
    return checked


def _value(name: str, value: object, hint: object) -> object:
    """One value, made plain: a path as a path or text, numbers of NumPy as those of Python.

    Raises:
        UsageError: it is of another kind.
    """
    kinds = get_args(hint) if get_origin(hint) is not Literal else (hint,)
    expected = []
    for kind in kinds or (hint,):
        if kind is NoneType:
            if value is None:
                return None
            expected.append("None")
        elif get_origin(kind) is Literal:
            if isinstance(value, str) and value in get_args(kind):
                return value
            expected += map(repr, get_args(kind))
        else:
            accepted, convert, words = _KINDS[get_origin(kind) or kind]
            is_bool = isinstance(value, bool) and kind is not bool
            if isinstance(value, accepted) and not is_bool:
                plain = convert(value)
                return Path(plain) if name in _PATHS else plain
            expected.append(words)
    raise UsageError(f"{name} is {value!r}, expected {' or '.join(expected)}")


_KINDS: dict[Any, tuple[type, Any, str]] = {
    str: (str, str, "text"),
    os.PathLike: (os.PathLike, os.fspath, "a path"),
    bool: (bool, bool, "True or False"),
    int: (Integral, int, "a whole number"),
    float: (Real, float, "a number"),
}
