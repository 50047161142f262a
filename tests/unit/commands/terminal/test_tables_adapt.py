"""Figures of an adaptation as a person reads them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cellcount.adapt.gain_figures import Figures, RightShare, Side, StatisticsFigures
from cellcount.commands.terminal.tables_adapt import show_figures


def shown(statistics: StatisticsFigures | None) -> str:
    right = RightShare(8, 10)
    side = Side(right, right, right, {"lymphocyte": right}, 0.5)
    figures = Figures("as it is", {}, side, side, 1, 1, 3, statistics)
    text = io.StringIO()
    show_figures(Console(file=text, width=100), figures)
    return " ".join(text.getvalue().split())


@pytest.mark.parametrize(
    ("share", "losses", "said"),
    [
        (
            0.0,
            {0.0: 0.4, 0.3: 0.41, 0.7: None},
            "statistics of normalisation: as packaged, tried with 1,200 unlabelled cells; least "
            "log loss on slides left out: share 0: 0.400, share 0.3: 0.410, share 0.7: not used "
            "(not used: the layer as it is fits the labelled cells worse with it)",
        ),
        (
            0.0,
            {0.0: 0.4, 0.3: 0.39, 0.7: 0.45},
            "share 0: 0.400, share 0.3: 0.390, share 0.7: 0.450; a smaller loss gains less than "
            "its standard error",
        ),
        (
            0.3,
            {0.0: 0.4, 0.3: 0.2},
            "statistics of normalisation: re-estimated, share 0.3, tried with 1,200 unlabelled "
            "cells; least log loss on slides left out: share 0: 0.400, share 0.3: 0.200",
        ),
    ],
)
def test_the_share_of_re_estimated_statistics_is_told_with_its_reason(
    share: float, losses: dict[float, float | None], said: str
) -> None:
    assert shown(StatisticsFigures("slides", 1200, share, losses)).endswith(said)
    assert "statistics" not in shown(None)
