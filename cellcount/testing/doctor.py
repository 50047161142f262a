"""Checks of an installation: libraries, devices, weights, and a count of fields with known cells.

Each check gives findings; none raises, so that one defect never hides the next.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

import cellcount
from cellcount.analysis.checked_request import CheckedRequest
from cellcount.analysis.job import Job
from cellcount.analysis.progress import SilentProgress
from cellcount.core.blood import RBC, WBC
from cellcount.core.processors import usable_processors
from cellcount.datasets.annotations import read_annotations
from cellcount.engines.base import DETECTRON2_IS_EXTRA, has_detectron2, has_openvino
from cellcount.files.digest import sha256_of
from cellcount.images.known_formats import read_formats
from cellcount.models.weights import packaged_weights, read_any_card
from cellcount.rendering.field import render_field
from cellcount.rendering.samples import JPEG_QUALITY, SAMPLE_FIELDS
from cellcount.settings import AnalyzeRequest, AnalyzeSettings, OutputSettings, RunSettings

State = Literal["ok", "note", "problem"]
Truth = Mapping[str, Counter[str]]

SUMS = "SHA256SUMS"
_RENDERED = "slide-B/"  # a whole slide, since its scale is measured over its fields
_RED_SHARE, _WHITE_CELLS = 0.1, 1
_NOT_FOR_USERS = {"test", "dev"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked item.

    Attributes:
        state: in order, worth knowing, or to be mended.
        text: what was found.
        advice: what to do about it, "" for nothing.
    """

    state: State
    text: str
    advice: str = ""


def examine(package: Path | None = None) -> Iterator[Finding]:
    """All findings, the slowest check last.

    Args:
        package: folder of the package, that of this one where None.
    """
    folder = package or Path(cellcount.__file__).parent
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _libraries,
        _extras,
        _formats,
        _devices,
        lambda: check_weights(folder / "weights"),
        lambda: _self_test(folder.parent / "sample_data"),
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 -- a doctor reports what breaks, whatever it is
            first_line = (str(error).splitlines() or [""])[0]
            yield Finding(
                "problem",
                f"a check broke off with {type(error).__name__}: {first_line}",
                "reinstall cellcount in a fresh environment: pip install --force-reinstall .",
            )


def _libraries() -> Iterator[Finding]:
    """Report the versions of Python and of the required libraries."""
    yield Finding(
        "ok", f"cellcount {cellcount.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}"
    )  # fmt: skip
    try:
        required = [
            r for r in importlib.metadata.requires("cellcount") or () if "extra ==" not in r
        ]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("note", "cellcount runs from a folder and is not installed", "pip install .")
        return
    found = []
    for requirement in required:
        name = _name_of(requirement)
        version = _version_of(name)
        if version is None:
            yield Finding("problem", f"{name} is missing", f"pip install '{requirement}'")
        else:
            found.append(f"{name} {version}")
    yield Finding("ok", ", ".join(found))


def _extras() -> Iterator[Finding]:
    """Report the optional libraries, by the names of the package's own extras."""
    try:
        required = importlib.metadata.requires("cellcount") or ()
    except importlib.metadata.PackageNotFoundError:
        required = ()
    for requirement in required:
        extra = re.search(r"""extra == ['"]([\w-]+)""", requirement)
        name = _name_of(requirement)
        if extra is None or extra[1] in _NOT_FOR_USERS or name == "cellcount":
            continue
        if (version := _version_of(name)) is None:
            advice = f"pip install 'cellcount[{extra[1]}]'"
            yield Finding("note", f"{name} is not installed, for {extra[1]}", advice)
        else:
            yield Finding("ok", f"{name} {version}, for {extra[1]}")
    if has_openvino():
        yield Finding("ok", "OpenVINO is installed: --engine openvino takes it")
    if has_detectron2():
        yield Finding("ok", "Detectron2 is installed: --engine auto takes it")
    else:
        yield Finding("note", "Detectron2 is not installed, which is optional", DETECTRON2_IS_EXTRA)


def _formats() -> Iterator[Finding]:
    """Forms of images that can be read here, and by which library."""
    tested, others, missing = read_formats()
    yield Finding("ok", f"reads, tested here: {', '.join(tested)}")
    yield Finding("ok", f"reads by their libraries, not tested here: {', '.join(others)}")
    for extra, forms in missing.items():
        advice = f"pip install 'cellcount[{extra}]'"
        yield Finding("note", f"needs the extra {extra}: {', '.join(forms)}", advice)


def _name_of(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return match[0] if match else requirement


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    """Processors, threads and graphics cards as torch sees them."""
    cores, threads = usable_processors(), torch.get_num_threads()
    advice = "" if threads <= cores else f"set OMP_NUM_THREADS to {cores}"
    state: State = "ok" if threads <= cores else "note"
    known = f"CPU: {cores} processors may be used, torch uses {threads} threads"
    yield Finding(state, known, advice)
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield Finding("ok", f"cuda:{index}: {facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Finding("ok", "mps: Apple GPU")
    elif not torch.cuda.is_available():
        yield Finding(
            "note",
            "no GPU that torch can use: cellcount runs on the CPU",
            "where there is one, install the torch build for it (pytorch.org) and its driver",
        )


def check_weights(folder: Path) -> Iterator[Finding]:
    """Packaged weights against the list of their hashes.

    Args:
        folder: holds both.
    """
    lines = [line.split() for line in (folder / SUMS).read_text("utf-8").splitlines()]
    listed = {name: digest for digest, name in lines}
    mend = "reinstall cellcount: pip install --force-reinstall --no-deps ."
    for name, path in packaged_weights(folder).items():
        if path.name not in listed:
            yield Finding("problem", f"weights {name} are on no list of hashes", mend)
        elif sha256_of(path) != listed[path.name]:
            yield Finding("problem", f"weights {name} are not those that were packaged", mend)
        else:
            card = read_any_card(path)
            yield Finding("ok", f"weights {name} {card.version}: sha256 as packaged")
    for name in sorted(set(listed) - {path.name for path in packaged_weights(folder).values()}):
        yield Finding("problem", f"weights {name} are missing", mend)


def _self_test(samples: Path) -> Iterator[Finding]:
    """Counts fields with known cells, from reading to tables, as analyze does."""
    with tempfile.TemporaryDirectory(prefix="cellcount-doctor-") as work:
        folder, truth, what = _fields(samples, Path(work))
        started = time.perf_counter()
        asked = AnalyzeRequest(
            inputs=tuple(str(folder / image) for image in truth),
            analyze=AnalyzeSettings(classifier="none", device="cpu"),
            output=OutputSettings(out=Path(work) / "counts.csv"),
            run=RunSettings(fresh=True),
        )
        outcome = Job(CheckedRequest.of(asked)).run(SilentProgress())
        seconds = time.perf_counter() - started
    expected = sum(truth.values(), Counter[str]())
    counted = outcome.totals.counts
    words = ", ".join(f"{counted[k]} {k} (expected {expected[k]})" for k in (RBC, WBC))
    text = f"self-test: {what} counted in {seconds:.1f} s: {words}"
    wrong = (
        outcome.totals.done != len(truth)
        or abs(counted[RBC] - expected[RBC]) > _RED_SHARE * expected[RBC]
        or abs(counted[WBC] - expected[WBC]) > _WHITE_CELLS * len(truth)
    )
    if wrong:
        advice = "reinstall torch and cellcount in a fresh environment, then run doctor again"
        yield Finding("problem", text, advice)
    else:
        yield Finding("ok", text)


def _fields(samples: Path, work: Path) -> tuple[Path, Truth, str]:
    """Return the folder of the fields, the cells on each, and their description."""
    if (samples / "truth.json").is_file():
        images = read_annotations(samples / "truth.json").images
        truth = {i.path.relative_to(samples).as_posix(): Counter(i.labels) for i in images}
        return samples, truth, f"{len(truth)} sample fields"
    truth = {}
    for image, spec in SAMPLE_FIELDS.items():
        if image.startswith(_RENDERED):
            field = render_field(spec)
            (work / image).parent.mkdir(exist_ok=True)
            Image.fromarray(field.pixels).save(work / image, quality=JPEG_QUALITY)
            truth[image] = Counter(field.labels)
    return work, truth, f"{len(truth)} rendered fields"
