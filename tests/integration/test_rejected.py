"""``analyze`` with types that are no white cells: what is given one of them is not counted."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.models.classifier_card import types_of
from cellcount.models.taxonomy import load_taxonomy
from cellcount.models.weights import read_classifier_weights, write_weights

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]

OUTPUTS = (
    *("--out", "o/counts.csv", "--cells", "o/cells.csv", "--slides", "o/slides.csv"),
    *("--report", "o/report.html", "--coco", "o/coco.json"),
)


@pytest.fixture
def typing(tmp_path: Path, colour_weights: Path, classifier_plugins: Path) -> tuple[str, ...]:
    """Options of a classifier that takes red cells for artefacts and blue ones for no white cells.

    It types both classes, but only white cells can be rejected.
    """
    card, state = read_classifier_weights(colour_weights)
    known = {t.id: t for t in types_of(load_taxonomy("cells-14"))}
    ids = ("artefact", "lymphocyte", "not_a_white_cell")
    card = replace(card, types=tuple(known[i] for i in ids), taxonomy="cells-14")
    path = tmp_path / "rejecting.safetensors"
    write_weights(path, card, state)
    return ("--classifier", str(path), "--plugins", str(classifier_plugins))


def white_cells(rows: list[dict[str, str]]) -> Counter[str]:
    """Types of the detected white cells of cells.csv."""
    return Counter(cell["type"] for cell in rows if cell["label"] == "wbc")


def test_what_is_typed_as_no_white_cell_leaves_their_count_and_is_told_everywhere(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]
) -> None:
    code, out, _ = run(slides, *OUTPUTS, *typing)
    assert code == 0
    counts, cells = rows("o/counts.csv"), rows("o/cells.csv")
    types = white_cells(cells)
    rejected = types["not_a_white_cell"]
    assert rejected > 5
    total = Counter[str]()
    for row in counts:
        total.update({k: int(v) for k, v in row.items() if k.startswith("n_") or k == "cells"})
    assert total["n_rejected"] == rejected
    assert total["n_wbc"] == types.total() - rejected
    assert total["cells"] == len(cells) - rejected
    assert total["n_rbc"] == sum(cell["label"] == "rbc" for cell in cells)  # artefacts, yet red

    doubtful = {"unclassified", "not_a_white_cell", "artefact"}
    for cell in cells:
        if cell["type"]:
            assert (cell["needs_review"] == "true") == (cell["type"] in doubtful)
    annotations = json.loads(Path("o/coco.json").read_text("utf-8"))["annotations"]
    told = Counter(a["attributes"].get("type") for a in annotations if a["category_id"] == 2)
    assert told == types
    assert f"rejected: not white cells {rejected}" in " ".join(out.split())

    slide_rows = rows("o/slides.csv")
    found = {(r["level"], r["kind"], r["row"]): r for r in slide_rows if r["level"] == "run"}
    assert int(found["run", "object", "rejected"]["n"]) == rejected
    assert int(found["run", "object", "wbc"]["n"]) == types.total() - rejected
    assert "no count of white cells" in found["run", "about", "not_white_cells"]["note"]
    advice = [r["note"] for r in slide_rows if r["row"] == "rejected" and r["kind"] == "advice"]
    assert advice
    assert "--keep-rejected" in advice[0]
    assert "detected as white cells, typed as none" in Path("o/report.html").read_text("utf-8")
    record = json.loads(Path("o/counts.run.json").read_text("utf-8"))
    assert record["profile"]["rejected_types"] == ["artefact", "not_a_white_cell"]


def test_keep_rejected_counts_them_all_without_a_new_analysis(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]
) -> None:
    run(slides, *OUTPUTS, *typing)
    types = white_cells(rows("o/cells.csv"))
    assert run(slides, *OUTPUTS, *typing, "--keep-rejected")[0] == 0
    counts = rows("o/counts.csv")
    assert "n_rejected" not in counts[0]
    assert sum(int(row["n_wbc"]) for row in counts) == types.total()
    assert not any(r["row"] == "rejected" for r in rows("o/slides.csv"))
    assert white_cells(rows("o/cells.csv")) == types
    assert json.loads(Path("o/counts.run.json").read_text("utf-8"))["speed"]["images"] == 0


def test_a_reviewer_puts_a_rejected_cell_back_into_the_count(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]
) -> None:
    run(slides, *OUTPUTS, *typing)
    before = sum(int(row["n_wbc"]) for row in rows("o/counts.csv"))
    wanted = ("--types", "not_a_white_cell")
    assert cli.main(["review", "export", "o/counts.csv", "--out", "look", *wanted]) == 0
    listed = rows("look/corrections.csv")
    assert listed
    rejected = [row for row in listed if row["type"] == "not_a_white_cell"]
    rejected[0]["corrected_type"] = "lymphocyte"
    with open("filled.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rejected[0]))
        writer.writeheader()
        writer.writerows(rejected)
    assert cli.main(["review", "apply", "o/counts.csv", "filled.csv", "--reviewer", "A"]) == 0
    counts = rows("o/counts.csv")
    assert sum(int(row["n_wbc"]) for row in counts) == before + 1
    again = [c for c in rows("o/cells.csv") if c["reviewed_type"] == "lymphocyte"]
    assert [(c["type"], c["needs_review"]) for c in again] == [("not_a_white_cell", "false")]


def test_a_classifier_without_such_types_changes_nothing(
    slides: Path, run: Run, rows: Rows, colour_weights: Path, classifier_plugins: Path
) -> None:
    typing = ("--classifier", str(colour_weights), "--plugins", str(classifier_plugins))
    run(slides, *OUTPUTS, *typing)
    plain = {p.name: p.read_bytes() for p in Path("o").glob("*.csv")}
    assert "n_rejected" not in rows("o/counts.csv")[0]
    run(slides, *OUTPUTS, *typing, "--keep-rejected")
    assert {p.name: p.read_bytes() for p in Path("o").glob("*.csv")} == plain
