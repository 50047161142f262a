"""The first screen of the report, in a real browser: date, who, what, and the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellcount.core.records import CellClass, Cells, CellTypes, Detections, ImageRef, ImageResult
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Confusion, Rules, TypeRows
from cellcount.differential.profile import load_profile
from cellcount.differential.rollup import roll_up
from cellcount.outputs.report.head import report_head
from cellcount.outputs.report.report import write_report
from cellcount.outputs.run_content import RunContent, RunFacts
from cellcount.outputs.slides import written_rows
from cellcount.settings import CsvForm
from cellcount.store.approvals import Approval, SlideApproval

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

CHROMIUM = Path("/usr/bin/chromium")
CLASSES = (
    CellClass("rbc", "red cell", "red cells"),
    CellClass("wbc", "white cell", "white or nucleated cells"),
    CellClass("platelet", "platelet", "platelets"),
)
SLIDES = ("A", "2026-11-30_ward-3_a-slide-with-a-long-name", "C")
SHA = ", sha256 " + "0" * 64


def content(profile_name: str = "peripheral-blood", **facts: object) -> RunContent:
    """Three slides of ten fields, every type of the profile found, every column filled."""
    profile = load_profile(profile_name)
    rows = (*profile.rows, *profile.outside)
    types = tuple(TypeRows(row, profile.name_of(row), (row,)) for row in rows)
    names = tuple(CellClass(row, profile.name_of(row), profile.name_of(row)) for row in rows)
    matrix = np.eye(len(rows), dtype=np.int64) * 50 + 1
    rules = Rules(confusion=Confusion(tuple(rows), matrix, "a card"))
    models = {"detector": f"mine 1.0{SHA}", "classifier": f"types 2.0{SHA}"}
    models["review"] = "5 cells have the type of a reviewer: 5 by A. Smith; last 2026-02-01T09:30"
    known: dict[str, object] = {
        "counting": Counting(profile, types, CLASSES, rules, models),
        "types": names,
        "images": 30,
        "max_pixels": 10**6,
        **facts,
    }
    results = [_field(slide, number, len(rows)) for slide in SLIDES for number in range(10)]
    about = RunFacts(**known)  # type: ignore[arg-type]
    return RunContent(
        lambda: iter(results), about.labels, CsvForm(), about,
        begun="20260131101500+0000", changed="20260201093000+0000",
    )  # fmt: skip


def _field(slide: str, number: int, types: int) -> ImageResult:
    """Fields with a white cell of each type, a red cell each, and two platelets."""
    n = 2 * types + 2
    label = np.repeat([1, 0, 2], [types, types, 2])
    best = np.where(label == 1, np.arange(n), -1)
    prob = np.where(label == 1, 0.9, 0).astype(np.float32)
    left = np.arange(n, dtype=np.float32) * 12
    boxes = np.stack([left, left * 0, left + 10, left * 0 + 10], axis=1)
    typed = CellTypes(best, prob, best, prob, label == 1)
    cells = Cells(Detections(boxes, np.ones(n, np.float32), label), label < 0, typed)
    ref = ImageRef(Path("gone"), f"{slide}/{number}.png", slide, wbc_10e9_per_l=6.5)
    return ImageResult(ref, "done", "", 640, 480, 0.1, 1.0, cells)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"no browser: {CHROMIUM} is not there (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``written("bone-marrow")``: the report of that profile, made once."""

    @cache
    def report_of(profile: str) -> Path:
        path = tmp_path_factory.mktemp(profile) / "r.html"
        write_report(path, content(profile))
        return path

    return report_of


@pytest.fixture(scope="module")
def report(written: Callable[[str], Path]) -> Path:
    """The report of peripheral blood."""
    return written("peripheral-blood")


def opened_at(browser: Browser, path: Path, width: int, height: int) -> Tab:
    tab = browser.new_page(viewport={"width": width, "height": height})
    tab.goto(path.as_uri())
    return tab


def bottom(tab: Tab, selector: str) -> float:
    """Lower end of the last such element."""
    box = tab.locator(selector).last.bounding_box()
    assert box is not None, selector
    return box["y"] + box["height"]


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_date_people_models_bars_with_limits_and_counts_need_no_scrolling(
    browser: Browser, report: Path, width: int, height: int
) -> None:
    tab = opened_at(browser, report, width, height)
    assert tab.locator(".head dd").all_inner_texts() == [
        "2026-01-31 10:15 UTC; last corrected or approved 2026-02-01 09:30 UTC",
        "5 cells have the type of a reviewer: 5 by A. Smith",
        "detector mine 1.0; classifier types 2.0; profile peripheral-blood 1.0",
    ]
    first = "section.unit:first-of-type"
    tiles = dict(
        zip(
            tab.locator(f"{first} .tiles dt").all_inner_texts(),
            tab.locator(f"{first} .tiles dd").all_inner_texts(),
            strict=True,
        )
    )
    assert (tiles["Red cells"], tiles["Platelets"]) == ("160", "20")
    assert tab.locator(f"{first} table.first tbody tr").count() == 10
    assert tab.locator(f"{first} table.first .bar .limits").count() == 10
    for shown in (".head dd", f"{first} .tiles dd", f"{first} table.first tbody tr"):
        assert bottom(tab, shown) <= height, shown
    assert bottom(tab, f"{first} table.first") < bottom(tab, f"{first} .notes")
    tab.close()


@pytest.mark.parametrize("profile", ["peripheral-blood", "bone-marrow"])
def test_nothing_scrolls_sideways_at_1280(
    browser: Browser, written: Callable[[str], Path], profile: str
) -> None:
    tab = opened_at(browser, written(profile), 1280, 800)
    wide = "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"
    assert tab.eval_on_selector_all(".scroll", wide) == []
    assert tab.evaluate("document.documentElement.scrollWidth") == 1280
    tab.close()


def test_limits_are_in_view_on_a_telephone(browser: Browser, report: Path) -> None:
    tab = opened_at(browser, report, 390, 844)
    limits = ".first td:nth-child(4), .rest table:not(:has(.bar)) td:nth-child(3)"
    ends = "all => all.map(e => e.getBoundingClientRect()).filter(r => r.width).map(r => r.right)"
    found = tab.eval_on_selector_all(limits, ends)
    assert len(found) > 40
    assert max(found) <= 390
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.close()


def test_a_full_slide_is_one_page_when_printed(browser: Browser, report: Path) -> None:
    tab = opened_at(browser, report, 680, 1009)  # A4 within its margins
    tab.emulate_media(media="print")
    ends = tab.eval_on_selector_all(
        "section.unit", "all => all.map(s => [s.offsetTop, s.offsetTop + s.offsetHeight])"
    )
    assert ends[0][1] <= 1009, "the first one with the head of the report"
    assert all(end - start <= 1009 for start, end in ends)
    tab.close()


def test_the_head_tells_who_approved_and_what_has_changed_since() -> None:
    about = content()
    counting = about.facts.counting
    units = roll_up(counting.fields(about.results()))
    rows = tuple(written_rows(units[0], counting.of(units[0])))
    one = Approval(1, "B. Jones", "2026-02-01T09:30:00+00:00", "", rows)
    stale = Approval(1, "C. Brown", "2026-02-01T09:31:00+00:00", "", rows[:1])
    approvals = {
        ("", SLIDES[0]): SlideApproval((one,)),
        ("", SLIDES[1]): SlideApproval((stale,)),
    }
    told = dict(report_head(content(approvals=approvals), units))
    assert told["Who"].endswith("; 1 of 3 slides approved by B. Jones; 1 reopened or changed since")
    second = Approval(2, "B. Jones", "2026-02-02T09:30:00+00:00", "a slip", rows)
    amended = {("", SLIDES[0]): SlideApproval((one, second))}
    told = dict(report_head(content(approvals=amended), units))
    assert told["Who"].endswith("1 of 3 slides approved by B. Jones, 1 of them amended")
