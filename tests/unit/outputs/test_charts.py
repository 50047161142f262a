"""Charts say what the tables say: bars as long as the numbers, squares as dark as the shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import AxesImage
from PIL import Image

from cellcount.outputs.charts import (
    confusion_figure,
    counts_figure,
    draw_confusion,
    draw_counts,
)

COUNTS = {"EOS": {"val": 3}, "a $x$ b": {"train": 1200, "test": 7}, "none": {}}


def test_bars_are_as_long_as_the_counts() -> None:
    (axes,) = counts_figure(COUNTS, unit="cells", title="set").axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["EOS", r"a \$x\$ b", "none"]
    bars = {
        str(bars.get_label()): [(bar.get_x(), bar.get_width()) for bar in bars.patches]  # type: ignore[attr-defined]
        for bars in axes.containers
    }
    assert bars == {  # start and length per class; one split begins where the last one ends
        "train": [(0, 0), (0, 1200), (0, 0)],
        "val": [(0, 3), (1200, 0), (0, 0)],
        "test": [(3, 0), (1200, 7), (0, 0)],
    }
    assert [t.get_text() for t in axes.texts] == ["3", "1,207", "0"]


def test_one_split_needs_no_legend() -> None:
    (axes,) = counts_figure({"A": {"": 4}, "B": {"": 1}}, unit="cells").axes
    assert axes.get_legend() is None
    (axes,) = counts_figure(COUNTS, unit="cells").axes
    assert axes.get_legend() is not None


def test_squares_are_shares_of_the_true_type_and_figures_are_cells() -> None:
    confusion = np.array([[8, 2, 0], [0, 1500, 500], [0, 0, 0]])
    axes = confusion_figure(["a", "b", "c"], confusion, "set").axes[0]
    image = next(child for child in axes.get_children() if isinstance(child, AxesImage))
    np.testing.assert_allclose(
        np.asarray(image.get_array()), np.array([[0.8, 0.2, 0], [0, 0.75, 0.25], [0, 0, 0]])
    )
    figures = {(int(y), int(x)): t.get_text() for t in axes.texts for x, y in [t.get_position()]}
    assert figures == {(0, 0): "8", (0, 1): "2", (1, 1): "1,500", (1, 2): "500"}
    rows = [t.get_text() for t in axes.get_yticklabels()]
    assert rows == ["a (10)", "b (2,000)", "c (0)"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "c"]


def test_a_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"confusion must have shape \(2, 2\), got \(3, 3\)"):
        confusion_figure(["a", "b"], np.zeros((3, 3), np.int64))


def test_both_become_pictures(tmp_path: Path) -> None:
    draw_counts(tmp_path / "new" / "counts.png", COUNTS, unit="cells", title="100 $")
    draw_confusion(tmp_path / "confusion.png", ["a", "b"], np.eye(2, dtype=np.int64))
    for path in (tmp_path / "new" / "counts.png", tmp_path / "confusion.png"):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).min() < 60  # something is drawn
