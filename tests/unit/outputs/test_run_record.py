"""run.json tells what was asked, what came out, and how fast."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cellcount.errors import OutputError
from cellcount.outputs.run_record import NotDone, RunRecord, run_manifest_path, write_run_manifest

# printf 'image,slide\n' | sha256sum
SHA256 = "83eda8724cf5ca49b084e82a0979316c05075d72cf324321ef33cd988a541ccd"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    output = tmp_path / "counts.csv"
    output.write_bytes(b"image,slide\n")
    return RunRecord(
        versions={"python": "3.11", "cellcount": "0.1"},
        engine="torchvision",
        device="cpu",
        precision="fp32",
        weights={"blood": "ab" * 32},
        thresholds={"rbc": 0.5},
        settings={"min_score": None, "csv_separator": ","},
        inputs=["smears"],
        passed_over=[NotDone("smears/x.jpg", "passed over", "is a folder")],
        images=12,
        done=10,
        cells=3000,
        not_done=[
            NotDone("caf\udce9.png", "failed", "truncated"),
            NotDone("ü.png", "excluded", "out of focus"),
        ],
        outstanding={("p", "a"): 2},
        outputs=[output],
        timings_s={"read": 1.23456},
        analyzed_now=4,
        cells_now=1000,
        started=START,
        finished=START + timedelta(seconds=8),
    )


def test_everything_is_told(tmp_path: Path, record: RunRecord) -> None:
    path = run_manifest_path(tmp_path / "counts.csv")
    assert path == tmp_path / "counts.run.json"
    write_run_manifest(path, record)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["started"] == "2026-01-02T03:04:05+00:00"
    assert document["finished"] == "2026-01-02T03:04:13+00:00"
    assert document["outcomes"] == {
        "images": 12,
        "done": 10,
        "failed": 1,
        "excluded": 1,
        "outstanding": 2,
        "cells": 3000,
        "not_done": [
            {"image": "caf\udce9.png", "status": "failed", "reason": "truncated"},
            {"image": "ü.png", "status": "excluded", "reason": "out of focus"},
        ],
        "unfinished_slides": [{"specimen": "p", "slide": "a", "outstanding": 2}],
    }
    assert document["passed_over"] == [{"path": "smears/x.jpg", "reason": "is a folder"}]
    assert document["speed"] == {
        "seconds": 8.0,
        "images": 4,
        "images_per_s": 0.5,
        "cells_per_s": 125.0,
    }
    assert document["timings_s"] == {"read": 1.235}
    assert document["weights_sha256"] == {"blood": "ab" * 32}
    assert document["classifier"] is None
    assert document["settings"] == {"min_score": None, "csv_separator": ","}
    for name in ("versions", "engine", "device", "precision", "thresholds", "inputs"):
        assert document[name] == getattr(record, name)


def test_the_classifier_is_told(tmp_path: Path, record: RunRecord) -> None:
    facts = {"name": "blood-types", "sha256": "cd" * 32, "review_below": 0.6, "types": ["ig"]}
    write_run_manifest(tmp_path / "run.json", dataclasses.replace(record, classifier=facts))
    document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert document["classifier"] == facts


def test_outputs_have_size_and_hash(tmp_path: Path, record: RunRecord) -> None:
    write_run_manifest(tmp_path / "run.json", record)
    (output,) = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["outputs"]
    assert output["bytes"] == 12
    assert output["sha256"] == SHA256


def test_a_vanished_output_and_a_time_without_zone_are_errors(
    tmp_path: Path, record: RunRecord
) -> None:
    record.outputs[0].unlink()
    with pytest.raises(OutputError, match=r"cannot read the output .*counts.csv again"):
        write_run_manifest(tmp_path / "run.json", record)
    assert not (tmp_path / "run.json").exists()
    with pytest.raises(ValueError, match="started must have a time zone"):
        dataclasses.replace(record, started=datetime(2026, 1, 1))


def test_no_time_is_no_speed(tmp_path: Path, record: RunRecord) -> None:
    write_run_manifest(tmp_path / "run.json", dataclasses.replace(record, finished=START))
    document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert document["speed"]["images_per_s"] is None
