"""Tables of reports: names of strangers in them are texts, whatever they begin with."""

from __future__ import annotations

import csv
from pathlib import Path

from cellcount.commands.terminal.reports import write_csv


def test_no_name_runs_as_a_formula_and_none_stops_the_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [
        {"file": "=cmd|x.png", "@type": "-1+1", "loss": -0.5, "n": 3, "none": None},
        {"file": "caf\udce9.png", "@type": "rbc", "loss": 1.0, "n": -2, "none": None},
    ]
    write_csv(path, rows)
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["file", "'@type", "loss", "n", "none"],
            ["'=cmd|x.png", "'-1+1", "-0.5", "3", ""],
            ["caf\\udce9.png", "rbc", "1.0", "-2", ""],
        ]
