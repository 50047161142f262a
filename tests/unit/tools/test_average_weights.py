"""The average of two weight files: its numbers, its card and thresholds, and what does not fit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from cellcount.core.records import LabelledImage
from cellcount.datasets.writers import write_coco
from cellcount.errors import WeightsError
from cellcount.files.digest import sha256_of
from cellcount.models.weights import read_weights, write_weights
from cellcount.rendering.field import LABELS
from tools.average_weights import average, main


@pytest.fixture
def val_set(tmp_path: Path, fields: tuple[LabelledImage, ...]) -> Path:
    """Two rendered fields, as the val split of a COCO data set."""
    folder = tmp_path / "data"
    folder.mkdir()
    for image in fields[:2]:
        shutil.copy(image.path, folder / image.path.name)
    write_coco(folder / "truth.json", list(fields[:2]), LABELS)
    lines = ["file,split", *(f"{image.path.name},val" for image in fields[:2])]
    (folder / "splits.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_each_weight_is_the_mean_and_counters_are_the_last(
    tiny_weights: Path, val_set: Path, tmp_path: Path
) -> None:
    card, first = read_weights(tiny_weights)
    moved = {k: v + 0.5 if v.is_floating_point() else v + 3 for k, v in first.items()}
    write_weights(tmp_path / "after.safetensors", card, moved)
    out = tmp_path / "mean.safetensors"
    after = str(tmp_path / "after.safetensors")
    main([str(tiny_weights), after, str(val_set), str(out), "--share", "0.75", "--red-cell-hue"])
    made, mean = read_weights(out)
    _, last = read_weights(tmp_path / "after.safetensors")
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            expected = first[name].double() / 4 + last[name].double() * 3 / 4
            # float16 in the file
            assert torch.allclose(tensor.double(), expected, rtol=1e-3, atol=1e-6), name
        else:
            assert torch.equal(tensor, last[name]), name
    assert made.training["averaged_with"] == sha256_of(tiny_weights)
    assert made.preprocessing.red_cell_hue
    assert made.evaluations == ()
    assert set(made.thresholds) == {"rbc", "wbc", "platelet"}
    assert all(0 <= t <= 1 for t in made.thresholds.values())


def test_a_model_of_one_hue_keeps_it(tiny_weights: Path, val_set: Path, tmp_path: Path) -> None:
    card, state = read_weights(tiny_weights)
    in_one_hue = dataclasses.replace(card.preprocessing, red_cell_hue=True)
    trained = tmp_path / "trained.safetensors"
    write_weights(trained, dataclasses.replace(card, preprocessing=in_one_hue), state)
    out = tmp_path / "mean.safetensors"
    main([str(tiny_weights), str(trained), str(val_set), str(out)])
    assert read_weights(out)[0].preprocessing.red_cell_hue


def test_other_architectures_are_refused() -> None:
    here, there = {"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"2 tensors differ in name or shape, a first; .*--init"):
        average(here, there)
