"""The report: numbers of slides.csv, least sure cells, budgets, and a page that loads nothing."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount.core.records import CellClass, Cells, CellTypes, Detections, ImageRef, ImageResult
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Rules, TypeRows
from cellcount.differential.profile import load_profile
from cellcount.images.windows import window
from cellcount.outputs.columns import SLIDES_COLUMNS
from cellcount.outputs.report.cell_pictures import ReportSelection, make_pictures
from cellcount.outputs.report.differential_tables import differential_tables
from cellcount.outputs.report.quality_rows import quality_panel
from cellcount.outputs.report.report import write_report
from cellcount.outputs.run_content import Labels, RunContent, RunFacts
from cellcount.outputs.slides import write_slides
from cellcount.rendering.field import FieldSpec, render_field
from cellcount.settings import CsvForm
from tests.tables import read_table

WBC = (CellClass("wbc", "white cell", "white cells"),)
TYPES = (
    CellClass("neutrophil", "neutrophil", "neutrophils", "NEU"),
    CellClass("lymphocyte", "lymphocyte", "lymphocytes", "LYM"),
)
ROWS = (
    TypeRows("neutrophil", "neutrophils", ("band_forms", "segmented_neutrophils")),
    TypeRows("lymphocyte", "lymphocytes", ("lymphocytes",)),
)
PATIENT = "Ada <b>&"


def counting(types: tuple[TypeRows, ...] = ROWS) -> Counting:
    profile = load_profile("peripheral-blood")
    return Counting(profile, types, WBC, Rules(), {"classifier": "mine 1, sha256 0"})


def facts(types: Sequence[CellClass] = TYPES, **rest: object) -> RunFacts:
    known: dict[str, object] = {"images": 3, "max_pixels": 10**6, "notes": ("knows no giants",)}
    known |= {"counting": counting(ROWS if types else ()), "types": types, **rest}
    return RunFacts(**known)  # type: ignore[arg-type]


def result(
    path: Path, image: str, probs: Sequence[float], *, typed: bool = True, reason: str = ""
) -> ImageResult:
    """Cells in a row, types in turn; those below 0.5 unclassified."""
    n = len(probs)
    left = np.arange(n) * 12.0
    boxes = np.stack([left, left * 0 + 4, left + 10, left * 0 + 14], axis=1).astype(np.float32)
    prob = np.asarray(probs, np.float32)
    best = np.arange(n) % 2
    types = CellTypes(best, prob, 1 - best, 1 - prob, prob >= 0.5) if typed else None
    found = Detections(boxes, prob, np.zeros(n, np.int64))
    ref = ImageRef(path, image, image.split("/")[0], PATIENT, wbc_10e9_per_l=8.0)
    return ImageResult(ref, "done", reason, 64, 32, 0.1, 1.0, Cells(found, prob < 0, types))


@pytest.fixture
def results(tmp_path: Path) -> list[ImageResult]:
    """Two fields with seven typed cells; the file of the second is gone; a third failed."""
    path = tmp_path / "secret-name.png"
    Image.fromarray(np.full((32, 64, 3), 200, np.uint8)).save(path)
    ref = ImageRef(tmp_path / "x", "s2/broken.png", "s2")
    return [
        result(path, "s1/a.png", (0.9, 0.8, 0.95, 0.2)),
        result(tmp_path / "gone.png", "s1/b.png", (0.7, 0.99, 0.97), reason="odd"),
        ImageResult(ref, "failed", "truncated <PNG>"),
    ]


Numbers = dict[tuple[str, str, str, str, str], dict[str, str]]


class Page(HTMLParser):
    """Numbers by unit and row, with everything that the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: Numbers = {}
        self.loads: list[str] = []
        self.images: list[dict[str, str]] = []
        self._unit, self._row = ("", "", ""), ("", "")
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "data-level" in found:
            level, specimen, slide = (
                found.get(f"data-{name}", "") for name in ("level", "specimen", "slide")
            )
            self._unit = level, specimen, slide
        if "data-row" in found:
            self._row = (found["data-kind"], found["data-row"])
        if tag == "data":
            place = self.numbers.setdefault((*self._unit, *self._row), {})
            place[found["data-column"]] = found["value"]
        if tag == "img":
            self.images.append(found)
        href = found.get("href", "#")
        self.loads += [href] if not href.startswith("#") else []
        self.loads += [v for n, v in found.items() if n == "src" and not v.startswith("data:")]


def content_of(results: Sequence[ImageResult], about: RunFacts) -> RunContent:
    return RunContent(lambda: iter(results), about.labels, CsvForm(), about)


def written(tmp_path: Path, results: Sequence[ImageResult], about: RunFacts | None = None) -> str:
    path = tmp_path / "report.html"
    write_report(path, content_of(results, about or facts()))
    return path.read_text("utf-8")


def test_numbers_are_those_of_slides_csv(tmp_path: Path, results: list[ImageResult]) -> None:
    table = tmp_path / "slides.csv"
    write_slides(table, content_of(results, facts()))
    page = Page(written(tmp_path, results))
    compared = 0
    by_key: Numbers = {}
    lines = read_table(table, SLIDES_COLUMNS).to_dict("records")
    for line in lines:
        key = tuple(str(line[n]) for n in ("level", "specimen", "slide", "kind", "row"))
        columns = {
            c.name: c.write(line[c.name]) for c in SLIDES_COLUMNS if line[c.name] == line[c.name]
        }
        by_key[key] = columns  # type: ignore[index]
    for key, numbers in page.numbers.items():
        for name, value in numbers.items():
            assert float(value) == float(by_key[key][name]), (key, name)
            compared += 1
    assert compared > 60
    share = page.numbers["slide", PATIENT, "s1", "class", "lymphocytes"]
    assert (share["n"], share["percent"]) == ("2", "33.3333")
    assert (share["ci_low"], share["ci_high"]) == ("9.6771", "70.0007")  # Wilson, 2 of 6
    assert share["absolute_10e9_per_l"] == "2.6667"
    assert ("slide", PATIENT, "s1", "class", "blasts") not in page.numbers  # never a false zero
    with_percent = {k for k, v in by_key.items() if v.get("percent")}
    assert with_percent <= set(page.numbers)


def test_what_the_page_says(tmp_path: Path, results: list[ImageResult]) -> None:
    text = written(tmp_path, results, facts(densest_field=3, images=5))
    page = Page(text)
    assert page.loads == []
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "<script" not in text
    assert "<b>" not in text.replace("<body>", "")  # names are text, never markup
    assert str(tmp_path) not in text
    assert "secret-name" not in text  # the path on the disk is nobody's business
    for words in (
        "For research use only; not for diagnosis.",
        "2 of 5 analysed, 1 failed, 1 with a caution, 2 without a result yet",
        "The densest field has 4 cells, more than the 3",
        "truncated &lt;PNG&gt;",
        "Detector: knows no giants",
        "not assessed",
        "mine 1, sha256 0",
    ):
        assert words in text
    assert all(image["alt"] for image in page.images)
    assert text.count("image not available") == 3 + 1  # cells and field of the file that is gone
    assert written(tmp_path, results, facts(densest_field=3, images=5)) == text


@pytest.mark.parametrize("cells", [0, 1])
@pytest.mark.parametrize("types", [TYPES, ()], ids=["typed", "untyped"])
def test_few_cells_and_no_classifier(
    tmp_path: Path, cells: int, types: Sequence[CellClass]
) -> None:
    one = result(tmp_path / "gone", "a/b", (0.9,) * cells, typed=bool(types))
    text = written(tmp_path, [one], facts(types, images=1))
    if not types:
        assert "no classifier ran, so there is no differential" in text
    elif not cells:
        assert "no cell of the denominator was found" in text
    assert ("There is no" in text) == (not cells)
    assert "nan" not in text.lower().split()


def test_nothing_at_all(tmp_path: Path, results: list[ImageResult]) -> None:
    assert "0 of 3 analysed" in written(tmp_path, [])
    assert "there is nothing to report" in written(tmp_path, results[2:])


def test_least_sure_cells_come_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    survey = ReportSelection(3, typed=True)
    every: dict[int, list[tuple[float, str, int]]] = {0: [], 1: [], 2: []}
    for number in range(20):
        probs = rng.uniform(0.3, 1, 40).astype(np.float32).tolist()
        survey.add(result(tmp_path, f"a/{number:02}", probs))
        for cell, prob in enumerate(probs):
            every[cell % 2 if prob >= 0.5 else 2].append((prob, f"a/{number:02}", cell))
    for group, shown in survey.least_sure().items():
        expected = sorted(every[group])[:12]
        assert [(c.prob, c.image, c.cell) for c in shown] == expected
        assert survey.counts[group] == len(every[group])


def test_every_reason_is_drawn_before_any_twice(tmp_path: Path) -> None:
    survey = ReportSelection(1, typed=False)
    for number in range(50):
        why = f"focus 0.{number} is below the profile's 0.5" if number < 49 else "rare"
        survey.add(result(tmp_path, f"a/{number:02}", (), typed=False, reason=why))
    shown = survey.fields()
    assert len(shown) == 20
    assert shown[-1].reason == "rare"
    assert {one.kind for one in shown} == {"focus is below the profile's 0.5", "rare"}


def test_a_file_that_changed_is_no_picture(tmp_path: Path, results: list[ImageResult]) -> None:
    survey = ReportSelection(3, typed=True)
    for one in results:
        survey.add(one)
    made = make_pictures(results, survey, Labels(WBC, TYPES), 10**6)
    assert {image for image, _ in made.cells} == {"s1/a.png"}
    Image.new("RGB", (70, 32)).save(tmp_path / "secret-name.png")
    assert make_pictures(results, survey, Labels(WBC, TYPES), 10**6).cells == {}


def test_crops_are_those_of_the_whole_image_read_by_windows_or_not(tmp_path: Path) -> None:
    pixels = render_field(FieldSpec(160, 120, 3, 24, 0.3)).pixels
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), compression="zlib")
    boxes = np.array([[0, 0, 20, 22.5], [70.3, 50.1, 95.7, 71], [140, 100, 160, 120]], np.float32)
    found = Detections(boxes, np.ones(3, np.float32), np.zeros(3, np.int64))
    one = ImageResult(
        ImageRef(path, "a", "s"), "done", "x", 160, 120, cells=Cells(found, found.scores < 0)
    )
    selection = ReportSelection(1, typed=False)
    selection.add(one)
    whole, windows = (make_pictures([one], selection, Labels(WBC), n) for n in (10**6, 15_000))
    assert whole.cells == windows.cells
    assert set(whole.fields) == {"a"}
    assert not windows.fields, "a slide is not shown whole"
    for (_, rank), address in whole.cells.items():
        x_min, y_min, x_max, y_max = boxes[rank].tolist()
        side = 1.4 * max(x_max - x_min, y_max - y_min)
        centre = ((x_min + x_max) / 2, (y_min + y_max) / 2)
        expected = window(pixels, centre, side, (96, 96), "bicubic").astype(int)
        shown = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert np.abs(np.asarray(shown).astype(int) - expected).mean() < 4  # JPEG


def test_bars_have_one_scale_and_lie_at_their_numbers(results: list[ImageResult]) -> None:
    from cellcount.differential.rollup import roll_up

    unit = roll_up(counting().fields(results[:2]))[0]
    table = differential_tables(counting().of(unit))[0]
    (row,) = (r for r in table.rows if r.id == "lymphocytes")
    (bar,) = (cell.bar for cell in row.cells if cell.bar)
    assert table.columns[0] == "0 to 100 %"
    assert (bar.value, bar.low, bar.high) == (66.7, 19.4, 140.0)  # 200 px for 100 %


def test_quality_panel() -> None:
    (row,) = quality_panel({"focus": [0.1, 0.5, 0.9]}, {"focus_min": 0.5, "exclude_focus_min": 0.1})
    assert row["numbers"] == ["0.100", "0.500", "0.900"]
    assert row["asked"] == "caution below 0.5, excluded below 0.1"
    assert [bar[2:] for bar in row["bars"]] == [[5.0, 24.0]] * 3
    assert len(quality_panel({"focus": [1.0]}, {})[0]["bars"]) == 1


def test_thousands_of_fields_stay_usable(tmp_path: Path) -> None:
    """Many slides, every field flagged, pictures of noise, which is worst for JPEG."""
    path = tmp_path / "noise.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (600, 800, 3), np.uint8)).save(path, compress_level=1)
    one = result(path, "x", (0.9, 0.6, 0.4) * 2)

    def stream() -> Iterator[ImageResult]:
        import dataclasses

        for number in range(2_000):
            ref = dataclasses.replace(
                one.ref, image=f"{number:04}/field", slide=f"{number // 14:04}"
            )
            yield dataclasses.replace(one, ref=ref, reason="odd", width_px=800, height_px=600)

    report = tmp_path / "report.html"
    about = facts(images=2_000)
    write_report(report, RunContent(stream, about.labels, CsvForm(), about))
    assert report.stat().st_size < 25_000_000
    text = report.read_text("utf-8")
    assert "more slides and specimens are in the table of --slides" in text
    assert text.count('loading="lazy"') <= 3 * 12 + 20


Browser = Callable[[Path], tuple[str, str, list[str]]]


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """``browser(page)`` → its elements, what the console said, and what the page asked for."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here to open the page with")

    def opened(page: Path) -> tuple[str, str, list[str]]:
        done = subprocess.run(
            [
                program,
                *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
                *("--disable-background-networking", "--disable-component-update", "--v=0"),
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--log-net-log={tmp_path / 'net.json'}",
                *("--dump-dom", page.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        events = json.loads((tmp_path / "net.json").read_text("utf-8"))["events"]
        told = [event.get("params", {}) for event in events]
        # The browser's own requests have no page as their initiator.
        asked = [p["url"] for p in told if "url" in p and p.get("initiator") in ("null", "file://")]
        return done.stdout, done.stderr, [url for url in asked if url.startswith("http")]

    return opened


def test_a_browser_opens_it_without_a_word(
    tmp_path: Path, results: list[ImageResult], browser: Browser
) -> None:
    written(tmp_path, results)
    dom, said, asked = browser(tmp_path / "report.html")
    assert "For research use only" in dom
    assert "CONSOLE" not in said
    assert asked == []
    bad = tmp_path / "bad.html"  # or nothing would ever be seen
    bad.write_text("<img src='http://127.0.0.1:59999/x.png'><script>console.log('hear')</script>")
    _, said, asked = browser(bad)
    assert "CONSOLE" in said
    assert asked
