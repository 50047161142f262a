"""The review page in a real browser: each flow by keys and by mouse, nothing asked elsewhere."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.open_page import Page, of, open_page
from tests.integration.stepwise_adapter import StepwiseAdapter

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage
    from playwright.sync_api import Page as Tab

CHROMIUM = "/usr/bin/chromium"
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"no browser: {CHROMIUM} is not there (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        options = {"executable_path": CHROMIUM, "args": ["--no-sandbox"]}
        opened = playwright.chromium.launch(**options)
        yield opened
        opened.close()


@pytest.fixture
def adapter() -> Iterator[StepwiseAdapter]:
    made = StepwiseAdapter()
    yield made
    made.go_on.release(3)


@pytest.fixture
def page(typed_run: Path, tmp_path: Path, adapter: StepwiseAdapter) -> Iterator[Page]:
    shutil.copytree(typed_run, tmp_path / "o")
    with open_page(tmp_path / "o" / "counts.csv", adapter=adapter) as opened:
        yield opened.enter("server side")


@pytest.fixture
def tab(browser: Browser, page: Page) -> Iterator[Tab]:
    """A tab in which A. Smith has signed in; it fails the test for whatever goes wrong there."""
    wrong: list[str] = []
    with browser.new_context(viewport=WIDE) as context:  # type: ignore[arg-type]  # a size
        opened = context.new_page()
        opened.set_default_timeout(30_000)
        opened.on("console", lambda m: wrong.append(m.text) if _is_bad(m) else None)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("request", lambda r: None if r.url.startswith(page.url) else wrong.append(r.url))
        opened.goto(page.address)
        opened.wait_for_selector("#sign-in button:enabled")
        opened.fill("#name", "A. Smith")
        opened.keyboard.press("Enter")
        opened.wait_for_selector(".card table")
        yield opened
    assert wrong == []


def _is_bad(message: ConsoleMessage) -> bool:
    """Tell a fault in the console from what a test has refused on purpose."""
    on_purpose = ("status of 409", "status of 423", "net::ERR_FAILED")
    is_fault = message.type in ("error", "warning")
    return is_fault and not any(text in message.text for text in on_purpose)


def view(tab: Tab, page: Page, name: str, slide: int = 0) -> None:
    tab.goto(f"{page.url}/slides/{slide}/{name}")
    tab.wait_for_selector("body[data-ready]")


def until(tab: Tab, expression: str) -> None:
    """Wait for something; Playwright's own way needs a policy that lets pages make code of text."""
    for _ in range(400):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"it never was so: {expression}; the page says {tab.inner_text('#status')!r}")


def saved(tab: Tab) -> None:
    """Wait until the server has every correction."""
    until(tab, "document.querySelector('#status').textContent.startsWith('All')")


def edits(page: Page) -> list[tuple[str, str, str]]:
    return [(e.kind, e.type_id, e.reviewer) for e in page.bench.stored.journal.edits()]


def test_cells_are_named_confirmed_and_taken_out_by_keys(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    for key in ("1", "2", "n"):
        tab.keyboard.press(key)
    until(tab, "document.querySelector('#counted').textContent === '2'")
    tab.keyboard.press("Enter")
    saved(tab)
    made = edits(page)
    assert [one[:2] for one in made[:3]] == [
        ("retype", "neutrophil"), ("retype", "lymphocyte"), ("not_a_cell", ""),
    ]  # fmt: skip
    assert {who for _, _, who in made} == {"A. Smith"}
    tab.keyboard.press("z")
    tab.keyboard.press("z")
    saved(tab)
    tab.keyboard.press("Shift+Z")
    saved(tab)
    kinds = [kind for kind, _, _ in edits(page)]
    assert kinds[-3:] == ["undo", "undo", "undo"]
    assert tab.evaluate("performance.getEntriesByName('key to paint').length") >= 7


def test_several_cells_are_dragged_onto_a_type(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    tab.click("#cell-0")
    tab.click("#cell-2", modifiers=["Shift"])
    assert tab.locator(".tile.picked").count() == 3
    tab.drag_and_drop("#cell-1", "#types li:nth-child(4) button")
    saved(tab)
    assert edits(page) == [("retype", "erythroblast", "A. Smith")] * 3
    tab.click("#undo")
    saved(tab)
    assert len(edits(page)) == 6
    tab.click("#types li:nth-child(2) button")
    shown = tab.inner_text("#shown")
    assert shown == f"{tab.inner_text('#types li:nth-child(2) .n')} cells"


def test_a_finger_alone_names_cells(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    tab.click("#cell-1")
    tab.select_option("#name-as", "lymphocyte")
    saved(tab)
    assert edits(page) == [("retype", "lymphocyte", "A. Smith")]
    assert tab.input_value("#name-as") == ""


def test_a_comment_is_kept_and_shown(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    tab.keyboard.press("c")
    tab.fill("#ask-value", "vacuoles <b>")
    tab.click("#ask button.first")
    tab.wait_for_selector(".tile.said")
    saved(tab)
    (edit,) = page.bench.stored.journal.edits()
    assert (edit.kind, edit.comment) == ("comment", "vacuoles <b>")
    assert tab.get_attribute(".tile.said", "title") == "vacuoles <b>"


def test_the_differential_moves_as_cells_are_corrected(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    cell = '#tables tr[data-row="lymphocytes"] [data-n]'
    before = tab.get_attribute(cell, "data-n")
    tab.keyboard.press("Control+a")
    tab.keyboard.press("2")
    saved(tab)
    until(tab, f"document.querySelector('{cell}').dataset.n !== '{before}'")
    tab.click("#write")
    tab.wait_for_selector("#behind", state="hidden")
    path = page.bench.stored.outputs.files.settings.forms["slides"]
    with open(path, encoding="utf-8", newline="") as file:
        written = {(r["kind"], r["row"]): r for r in csv.DictReader(file) if r["slide"] == "a"}
    shown = tab.eval_on_selector_all(
        "#tables tr[data-row]",
        "rows => rows.map(r => [r.dataset.kind, r.dataset.row,"
        " r.querySelector('[data-n]')?.dataset.n])",
    )
    assert len(shown) > 5
    for kind, row, n in shown:
        assert n is None or written[kind, row]["n"] == n


def test_the_bell_rings_when_the_target_is_counted(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    tab.evaluate("document.querySelector('#target').append(new Option('2', '2'))")
    tab.select_option("#target", "2")
    tab.focus("#gallery")
    tab.keyboard.press("1")
    assert tab.get_attribute("body", "data-bell") is None
    tab.keyboard.press("1")
    tab.wait_for_selector("body[data-bell='1']")
    assert tab.inner_text("#reached") == "2 cells are counted."
    assert tab.inner_text("#counted") == "2 / 2"
    saved(tab)


def test_a_conflict_is_shown_and_both_are_asked_about(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    tab.evaluate("Object.defineProperty(document, 'hidden', {value: true})")  # no look meanwhile
    cell = tab.get_attribute("#cell-0 img", "src").split("/")[3].split("?")[0]  # type: ignore[union-attr]  # there is one
    (row,) = (one for one in page.rows() if one["id"] == cell)
    assert page.edit(of(row, "retype", type="erythroblast"))[0] == 200
    tab.keyboard.press("2")
    tab.wait_for_selector("#conflicts button")
    assert "server side made it ERB; you wanted lymphocyte" in tab.inner_text("#conflicts")
    assert [one[2] for one in edits(page)] == ["server side"]
    tab.click("#conflicts button:last-of-type")
    tab.wait_for_selector("#conflicts", state="hidden")
    saved(tab)
    assert edits(page)[-1] == ("retype", "lymphocyte", "A. Smith")


def test_corrections_wait_for_a_server_that_does_not_answer(tab: Tab, page: Page) -> None:
    # Before the page is loaded: a rule for a page that is open may come after the first key.
    tab.route("**/edits", lambda route: route.abort())
    view(tab, page, "cells")
    for number, key in enumerate(("1", "2"), start=1):
        tab.keyboard.press(key)
        until(tab, f"document.querySelector('#status').textContent.startsWith('{number} not')")
    assert edits(page) == []
    tab.unroute("**/edits")
    saved(tab)
    assert [one[1] for one in edits(page)] == ["neutrophil", "lymphocyte"]


def test_keys_are_chosen_by_each_person(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    tab.click("#edit-keys")
    tab.fill("#key-list input[aria-label='lymphocyte']", "l")
    tab.fill("#key-list input[aria-label='neutrophil']", "n")
    tab.click("#keys-keep")
    assert tab.inner_text("#keys-error") == "The key n is a command."
    tab.fill("#key-list input[aria-label='neutrophil']", "1")
    tab.click("#keys-keep")
    tab.wait_for_selector("#types kbd:text-is('L')")
    view(tab, page, "cells")
    tab.keyboard.press("l")
    saved(tab)
    assert edits(page) == [("retype", "lymphocyte", "A. Smith")]


def test_boxes_are_drawn_moved_resized_and_deleted_by_mouse(tab: Tab, page: Page) -> None:
    view(tab, page, "field")
    stage = tab.locator("#stage").bounding_box()
    assert stage is not None
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    tab.click("#add")
    tab.mouse.move(x - 40, y - 40)
    tab.mouse.down()
    tab.mouse.move(x + 30, y + 20, steps=4)
    tab.mouse.up()
    until(tab, "document.querySelector('#stage-note').textContent.includes('A. Smith')")
    (added,) = (row for row in page.rows() if row["marks"] & 16)
    tab.mouse.move(x - 5, y - 10)
    tab.mouse.down()
    tab.mouse.move(x + 15, y + 10, steps=4)
    tab.mouse.up()
    saved(tab)
    (moved,) = (row for row in page.rows() if row["marks"] & 16)
    scale = (moved["x0"] - added["x0"]) / 20
    assert scale > 0
    assert moved["x1"] - moved["x0"] == pytest.approx(added["x1"] - added["x0"], abs=0.05)
    tab.mouse.move(x + 50, y + 40)
    tab.mouse.down()
    tab.mouse.move(x + 70, y + 60, steps=4)
    tab.mouse.up()
    saved(tab)
    (resized,) = (row for row in page.rows() if row["marks"] & 16)
    assert (resized["x0"], resized["y0"]) == (moved["x0"], moved["y0"])
    assert resized["x1"] - moved["x1"] == pytest.approx(20 * scale, abs=0.1)
    tab.click("#delete")
    saved(tab)
    assert [kind for kind, _, _ in edits(page)] == ["add", "move", "move", "delete"]
    tab.click("#undo")
    saved(tab)
    assert any(row["marks"] & 16 for row in page.rows())


def test_the_field_is_worked_on_by_keys_alone(tab: Tab, page: Page) -> None:
    view(tab, page, "field")
    assert tab.evaluate("document.activeElement.id") == "stage"
    for key in (".", "2", "Alt+ArrowRight", "Control+Shift+ArrowDown", "n", "+", "-", "Home"):
        tab.keyboard.press(key)
    saved(tab)
    tab.keyboard.press("b")
    until(tab, "document.querySelector('#stage-note').textContent.includes('A. Smith')")
    tab.keyboard.press("1")
    tab.keyboard.press("Delete")
    saved(tab)
    kinds = [kind for kind, _, _ in edits(page)]
    assert kinds == ["retype", "move", "move", "not_a_cell", "add", "retype", "delete"]
    first, second = [e.to_xyxy for e in page.bench.stored.journal.edits() if e.kind == "move"]
    assert second[3] - first[3] == pytest.approx(10)


def test_the_picture_is_seen_and_brightness_changes_no_number(tab: Tab, page: Page) -> None:
    view(tab, page, "field")
    tab.wait_for_timeout(300)
    colours = tab.evaluate(
        "(() => { const c = document.querySelector('#picture'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; return new Set(d).size; })()"
    )
    assert colours > 50, "the tiles are drawn"
    tab.evaluate(
        "(() => { const r = document.querySelector('#brightness'); r.value = 150;"
        " r.dispatchEvent(new Event('input')); })()"
    )
    assert "brightness(1.5)" in tab.evaluate(
        "getComputedStyle(document.querySelector('#picture')).filter"
    )
    assert page.bench.stored.journal.said() == [0, 0]


def test_a_slide_is_approved_reopened_and_flagged(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    tab.check("#flags input[data-flag='smudge_cells'] >> nth=0")
    tab.wait_for_selector("#flags label:has-text('A. Smith')")
    tab.click("#approve")
    tab.click("#ask button.first")
    tab.wait_for_selector("#reopen:visible")
    assert tab.inner_text("#approval").startswith("approved by A. Smith")
    tab.focus("#gallery")
    tab.keyboard.press("1")
    tab.wait_for_selector("#error:visible")
    assert "reopen it to amend" in tab.inner_text("#error")
    assert edits(page) == []
    tab.click("#reopen")
    tab.fill("#ask-value", "wrong slide")
    tab.click("#ask button.first")
    tab.wait_for_selector("#approve:visible")
    tab.focus("#gallery")
    tab.keyboard.press("1")
    saved(tab)
    assert len(edits(page)) == 1


def test_a_second_reading_is_blind_and_ends_in_a_consensus(tab: Tab, page: Page) -> None:
    rows = [row for row in page.rows() if row["model"] >= 0][:3]
    for row in rows:
        assert page.edit(of(row, "retype", type="lymphocyte"))[0] == 200
    seen: list[str] = []
    tab.on("response", lambda r: seen.append(r.text()) if r.url.endswith("/second") else None)
    view(tab, page, "second")
    assert tab.inner_text("#read") == "0 of 3 read"
    tab.keyboard.press("2")
    tab.keyboard.press("z")
    tab.keyboard.press("2")
    tab.click("#choices button[data-type='lymphocyte']")
    tab.keyboard.press("3")
    tab.wait_for_selector("#done:visible")
    until(tab, "document.querySelector('#status').textContent !== ''")
    assert not any("lymphocyte" in text for text in seen)
    tab.wait_for_timeout(300)
    view(tab, page, "agreement")
    assert tab.inner_text("tr[data-type=''] td >> nth=0") == "2"
    tab.click(".disagree button:has-text('erythroblast')")
    tab.wait_for_selector(".disagree[data-settled='erythroblast']")
    assert edits(page)[-1] == ("retype", "erythroblast", "A. Smith")


def test_our_own_classifier_is_made_by_keys_while_the_page_is_used(
    tab: Tab, page: Page, adapter: StepwiseAdapter
) -> None:
    tab.click("nav a[href='/classifier']")
    tab.wait_for_selector("body[data-ready]")
    assert tab.inner_text("#cells").startswith("No cell has been named or confirmed yet.")
    assert tab.is_disabled("#make")
    (row, *_) = (row for row in page.rows() if row["model"] >= 0)
    assert page.edit(of(row, "retype", type="lymphocyte"))[0] == 200
    tab.reload()
    tab.wait_for_selector("#make:enabled")
    assert tab.inner_text("#cells li") == "1 lymphocyte"
    tab.focus("nav a[href='/classifier']")
    tab.keyboard.press("Tab")
    while tab.evaluate("document.activeElement.id") != "make":
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    until(tab, "document.querySelector('#said').textContent.startsWith('Looking at 2 cells')")
    assert tab.is_disabled("#make")
    adapter.go_on.release()
    until(tab, "document.querySelector('#progress').value === 1")
    view(tab, page, "cells")
    tab.keyboard.press("2")
    saved(tab)
    adapter.go_on.release()
    tab.goto(f"{page.url}/classifier")
    until(tab, "document.querySelector('#said').textContent.startsWith('Fitting')")
    adapter.go_on.release()
    tab.wait_for_selector("#outcome h2:has-text('The classifier is made')")
    folder = page.bench.classifier.folder / "1"
    assert f"--classifier {folder}" in tab.inner_text("#outcome")
    first = tab.inner_text("#outcome tbody tr >> nth=0")
    assert first.split("\t") == ["Typed rightly", "20", "55.0 % (10–90)", "90.0 % (10–90)"]
    assert "1 cell of 'smudge' left out" in tab.inner_text("#outcome")
    assert tab.inner_text("#made li").startswith("1: 11 of 20 cells right before, 18 after.")
    assert tab.evaluate("document.activeElement.id") == "outcome"


def test_a_classifier_that_would_not_be_better_is_refused_on_the_page(
    tab: Tab, page: Page, adapter: StepwiseAdapter
) -> None:
    (row, *_) = (row for row in page.rows() if row["model"] >= 0)
    assert page.edit(of(row, "retype", type="lymphocyte"))[0] == 200
    tab.goto(f"{page.url}/classifier")
    adapter.sentence = "adapting would not make the classifier better, so nothing was written"
    adapter.go_on.release(3)
    tab.click("#make:enabled")
    tab.wait_for_selector("#outcome .warning")
    assert tab.inner_text("#outcome .warning") == adapter.sentence
    assert tab.inner_text("#outcome h2") == "No classifier was made"
    assert tab.locator("#outcome tbody tr").count() == 4
    assert tab.is_hidden("#earlier")
    assert tab.is_enabled("#make")


@pytest.mark.parametrize("size", [(1280, 800), (820, 1180), (390, 844)])
def test_nothing_is_wider_than_the_screen(tab: Tab, page: Page, size: tuple[int, int]) -> None:
    tab.set_viewport_size({"width": size[0], "height": size[1]})
    for name in ("cells", "field", "second", "agreement", "classifier"):
        if name == "classifier":
            tab.goto(f"{page.url}/classifier")
            tab.wait_for_selector("body[data-ready]")
        else:
            view(tab, page, name)
        for scheme in ("dark", "light"):  # which style sheets alone know
            tab.emulate_media(color_scheme=scheme)
            fits(tab, size[0], f"{name}, {scheme}")


def fits(tab: Tab, width: int, name: str) -> None:
    """Check that nothing lies beside the screen or on something else, and that all has a name."""
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
    overlapping = tab.evaluate(
        "(() => { const a = document.querySelector('.middle')?.getBoundingClientRect();"
        " const b = document.querySelector('.numbers')?.getBoundingClientRect();"
        " return a && b && a.right > b.left + 1 && a.bottom > b.top + 1; })()"
    )
    assert not overlapping, name
    unnamed = tab.evaluate(
        "[...document.querySelectorAll('button, select, input, [role=application]')].filter("
        "e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_ten_thousands_of_cells_are_a_few_tiles(tab: Tab, page: Page) -> None:
    view(tab, page, "cells")
    columns = page.get("/api/slides/0/cells")
    first = columns["rows"][0]
    many = [[0, f"d-{n:016x}", n + 1, *first[3:]] for n in range(20_000)]
    tab.route("**/api/slides/0/cells", lambda route: route.fulfill(json=columns | {"rows": many}))
    tab.route(
        "**/crops/**",
        lambda route: route.fulfill(
            status=200, content_type="image/jpeg", body=page.ask("GET", f"/crops/0/{first[1]}")[2]
        ),
    )
    view(tab, page, "cells")
    assert tab.inner_text("#shown") == "20,000 cells"
    tab.keyboard.press("End")
    tab.wait_for_selector("#cell-19999.here")
    assert tab.locator(".tile").count() < 150


def test_a_slide_of_the_report_is_a_page_when_printed(browser: Browser, typed_run: Path) -> None:
    paper = {"width": 680, "height": 1009}  # A4 within its margins
    tab = browser.new_page(viewport=paper)  # type: ignore[arg-type]  # a size
    tab.goto((typed_run / "report.html").as_uri())
    order = tab.eval_on_selector_all("section", "all => all.map(s => s.id)")
    units = [name for name in order if name.startswith("unit-")]
    assert order[: len(units) + 1] == [*units, "gallery"], "differentials first, cells next"
    tab.emulate_media(media="print")
    ends = tab.eval_on_selector_all(
        "section.unit", "all => all.map(s => [s.offsetTop, s.offsetTop + s.offsetHeight])"
    )
    assert ends[0][1] <= paper["height"], "the first one with the head of the report"
    assert all(end - start <= paper["height"] for start, end in ends)
    assert tab.locator("section.unit details").first.is_hidden()
    tab.close()
