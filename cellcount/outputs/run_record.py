"""run.json: what was asked, with which versions and weights, what came out and how fast."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cellcount.errors import OutputError
from cellcount.files.atomic import atomic_write
from cellcount.files.digest import sha256_of

SCHEMA = "cellcount-run-1"


@dataclass(frozen=True, slots=True)
class NotDone:
    """An image that was not analysed, or something in the inputs that was passed over.

    Attributes:
        name: identity of the image, or path of what was passed over.
        status: failed, excluded or passed over.
        reason: why.
    """

    name: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Everything run.json tells about one run.

    Attributes:
        versions: program or library to version.
        engine, device, precision: what really ran, not what was asked ("auto").
        weights: name of the weights to SHA-256 of their file.
        thresholds: class id to least score.
        classifier: what typed the cells, JSON-ready: name, sha256, thresholds and so on; None
            where nothing did.
        profile: by which cells are counted, JSON-ready: name, version, how limits are made.
        review: what reviewers said in sum, JSON-ready; None where nothing was reviewed.
        settings: all settings, JSON-ready.
        inputs: the INPUT arguments.
        passed_over: what lay in the inputs and got no row.
        images: images in the tables.
        done: those analysed.
        cells: cells counted in them.
        not_done: failed and excluded images.
        outstanding: specimen and slide → its images without a result yet.
        outputs: files that the run wrote.
        timings_s: stage to seconds.
        analyzed_now: images this run analysed itself (the others were taken from the journal).
        cells_now: cells counted in these.
        started, finished: with time zone.
        interrupted: whether it was stopped before its end.
    """

    versions: Mapping[str, str]
    engine: str
    device: str
    precision: str
    weights: Mapping[str, str]
    thresholds: Mapping[str, float]
    classifier: Mapping[str, Any] | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)
    review: Mapping[str, Any] | None = None
    settings: Mapping[str, Any]
    inputs: Sequence[str]
    passed_over: Sequence[NotDone]
    images: int
    done: int
    cells: int
    not_done: Sequence[NotDone]
    outstanding: Mapping[tuple[str, str], int] = field(default_factory=dict)
    outputs: Sequence[Path]
    timings_s: Mapping[str, float]
    analyzed_now: int
    cells_now: int
    started: datetime
    finished: datetime
    interrupted: bool = False

    def __post_init__(self) -> None:
        for name in ("started", "finished"):
            if getattr(self, name).tzinfo is None:
                raise ValueError(f"{name} must have a time zone, got {getattr(self, name)}")


RUN_RECORD_SUFFIX = ".run.json"
"""Ends the name of every record of a run."""


def run_manifest_path(out: Path) -> Path:
    """Return the path of the record of ``counts.csv``: ``counts.run.json`` beside it."""
    return out.with_name(out.stem + RUN_RECORD_SUFFIX)


def write_run_manifest(path: Path, record: RunRecord) -> None:
    """Write run.json.

    Raises:
        OutputError: it cannot be written, or a stated output cannot be read.
    """
    text = json.dumps(_document(record), ensure_ascii=False, indent=2, allow_nan=False)
    with atomic_write(path) as file:
        # A lone surrogate of a file name becomes \udcff, which is JSON's own escape.
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")


def refresh_run_manifest(
    path: Path, outputs: Sequence[Path], review: Mapping[str, Any] | None
) -> None:
    """Tell in an existing run.json what a review changed: outputs and who reviewed.

    Raises:
        OutputError: it cannot be read or written.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        written = {Path(entry["path"]).name: entry["path"] for entry in document["outputs"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"cannot read {path} as the record of a run: {error}") from error
    document["review"] = None if review is None else dict(review)
    document["outputs"] = [_output(p) | {"path": written.get(p.name, str(p))} for p in outputs]
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")


def _document(record: RunRecord) -> dict[str, Any]:
    seconds = (record.finished - record.started).total_seconds()
    statuses = [entry.status for entry in record.not_done]
    return {
        "schema": SCHEMA,
        "started": record.started.isoformat(timespec="seconds"),
        "finished": record.finished.isoformat(timespec="seconds"),
        "interrupted": record.interrupted,
        "versions": dict(record.versions),
        "engine": record.engine,
        "device": record.device,
        "precision": record.precision,
        "weights_sha256": dict(record.weights),
        "thresholds": dict(record.thresholds),
        "classifier": None if record.classifier is None else dict(record.classifier),
        "profile": dict(record.profile),
        "review": None if record.review is None else dict(record.review),
        "settings": dict(record.settings),
        "inputs": list(record.inputs),
        "passed_over": [{"path": e.name, "reason": e.reason} for e in record.passed_over],
        "outcomes": {
            "images": record.images,
            "done": record.done,
            "failed": statuses.count("failed"),
            "excluded": statuses.count("excluded"),
            "outstanding": sum(record.outstanding.values()),
            "cells": record.cells,
            "not_done": [
                {"image": e.name, "status": e.status, "reason": e.reason} for e in record.not_done
            ],
            "unfinished_slides": [
                {"specimen": specimen, "slide": slide, "outstanding": n}
                for (specimen, slide), n in record.outstanding.items()
            ],
        },
        "outputs": [_output(path) for path in record.outputs],
        "timings_s": {name: round(value, 3) for name, value in record.timings_s.items()},
        "speed": {
            "seconds": round(seconds, 3),
            "images": record.analyzed_now,
            "images_per_s": _rate(record.analyzed_now, seconds),
            "cells_per_s": _rate(record.cells_now, seconds),
        },
    }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 3) if seconds > 0 else None


def _output(path: Path) -> dict[str, Any]:
    try:
        digest = sha256_of(path)
        return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest}
    except OSError as error:
        raise OutputError(f"cannot read the output {path} again: {error.strerror}") from error
