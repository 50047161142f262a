"""``evaluate counts`` and ``evaluate repeatability`` from tables to pages, pictures and errors."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount import cli
from tests.tables import read_table

CLASSES = ("segmented_neutrophils", "lymphocytes", "monocytes")


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """slides.csv of a counter and manual.csv of a person, 24 slides; one name is a formula."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    with open("slides.csv", "w", newline="") as mine, open("manual.csv", "w", newline="") as theirs:
        ours, sheet = csv.writer(mine), csv.writer(theirs, delimiter=";")
        ours.writerow(["level", "specimen", "slide", "kind", "row", "n", "denominator", "percent"])
        sheet.writerow(["slide", "n", *CLASSES])
        for i in range(24):
            name = f"s{i}" if i else "'=1+1"
            shares = rng.dirichlet([12, 6, 2])
            counts, reference = rng.multinomial(150, shares), rng.multinomial(200, shares)
            sheet.writerow([name, 200, *reference])
            for row, n in zip(CLASSES, counts, strict=True):
                ours.writerow(["slide", "", name, "class", row, n, 150, f"{n / 1.5:.4f}"])
    return tmp_path


class Page(HTMLParser):
    """Resources that a page loads, and the texts of its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v is not None]
        if tag == "img":
            self.words.append(named.get("alt") or "")


def test_a_folder_with_everything(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "counts", "slides.csv", "manual.csv", "--out", "out"]) == 0
    shown = capfd.readouterr().out
    assert "24 slides in both" in shown
    assert "Passing–Bablok" in shown
    assert "kappa" in shown
    document = json.loads(Path("out/comparison.json").read_text("utf-8"))
    with open("out/classes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(CLASSES)
    assert float(rows[0]["bias"]) == pytest.approx(document["classes"][0]["bias"])
    pairs = read_table(Path("out/pairs.csv"))
    assert len(pairs) == 24 * 3
    assert pairs["slide"][0] == "=1+1"
    assert "\n'=1+1," in Path("out/pairs.csv").read_text("utf-8")
    for name in CLASSES:
        for kind in ("bland_altman", "passing_bablok"):
            with Image.open(f"out/{name}_{kind}.png") as picture:
                assert min(picture.size) > 400
    again = Path("out/comparison.html").read_bytes()
    assert cli.main(["evaluate", "counts", "slides.csv", "manual.csv", "--out", "b.html"]) == 0
    assert Path("b.html").read_bytes() == again


def test_the_page_loads_nothing_and_says_what_it_shows(tables: Path) -> None:
    assert cli.main(["evaluate", "counts", "slides.csv", "manual.csv", "--out", "page.html"]) == 0
    text = Path("page.html").read_text("utf-8")
    page = Page(text)
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert "script" not in page.tags
    assert len(page.words) == 6
    assert all(len(words) > 30 for words in page.words)
    assert "For research use; not for diagnosis" in text
    assert {a[1:] for a in page.addresses if a[0] == "#"} <= set(_ids(text))


def _ids(text: str) -> list[str]:
    return [part.split('"')[0] for part in text.split(' id="')[1:]]


def test_options_reach_the_comparison(tables: Path) -> None:
    command = ["evaluate", "counts", "slides.csv", "manual.csv", "--json", "a.json"]
    options = ["--threshold", "lymphocytes=30", "--threshold", "50", "--error-ratio", "2"]
    assert cli.main([*command, *options, "--csv", "a.csv"]) == 0
    document = json.loads(Path("a.json").read_text("utf-8"))
    by_class = {one["class"]: list(one["agreement"]) for one in document["classes"]}
    assert by_class == {CLASSES[0]: ["50"], "lymphocytes": ["30"], "monocytes": ["50"]}
    assert document["deming_error_ratio"] == 2
    assert Path("a.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "much"], "--threshold is 'much', expected a percentage"),
        (["--pair", "x"], "--pair is 'x', expected OURS=THEIRS"),
        (["--error-ratio", "-1"], "--error-ratio is -1"),
        (["--level", "specimen"], "no specimens in common"),
    ],
)
def test_wrong_usage(
    tables: Path, capfd: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert cli.main(["evaluate", "counts", "slides.csv", "manual.csv", *options]) == 2
    assert message in capfd.readouterr().err


def test_markup_in_a_table_is_text_on_the_page(tables: Path) -> None:
    text = "slide,n,<script>alert(1)</script>,b\n" + "".join(
        f"[bold]s{i}<b>,100,{40 + i},{60 - i}\n" for i in range(4)
    )
    Path("odd.csv").write_text(text)
    assert cli.main(["evaluate", "counts", "odd.csv", "odd.csv", "--out", "odd.html"]) == 0
    assert "script" not in Page(Path("odd.html").read_text("utf-8")).tags


def test_repeatability(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(9)
    lines = ["specimen;day;run;NEU;LYM"]
    for i in range(20):
        n = rng.binomial(100, 0.6)
        lines.append(f"P;{i // 4};{i % 4 // 2};{n};{100 - n}")
    Path("r.csv").write_text("\n".join(lines) + "\n")
    command = ["evaluate", "repeatability", "r.csv", "--out", "r.html", "--csv", "rr.csv"]
    assert cli.main([*command, "--json", "r.json"]) == 0
    assert "Standard deviations of repeated counts" in capfd.readouterr().out
    (neu, _) = json.loads(Path("r.json").read_text("utf-8"))["components"]
    parts = neu["components"]
    assert parts["total"]["sd"] ** 2 == pytest.approx(
        sum(parts[k] ** 2 for k in ("within_run", "between_run", "between_day"))
    )
    assert "Repeatability" in Path("r.html").read_text("utf-8")
    assert cli.main(["evaluate", "repeatability", "manual.csv"]) == 2
    assert "has no column run or day" in capfd.readouterr().err
