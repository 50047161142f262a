"""``sample_data`` is what its module renders, and its truth is exact."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount.rendering.field import LABELS, SAMPLE_SEEDS, RenderedField
from cellcount.rendering.samples import SAMPLE_FIELDS, write_samples

FOLDER = Path(__file__).resolve().parents[3] / "sample_data"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, RenderedField]]:
    folder = tmp_path_factory.mktemp("samples")
    return folder, write_samples(folder)


def test_truth_is_that_of_a_new_rendering(
    rendered: tuple[Path, dict[str, RenderedField]],
) -> None:
    folder, fields = rendered
    kept = json.loads((FOLDER / "truth.json").read_text())
    fresh = json.loads((folder / "truth.json").read_text())
    assert kept["categories"] == fresh["categories"]
    assert kept["images"] == fresh["images"]
    assert [c["name"] for c in kept["categories"]] == list(LABELS)
    for one, two in zip(kept["annotations"], fresh["annotations"], strict=True):
        assert (one["image_id"], one["category_id"]) == (two["image_id"], two["category_id"])
        assert one["bbox"] == pytest.approx(two["bbox"], abs=0.01)
    assert [i["file_name"] for i in kept["images"]] == list(fields)


def test_pictures_show_a_new_rendering(rendered: tuple[Path, dict[str, RenderedField]]) -> None:
    for name, field in rendered[1].items():
        with Image.open(FOLDER / name) as image:
            kept = np.asarray(image).astype(int)
        assert kept.shape == field.pixels.shape
        assert np.abs(kept - field.pixels).mean() < 2.5, name  # What JPEG loses.


def test_seeds_are_reserved_and_the_folder_is_small() -> None:
    seeds = [spec.seed for spec in SAMPLE_FIELDS.values()]
    assert len(set(seeds)) == len(seeds)
    assert all(seed in SAMPLE_SEEDS for seed in seeds)
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 1_500_000


def test_readme_states_the_true_counts(rendered: tuple[Path, dict[str, RenderedField]]) -> None:
    readme = (FOLDER / "README.md").read_text()
    for name, field in rendered[1].items():
        row = re.search(rf"^\| `{re.escape(name)}` \|(.*)\|$", readme, re.MULTILINE)
        assert row is not None, name
        numbers = [int(n) for n in row.group(1).split("|")[-3:]]
        counts = Counter(field.labels)
        assert numbers == [counts[label] for label in LABELS], name
