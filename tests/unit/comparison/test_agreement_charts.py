"""Charts of a method comparison: what they draw, the same every time, also of odd values."""

from __future__ import annotations

import numpy as np
import pytest

from cellcount.comparison.agreement_charts import (
    Band,
    FittedLine,
    bland_altman_figure,
    line_figure,
    svg,
)

X = np.array([10.0, 20, 30, 45])
Y = np.array([12.0, 19, 33, 44])


def test_differences_against_means() -> None:
    bands = [Band(1.0, -1, 3), Band(-4.0, -6, -2), Band(6.0, 4, 8)]
    (axes,) = bland_altman_figure(X, Y, title="NEU", bands=bands).axes
    offsets = np.asarray(axes.collections[-1].get_offsets())
    assert offsets.tolist() == np.stack([(X + Y) / 2, Y - X], axis=1).tolist()
    low, high = axes.get_ylim()
    assert low < -6
    assert high > 8
    assert {t.get_text() for t in axes.texts} == {"bias +1.0", "limit -4.0", "limit +6.0"}


def test_both_methods_with_the_line() -> None:
    line = FittedLine(1.1, -0.5, (0.9, 1.3))
    (axes,) = line_figure(X, Y, title="NEU", line=line, method="Passing–Bablok").axes
    fitted = axes.lines[1]
    ends = np.asarray(fitted.get_xdata(), float)
    assert np.asarray(fitted.get_ydata()).tolist() == (-0.5 + 1.1 * ends).tolist()
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[1] > 45


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_points_on_one_spot_still_have_a_scale(value: float) -> None:
    same = np.full(3, value)
    (axes,) = bland_altman_figure(same, same, title="x $1").axes
    assert np.ptp(axes.get_xlim()) >= 1
    assert np.ptp(axes.get_ylim()) >= 1
    (axes,) = line_figure(same, same, title="x", line=None, method="").axes
    assert axes.get_xlim()[0] <= value <= axes.get_xlim()[1]


def test_the_same_bytes_every_time() -> None:
    def draw() -> bytes:
        return svg(bland_altman_figure(X, Y, title="NEU"))

    assert draw() == draw()
    assert b"<dc:date>" not in draw()
