"""``evaluate detector`` on rendered fields: tables, JSON and CSV say what the library says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount import cli
from cellcount.core.blood import BLOOD_CLASSES
from cellcount.core.records import LabelledImage
from cellcount.datasets.writers import write_coco
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.evaluation.detection import Truth, evaluate_detections
from cellcount.evaluation.detector_run import field_factor
from cellcount.rendering.field import LABELS, FieldSpec, render_field

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rendered fields with truth; red cells of 24, 24 and 40 px."""
    root = tmp_path_factory.mktemp("data")
    images = []
    for seed, diameter in ((61, 24), (62, 24), (63, 40)):
        field = render_field(FieldSpec(160, 128, seed, diameter, 0.3, 2, 3, debris=0))
        path = root / f"{seed}.png"
        Image.fromarray(field.pixels).save(path)
        images.append(LabelledImage(path, field.boxes_xyxy, field.labels, 160, 128))
    write_coco(root / "truth.json", images, BLOOD_CLASSES)
    return root


@pytest.fixture
def evaluate(toy: str, capfd: pytest.CaptureFixture[str]) -> Evaluate:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(["evaluate", "detector", *map(str, arguments), "--detector", toy])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_all_forms_say_what_evaluate_detections_says(
    data: Path, toy: str, evaluate: Evaluate, tmp_path: Path
) -> None:
    as_json, as_csv = tmp_path / "r.json", tmp_path / "r.csv"
    code, out, err = evaluate(data, "--json", as_json, "--csv", as_csv)
    assert (code, err) == (0, "original: 3 images\n")

    detector = FieldDetector(load_engine("auto", Path(toy), EngineOptions()))
    coco = json.loads((data / "truth.json").read_text())
    truths, found = [], []
    for image in coco["images"]:
        with Image.open(data / image["file_name"]) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        own = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in own], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        names = {c["id"]: c["name"] for c in coco["categories"]}
        labels = np.array([LABELS.index(names[a["category_id"]]) for a in own], np.int64)
        truths.append(Truth(image["file_name"], boxes, labels, 160, 128))
        found.append(detector.detect(pixels, field_factor(detector, pixels, None)).detections)
    expected = evaluate_detections(truths, found, LABELS, thresholds=dict.fromkeys(LABELS, 0.5))

    document = json.loads(as_json.read_text("utf-8"))
    assert document["reports"] == {"original": json.loads(json.dumps(expected.to_dict()))}
    assert document["detector"] == "tiny"
    assert document["thresholds"] == dict.fromkeys(LABELS, 0.5)
    with as_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, report in zip(rows, expected.rows(), strict=True):
        assert row == {k: "" if v is None else str(v) for k, v in report.items()}
    ap50 = expected.crowded.ap50
    assert ap50 is not None
    assert ap50 > 0.5  # the toy does see something
    assert "AP50" in out
    assert f"{ap50:.3f}" in out
    for scores in expected.classes:
        assert f"{scores.counting.true:,}" in out
        assert f"{scores.precision:.3f}" in out
    for name in ("red cells", "white cells", "platelets", "all cells"):
        assert out.count(name) == 2
    assert max(len(line) for line in out.splitlines()) <= 80


def test_robustness_adds_every_variant(data: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    code, out, err = evaluate(data, "--robustness", "--json", tmp_path / "r.json")
    assert code == 0
    reports = json.loads((tmp_path / "r.json").read_text())["reports"]
    assert list(reports)[:5] == ["original", "0.4x size", "0.6x size", "1.5x size", "2.5x size"]
    assert len(reports) >= 9
    assert all(name in out for name in reports)
    assert len(err.splitlines()) == len(reports)
    assert max(len(line) for line in out.splitlines()) <= 80
    truth = [report["classes"][-1]["true"] for report in reports.values()]
    assert len(set(truth)) == 1  # changed images, the same cells


def test_labels_that_the_detector_does_not_know_are_said(
    data: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    document = json.loads((data / "truth.json").read_text())
    for annotation in document["annotations"][:2]:
        annotation["category_id"] = 9
    document["categories"].append({"id": 9, "name": "Giant"})
    for path in data.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "truth.json").write_text(json.dumps(document))
    code, _, err = evaluate(tmp_path, "--classes", "as-is")
    assert code == 0
    assert "warning: 2 boxes of 'Giant' left out: no class of the detector" in err
    document["categories"] = [{"id": n, "name": f"kind {n}"} for n in (0, 1, 2, 3, 9)]
    (tmp_path / "truth.json").write_text(json.dumps(document))
    code, _, err = evaluate(tmp_path, "--classes", "as-is")
    assert code == 3
    assert "the detector knows rbc, wbc, platelet" in err


def test_wrong_usage_is_found_before_any_work(
    data: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    assert evaluate(data, "--min-score", "1.5")[0] == 2
    assert evaluate(tmp_path / "nowhere")[0] == 2
    (tmp_path / "file").write_text("")
    code, _, err = evaluate(data, "--json", tmp_path / "file" / "r.json")
    assert code == 3
    assert "file is not a folder" in err
