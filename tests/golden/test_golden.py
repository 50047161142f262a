"""Known fields, known weights, known tables: what ``analyze`` writes may not drift unnoticed.

``pytest tests/golden --update-golden`` writes the expected tables anew; look at the difference
before it is committed. Processors differ in the last bits, so cells are compared one to one with
the stored ones (IoU >= 0.99, scores within 0.01); between two runs here, bytes are compared.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cellcount import cli
from cellcount.core.boxes import pairwise_iou
from cellcount.outputs.columns import QUALITY_COLUMNS
from tests.tables import read_table

HERE = Path(__file__).parent
CASES = {
    "folder": ("fields",),
    "manifest": ("fields/manifest.csv",),
    "strict": ("fields", "--edge-rule", "two-sides", "--min-score", "0.8"),
}
BOX = ["x_min_px", "y_min_px", "x_max_px", "y_max_px"]

Usual = Callable[[str], tuple[Path, Path]]

by_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)


def analyze(case: str, folder: Path, *options: str) -> tuple[Path, Path]:
    counts, cells = folder / "counts.csv", folder / "cells.csv"
    outputs = ["--out", str(counts), "--cells", str(cells)]
    models = ["--detector", "tiny.safetensors", "--classifier", "none"]
    code = cli.main(["analyze", *CASES[case], *outputs, *models, *options])
    assert code == (0 if case == "manifest" else 1)  # one field of the folder is cut short
    return counts, cells


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Usual:
    """``usual("folder")``: the tables of a case without further options, made once, for reading."""
    return cache(lambda case: analyze(case, tmp_path_factory.mktemp(case)))


def overlaps(cells: pd.DataFrame, others: pd.DataFrame) -> NDArray[np.float32]:
    """IoU of every pair, 0 where the classes differ."""
    iou = pairwise_iou(cells[BOX].to_numpy(np.float32), others[BOX].to_numpy(np.float32))
    same = cells["label"].to_numpy()[:, None] == others["label"].to_numpy()[None]
    return np.where(same, iou, np.float32(0))


def same_cells(
    cells: pd.DataFrame, expected: pd.DataFrame, *, iou: float, score: float
) -> list[str]:
    """Differences, one line per image."""
    problems = []
    for image in sorted({*cells["image"], *expected["image"]}):
        ours, theirs = cells[cells["image"] == image], expected[expected["image"] == image]
        if len(ours) != len(theirs):
            problems.append(f"{image}: {len(ours)} cells, expected {len(theirs)}")
            continue
        overlap = overlaps(ours, theirs)
        a, b = linear_sum_assignment(-overlap)
        difference = np.abs(ours["score"].to_numpy()[a] - theirs["score"].to_numpy()[b])
        if overlap[a, b].min() < iou or difference.max() > score:
            problems.append(
                f"{image}: IoU down to {overlap[a, b].min():.4f}, scores differ by up to "
                f"{difference.max():.4f}"
            )
    return problems


def compare_counts(counts: pd.DataFrame, expected: pd.DataFrame) -> None:
    near = [c.name for c in QUALITY_COLUMNS]  # these hang on the measured scale
    exact = [name for name in expected if name not in ("scale_factor", *near)]
    pd.testing.assert_frame_equal(counts[exact], expected[exact])
    np.testing.assert_allclose(counts["scale_factor"], expected["scale_factor"], rtol=2e-3)
    np.testing.assert_allclose(counts[near], expected[near], rtol=0.02, atol=0.02)


@by_case
def test_tables_are_as_expected(case: str, usual: Usual, update_golden: bool) -> None:
    counts, cells = usual(case)
    stored = HERE / "expected" / case
    if update_golden:
        stored.mkdir(parents=True, exist_ok=True)
        for path in (counts, cells):
            shutil.copyfile(path, stored / path.name)
    compare_counts(read_table(counts), read_table(stored / "counts.csv"))
    expected = read_table(stored / "cells.csv")
    assert len(expected) > 20
    assert same_cells(read_table(cells), expected, iou=0.99, score=0.01) == []


@by_case
def test_a_second_run_gives_the_same_bytes(case: str, usual: Usual, tmp_path: Path) -> None:
    for one, other in zip(usual(case), analyze(case, tmp_path), strict=True):
        assert one.read_bytes() == other.read_bytes()


@by_case
@pytest.mark.parametrize("size", [2, 5])
def test_another_batch_size_gives_the_same_cells(
    case: str, size: int, usual: Usual, tmp_path: Path
) -> None:
    _, first = usual(case)
    _, other = analyze(case, tmp_path, "--batch-size", str(size))
    assert same_cells(read_table(other), read_table(first), iou=0.99, score=1e-3) == []


@by_case
@pytest.mark.parametrize("tile_px", [256, 512])
def test_another_tile_size_finds_the_same_clear_cells(
    case: str, tile_px: int, usual: Usual, tmp_path: Path
) -> None:
    """A network sees other surroundings in other tiles, so doubtful cells may come and go."""
    first = read_table(usual(case)[1])
    other = read_table(analyze(case, tmp_path, "--tile-px", str(tile_px))[1])
    doubt = 0.12 + first["score"].min()
    for clear, cells in ((first, other), (other, first)):
        clear = clear[clear["score"] > doubt]
        assert len(clear) > 0.75 * len(cells)
        again = [
            overlaps(wanted, cells[cells["image"] == image]).max(axis=1) > 0.8
            for image, wanted in clear.groupby("image")
        ]
        assert np.concatenate(again).mean() > 0.98


def test_the_comparison_sees_a_difference() -> None:
    expected = read_table(HERE / "expected" / "folder" / "cells.csv")
    moved = expected.assign(x_max_px=expected["x_max_px"] + 1)
    doubted = expected.assign(score=expected["score"] - 0.02)
    renamed = expected.assign(label=expected["label"].replace("wbc", "platelet"))
    for wrong in (expected.iloc[1:], moved, doubted, renamed):
        assert same_cells(wrong, expected, iou=0.99, score=0.01) != []
    assert same_cells(expected, expected, iou=0.99, score=0.01) == []


def test_golden_files_stay_small() -> None:
    fields = [path for path in (HERE / "fields").rglob("*") if path.is_file()]
    assert len(fields) == 6
    assert max(path.stat().st_size for path in fields) <= 50_000
    assert (HERE / "tiny.safetensors").stat().st_size <= 200_000
