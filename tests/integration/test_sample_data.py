"""The packaged model on the sample fields, whose true counts are known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cellcount.cli import main
from cellcount.datasets.annotations import read_annotations
from tests.tables import read_table

SAMPLES = Path(__file__).parents[2] / "sample_data"


def test_red_cells_within_a_tenth_and_white_cells_within_one(tmp_path: Path) -> None:
    out = tmp_path / "counts.csv"
    command = ["analyze", str(SAMPLES), "--out", str(out), "--classifier", "none"]
    assert main([*command, "--engine", "torchvision"]) == 0
    counted = read_table(out).set_index("image")
    truth = read_annotations(SAMPLES / "truth.json")
    assert len(counted) == len(truth.images) == 6
    for image in truth.images:
        true = Counter(image.labels)
        row = counted.loc[image.path.relative_to(SAMPLES).as_posix()]
        assert abs(row.n_rbc - true["rbc"]) <= 0.1 * true["rbc"], image.path.name
        assert abs(row.n_wbc - true["wbc"]) <= 1, image.path.name
