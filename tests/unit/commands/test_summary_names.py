"""Rows of the summary that count different things have different names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cellcount.analysis.outcome import Outcome, Totals
from cellcount.commands.terminal.summary import say_outcome
from cellcount.core.records import CellClass


def test_platelets_of_the_detector_and_of_the_classifier_are_told_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    classes = (CellClass("wbc", "white cell", "white cells"),
               CellClass("platelet", "platelet", "platelets"))  # fmt: skip
    types = (CellClass("lymphocyte", "lymphocyte", "lymphocytes"),
             CellClass("platelet", "platelet", "platelets"))  # fmt: skip
    totals = Totals(
        finished=1,
        done=1,
        cells=39,
        counts={"wbc": 3, "platelet": 36},
        types={"lymphocyte": 3, "platelet": 0, "unclassified": 0},
    )
    say_outcome(Outcome(1, totals, (Path("o.csv"),), 1.0, 1), classes, types)
    names = [line.rsplit("  ", 2)[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert "platelets among the cells typed" in names
    assert not [name for name, times in Counter(names).items() if times > 1]
