"""Checkpoints that hold no code, and the log as table and picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cellcount.errors import UsageError
from cellcount.training import checkpoint
from cellcount.training.log import draw_curves, write_metrics

ROWS: list[dict[str, float | int | None]] = [
    {"epoch": 1, "loss_classifier": 1.5, "seconds": 2.0},
    {"epoch": 2, "loss_classifier": 0.5, "seconds": 2.0, "ap": 0.25, "ap50": None},
]


def test_a_state_comes_back(tmp_path: Path) -> None:
    assert not checkpoint.exists(tmp_path)
    state = {"model": {"a": torch.arange(3.0)}, "rows": ROWS, "best": float("-inf")}
    checkpoint.save(tmp_path, state)
    assert checkpoint.exists(tmp_path)
    again = checkpoint.load(tmp_path)
    assert torch.equal(again["model"]["a"], torch.arange(3.0))
    assert (again["rows"], again["best"]) == (ROWS, float("-inf"))
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.FILE_NAME]


def test_no_checkpoint_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist; start without --resume"):
        checkpoint.load(tmp_path)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_a_damaged_or_foreign_checkpoint_is_a_message_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE_NAME
    checkpoint.save(tmp_path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UsageError, match="cannot be read"):
        checkpoint.load(tmp_path)
    torch.save({"a": Bomb(tmp_path / "exploded")}, path)
    with pytest.raises(UsageError, match="cannot be read"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_metrics_are_one_table_with_all_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_metrics(path, ROWS[:1])
    write_metrics(path, ROWS)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "epoch": "1", "loss_classifier": "1.5", "seconds": "2.0", "ap": "", "ap50": "",
    }  # fmt: skip
    assert rows[1]["ap"] == "0.25"
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]], ids=["with AP", "losses alone"])
def test_curves_are_a_picture(tmp_path: Path, rows: list[dict[str, float | int | None]]) -> None:
    draw_curves(tmp_path / "curves.png", rows)
    plain = (tmp_path / "curves.png").read_bytes()
    draw_curves(tmp_path / "curves.png", rows, "mixed cells raise the training loss")
    assert (tmp_path / "curves.png").read_bytes() != plain, "the note stands on the picture"
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * picture.height
        assert len(picture.convert("RGB").getcolors(10**6) or []) > 20
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
