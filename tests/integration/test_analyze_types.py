"""``analyze`` with a classifier: what every output says of the types, and that it is repeatable."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.core.records import CellClass
from cellcount.models.taxonomy import load_taxonomy
from cellcount.models.weights import read_classifier_card
from cellcount.outputs.columns import TYPED_CELLS_COLUMNS, counts_columns
from tests.tables import check_table

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]

BLOOD = (
    CellClass("rbc", "red cell", "red cells"),
    CellClass("wbc", "white cell", "white cells"),
    CellClass("platelet", "platelet", "platelets"),
)
TYPE_NAMES = ("type", "type_prob", "type_2", "type_2_prob", "needs_review")
OUTPUTS = ("--out", "o/counts.csv", "--cells", "o/cells.csv", "--coco", "o/coco.json")


@pytest.fixture
def typing(colour_weights: Path, classifier_plugins: Path) -> tuple[str, ...]:
    """The options that name the classifier."""
    return ("--classifier", str(colour_weights), "--plugins", str(classifier_plugins))


def tables(folder: str) -> Iterator[bytes]:
    for name in ("counts.csv", "cells.csv", "coco.json"):
        yield (Path(folder) / name).read_bytes()


def test_the_whole_job_with_types(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...], colour_weights: Path
) -> None:
    code, out, err = run(slides, *OUTPUTS, "--annotated", "o/drawn", *typing)
    assert (code, err) == (0, "Counting 5 images\n")
    card = read_classifier_card(colour_weights)
    assert check_table(Path("o/counts.csv"), counts_columns(BLOOD, card.types)) == []
    assert check_table(Path("o/cells.csv"), TYPED_CELLS_COLUMNS) == []
    counts, cells = rows("o/counts.csv"), rows("o/cells.csv")

    ids = {t.id for t in card.types}
    for cell in cells:
        said = [cell[name] for name in TYPE_NAMES]
        if cell["label"] == "platelet":
            assert said == ["", "", "", "", ""]
        elif cell["type"] == "unclassified":
            assert cell["type_prob"] == ""
            assert cell["type_2"] in ids
            assert float(cell["type_2_prob"]) < 0.6
            assert cell["needs_review"] == "true"
        else:
            assert {cell["type"], cell["type_2"]} < ids
            assert float(cell["type_prob"]) >= 0.6 > float(cell["type_2_prob"])
            assert cell["needs_review"] == "false"
    by_label = Counter((cell["label"], cell["type"]) for cell in cells)
    assert by_label["rbc", "neutrophil"] > 0.9 * sum(c["label"] == "rbc" for c in cells)  # red
    assert by_label["wbc", "erythroblast"] > 0.7 * sum(c["label"] == "wbc" for c in cells)  # blue

    per_image = Counter((cell["image"], cell["type"]) for cell in cells)
    for row in counts:
        for name in (*ids, "unclassified"):
            assert int(row[f"type_{name}"]) == per_image[row["image"], name]

    record = json.loads(Path("o/counts.run.json").read_text("utf-8"))
    told = record["classifier"]
    digest = hashlib.sha256(colour_weights.read_bytes()).hexdigest()
    assert (told["name"], told["sha256"]) == ("colours", digest)
    assert (told["review_below"], told["map"]) == (0.6, None)
    assert told["types"] == [t.id for t in card.types]
    assert record["settings"]["classifier"] == str(colour_weights)

    attributes = [
        a.get("attributes", {}).get("type", "")
        for a in json.loads(Path("o/coco.json").read_text("utf-8"))["annotations"]
    ]
    assert attributes == [cell["type"] for cell in cells]

    lines = out.splitlines()
    start = lines.index("  by type:")
    sums = Counter(cell["type"] for cell in cells)
    expected = [(t.plural, sums[t.id]) for t in card.types]
    expected.append(("unclassified", sums["unclassified"]))
    told_sums = [line.split()[:2] for line in lines[start + 1 : start + 5]]
    assert [(name, int(number)) for name, number in told_sums] == expected


def test_without_a_classifier_nothing_changes(slides: Path, run: Run, rows: Rows) -> None:
    run(slides, *OUTPUTS)
    assert "type" not in rows("o/cells.csv")[0]
    assert not any(name.startswith("type_") for name in rows("o/counts.csv")[0])
    assert "attributes" not in Path("o/coco.json").read_text("utf-8")
    assert json.loads(Path("o/counts.run.json").read_text("utf-8"))["classifier"] is None


def test_types_leave_the_cells_as_they_are(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]
) -> None:
    run(slides, *OUTPUTS)
    plain = rows("o/cells.csv")
    run(slides, *OUTPUTS, *typing, "--fresh")
    typed = rows("o/cells.csv")
    added = (*TYPE_NAMES, "reviewed_type", "reviewer", "reviewed_at")
    assert [{k: v for k, v in c.items() if k not in added} for c in typed] == plain


def test_the_same_bytes_for_any_workers_and_after_an_interruption(
    slides: Path, run: Run, typing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(slides, *OUTPUTS, *typing)
    whole = list(tables("o"))
    run(slides, *OUTPUTS, *typing, "--fresh", "--workers", "4")
    assert list(tables("o")) == whole
    last = slides / "c.bmp"
    pixels = last.read_bytes()
    last.write_bytes(b"")  # fails, and is done again by the next call
    assert run(slides, *OUTPUTS, *typing, "--fresh")[0] == 1
    assert list(tables("o")) != whole
    last.write_bytes(pixels)
    _, out, _ = run(slides, *OUTPUTS, *typing)
    assert "1 now in " in out
    assert list(tables("o")) == whole  # four of the five images are the journal's


def test_another_classifier_mapping_or_none_is_another_run(
    slides: Path, run: Run, typing: tuple[str, ...]
) -> None:
    assert run(slides, *OUTPUTS, *typing)[0] == 0
    typed = list(tables("o"))
    code, _, err = run(slides, *OUTPUTS)
    assert code == 0
    assert "{" not in err, "in words, not JSON"
    assert re.search(r"classifier: colours 1 \(sha256 [0-9a-f]{12}…\) -> none", err)
    assert list(tables("o")) != typed
    code, _, err = run(slides, *OUTPUTS, *typing)
    assert "5 of 5 images done before" in err, "results of each settings are kept"
    assert list(tables("o")) == typed
    code, _, err = run(slides, *OUTPUTS, *typing, "--map", "pbc-8:wbc-5")
    assert code == 0
    assert "classifier.map: none -> pbc-8:wbc-5" in err


def test_a_mapping_reports_its_own_types(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]
) -> None:
    """wbc-5 has no erythroblasts: what was blue is unclassified, never something else."""
    run(slides, *OUTPUTS, *typing)
    before = rows("o/cells.csv")
    code, _, _ = run(slides, *OUTPUTS, *typing, "--map", "pbc-8:wbc-5", "--fresh")
    assert code == 0
    known = set(load_taxonomy("wbc-5").ids)
    columns = [name for name in rows("o/counts.csv")[0] if name.startswith("type_")]
    assert columns == ["type_neutrophil", "type_lymphocyte", "type_unclassified"]
    assert {name.removeprefix("type_") for name in columns} - known == {"unclassified"}
    for old, new in zip(before, rows("o/cells.csv"), strict=True):
        dropped = old["type"] == "erythroblast"
        assert new["type"] == ("unclassified" if dropped else old["type"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--map", "pbc-8:wbc-5"), "there is no classifier"),
        (("--classifier", "nowhere"), "no model named 'nowhere'"),
        (("--classifier", "DETECTOR"), "detector"),
        (("COLOURS", "--map", "mll-21:lineage-5"), "starts from the types of mll-21"),
        (("COLOURS", "--map", "pbc-8:nothing"), "no mapping to 'nothing'"),
    ],
)
def test_what_does_not_go_together_is_said(
    slides: Path,
    run: Run,
    toy: str,
    typing: tuple[str, ...],
    options: tuple[str, ...],
    message: str,
) -> None:
    given = [word for o in options for word in (typing if o == "COLOURS" else (o,))]
    given = [toy if word == "DETECTOR" else word for word in given]
    code, _, err = run(slides, "--out", "o.csv", *given)
    assert code in (2, 3)
    assert message in err
    assert not Path("o.csv").exists()


def test_dry_run_names_the_classifier(slides: Path, run: Run, typing: tuple[str, ...]) -> None:
    code, out, _ = run(slides, "--out", "o.csv", "--dry-run", *typing)
    assert code == 0
    assert "classifier   colours 1, 3 types\n" in out


def test_help_names_both_options(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["analyze", "--help"]) == 0
    text = capfd.readouterr().out
    assert "--classifier NAME|DIR|none" in text
    assert "--map SOURCE:TARGET" in text
