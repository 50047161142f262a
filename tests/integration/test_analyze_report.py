"""``analyze --report``: the page of a real run, again without a new analysis, and under codes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]

OUTPUTS = ("--out", "o/counts.csv", "--slides", "o/slides.csv", "--report", "o/report.html")


@pytest.fixture
def typing(colour_weights: Path, classifier_plugins: Path) -> tuple[str, ...]:
    """The options that name the classifier."""
    return ("--classifier", str(colour_weights), "--plugins", str(classifier_plugins))


def test_the_report_of_a_run(slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]) -> None:
    (slides / "a" / "broken.png").write_bytes(b"no image")
    code, out, _ = run(slides, *OUTPUTS, *typing)
    assert code == 1
    assert "o/report.html" in out
    text = Path("o/report.html").read_text("utf-8")
    shares = {r["percent"] for r in rows("o/slides.csv") if r["percent"]}
    assert shares == set(re.findall(r'data-column="percent" value="([^"]*)"', text))
    assert "5 of 6 analysed, 1 failed" in text
    assert text.count("data:image/jpeg") > 10
    run(slides, *OUTPUTS, *typing)
    assert Path("o/report.html").read_text("utf-8") == text
    codes = ("--pseudonymize", "keys/key.json")
    run(slides, *OUTPUTS, *typing, *codes)
    coded = Path("o/report.html").read_text("utf-8")
    assert "broken.png" not in coded
    assert coded.count("data:image/jpeg") == text.count("data:image/jpeg")
