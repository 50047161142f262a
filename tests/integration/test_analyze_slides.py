"""``analyze --slides``: from fields to the differential, profiles that fit and that do not."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.models.weights import read_classifier_card, write_card
from cellcount.outputs.columns import SLIDES_COLUMNS
from tests.tables import check_table
from tools.release_weights import release

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]

OUTPUTS = ("--out", "o/counts.csv", "--slides", "o/slides.csv", "--um-per-px", "0.3")


@pytest.fixture
def typing(colour_weights: Path, classifier_plugins: Path) -> tuple[str, ...]:
    """The options that name the classifier: neutrophils, lymphocytes and erythroblasts."""
    return ("--classifier", str(colour_weights), "--plugins", str(classifier_plugins))


def test_slides_are_the_sums_of_their_images(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]
) -> None:
    code, _, err = run(slides, *OUTPUTS, *typing)
    assert (code, err) == (0, "Counting 5 images\n")
    assert check_table(Path("o/slides.csv"), SLIDES_COLUMNS) == []
    images, table = rows("o/counts.csv"), rows("o/slides.csv")
    assert {r["profile"] for r in (*images, *table)} == {"peripheral-blood 1.0"}
    found = {(r["level"], r["slide"], r["kind"], r["row"]): r for r in table}
    for slide in ("a", "b", "b/x", "slides"):
        mine = [r for r in images if r["slide"] == slide]
        sums = {n: sum(int(r[n]) for r in mine) for n in mine[0] if n.startswith(("n_", "type_"))}
        neutrophils = found["slide", slide, "group", "neutrophils"]
        assert int(neutrophils["n"]) == sums["type_neutrophil"]
        total = sums["type_neutrophil"] + sums["type_lymphocyte"]
        assert int(neutrophils["denominator"]) == total
        assert float(neutrophils["percent"]) == pytest.approx(
            100 * sums["type_neutrophil"] / total, abs=1e-4
        )
        nrbc = found["slide", slide, "outside", "nucleated_red_cells"]
        assert int(nrbc["n"]) == sums["type_erythroblast"]
        assert int(found["slide", slide, "object", "rbc"]["n"]) == sums["n_rbc"]
        assert found["slide", slide, "class", "blasts"]["assessment"] == "not assessed"
        assert found["slide", slide, "class", "blasts"]["n"] == ""
    assert found["run", "", "object", "rbc"]["n"] == str(sum(int(r["n_rbc"]) for r in images))
    record = json.loads(Path("o/counts.run.json").read_text("utf-8"))
    assert record["profile"].pop("quality")["exclude_focus_min"] == 0.15
    assert record["profile"] == {
        "name": "peripheral-blood",
        "version": "1.0",
        "kind": "peripheral-blood",
        "forced": False,
        "limits": "wilson",
        "confidence": 0.95,
        "adjusted_by": None,
    }
    assert [Path(o["path"]).name for o in record["outputs"]] == ["counts.csv", "slides.csv"]


def test_without_a_classifier_it_says_so(slides: Path, run: Run, rows: Rows) -> None:
    code, _, err = run(slides, *OUTPUTS)
    assert code == 0
    assert "no classifier ran, so o/slides.csv has no differential" in err
    table = rows("o/slides.csv")
    assert {r["kind"] for r in table} == {"object", "measure", "advice", "about"}
    assert sum(r["row"] == "no_classifier" for r in table) == 4


def test_other_statistics_need_no_new_analysis(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...], repo_root: Path
) -> None:
    run(slides, *OUTPUTS, *typing)
    before = Path("o/slides.csv").read_bytes()
    own = (repo_root / "cellcount/differential/profiles/peripheral-blood.toml").read_text("utf-8")
    Path("ours.toml").write_text(own.replace('version = "1.0"', 'version = "7"'), "utf-8")
    ids = ("neutrophil", "lymphocyte", "erythroblast")
    Path("confusion.csv").write_text(
        "true,{},{},{}\n{},90,5,5\n{},0,100,0\n{},1,1,98\n".format(*ids, *ids), "utf-8"
    )
    options = ("--profile", "ours.toml", "--limits", "clopper-pearson", "--adjust", "confusion.csv")
    code, out, _ = run(slides, *OUTPUTS, *typing, *options)
    assert code == 0
    assert "images/s" not in out, "every result is the journal's"
    table = rows("o/slides.csv")
    assert {r["profile"] for r in table} == {"ours 7"}
    shares = [r for r in table if r["percent"]]
    assert {r["method"] for r in shares} == {"clopper-pearson"}
    assert all(r["adjusted_percent"] for r in shares if r["kind"] == "group")
    run(slides, *OUTPUTS, *typing)
    assert Path("o/slides.csv").read_bytes() == before


def test_a_card_with_its_confusions_corrects_percentages(
    slides: Path, run: Run, rows: Rows, colour_weights: Path, classifier_plugins: Path
) -> None:
    """Write them as ``tools.release_weights`` does into the cards of packaged classifiers."""
    typing = ("--plugins", classifier_plugins, "--adjust", "card", "--classifier")
    code, _, err = run(slides, *OUTPUTS, *typing, colour_weights)
    assert code == 2
    assert "holds no confusion matrix" in err
    confusion = {
        "data": "pbc",
        "split": "val",
        "types": ["lymphocyte", "neutrophil", "erythroblast"],
        "cells": [[100, 0, 0], [5, 90, 5], [1, 1, 98]],
    }
    Path("facts.json").write_text(json.dumps({"confusion": confusion}), "utf-8")
    release(colour_weights, Path("facts.json"), Path("known.safetensors"))
    assert run(slides, *OUTPUTS, *typing, "known.safetensors")[0] == 0
    shares = [r for r in rows("o/slides.csv") if r["kind"] == "group" and r["percent"]]
    assert shares
    assert all(r["adjusted_percent"] for r in shares)
    record = json.loads(Path("o/counts.run.json").read_text("utf-8"))
    assert record["profile"]["adjusted_by"] == "pbc val"


def test_a_profile_that_does_not_fit_stops_unless_forced(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]
) -> None:
    marrow = (
        *("--profile", "bone-marrow", "--cells", "o/cells.csv", "--coco", "o/coco.json"),
        *("--geojson", "o/geo", "--yolo", "o/yolo", "--voc", "o/voc"),
    )
    code, _, err = run(slides, *OUTPUTS, *typing, *marrow)
    assert code == 2
    assert "counts cells of bone marrow, but the detector" in err
    assert "use --detector marrow" in err
    assert not Path("o").exists()
    code, _, err = run(slides, *OUTPUTS, *typing, *marrow, "--force-profile")
    assert code == 0
    assert "was forced" in err
    label = "bone-marrow 1.0 (forced)"
    for name in ("counts", "cells", "slides"):
        assert {r["profile"] for r in rows(f"o/{name}.csv")} == {label}
    assert json.loads(Path("o/coco.json").read_text("utf-8"))["info"]["profile"] == label
    drawn = [path.read_text("utf-8") for path in Path("o").glob("geo/**/*.geojson")]
    assert {json.loads(text)["profile"] for text in drawn} == {label}
    assert f'profile: "{label}"\n' in Path("o/yolo/data.yaml").read_text("utf-8")
    annotations = [path.read_text("utf-8") for path in Path("o/voc").rglob("*.xml")]
    assert len(annotations) == len(drawn) > 0
    assert all(f"<annotation>cellcount, profile {label}<" in text for text in annotations)
    assert json.loads(Path("o/counts.run.json").read_text("utf-8"))["profile"]["forced"] is True
    ratios = [r for r in rows("o/slides.csv") if r["row"].startswith("me_ratio")]
    assert {r["assessment"] for r in ratios} == {"withheld"}
    # Without a classifier, too: whoever reads the cells alone must see it.
    options = ("--profile", "bone-marrow", "--force-profile", "--cells", "p/cells.csv")
    assert run(slides, "--out", "p/counts.csv", "--classifier", "none", *options)[0] == 0
    assert {r["profile"] for r in rows("p/cells.csv")} == {label}


def test_slides_and_specimens_from_the_path_and_the_manifest(
    slides: Path, run: Run, rows: Rows, typing: tuple[str, ...]
) -> None:
    pattern = r"(?P<specimen>^\w)(?P<slide>.)"
    code, _, _ = run(slides, *OUTPUTS, *typing, "--slide-from", pattern)
    assert code == 0
    units = {(r["level"], r["specimen"], r["slide"]) for r in rows("o/slides.csv")}
    assert units == {
        *(("slide", "a", "/"), ("slide", "b", "/"), ("slide", "c", ".")),
        *(("specimen", "a", ""), ("specimen", "b", ""), ("specimen", "c", ""), ("run", "", "")),
    }
    with open("m.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "slide", "specimen", "wbc_10e9_per_l"])
        table.writerows([["slides/a/1.png", "s1", "p", 8], ["slides/a/2.jpg", "s2", "p", 8]])
    code, _, _ = run("m.csv", *OUTPUTS, *typing, "--fresh")
    assert code == 0
    found = {(r["level"], r["slide"], r["row"]): r for r in rows("o/slides.csv")}
    anc, share = found["specimen", "", "anc"], found["specimen", "", "neutrophils"]
    assert float(anc["value"]) == pytest.approx(8 * float(share["percent"]) / 100, abs=2e-4)
    assert anc["unit"] == "10⁹/L"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--profile", "blood"), "there is no profile 'blood'"),
        (("--force-profile",), "name it with --profile"),
        (("--adjust", "card"), "none runs"),
        (("TYPING", "--adjust", "card"), "holds no confusion matrix"),
        (("TYPING", "--map", "pbc-8:wbc-5", "--adjust", "card"), "give a table with these"),
        (("--slide-from", "nothing"), "does not say which part"),
        (("--slides", "o/counts.csv"), "both name"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(
    slides: Path, run: Run, typing: tuple[str, ...], options: tuple[str, ...], message: str
) -> None:
    given = [word for o in options for word in (typing if o == "TYPING" else (o,))]
    code, _, err = run(slides, *OUTPUTS, *given)
    assert code == 2
    assert message in err
    assert not Path("o").exists()


def test_every_output_of_an_experimental_detector_says_so(
    slides: Path,
    run: Run,
    rows: Rows,
    toy: str,
    colour_weights: Path,
    classifier_plugins: Path,
) -> None:
    # Types of the laboratory's own fit any smear.
    shutil.copyfile(colour_weights, "own.safetensors")
    own_types = dataclasses.replace(read_classifier_card(colour_weights), taxonomy="")
    write_card(Path("own.safetensors"), own_types)
    typing = ("--classifier", "own.safetensors", "--plugins", str(classifier_plugins))
    facts = {"smear": "bone-marrow", "experimental": "learned from composed fields"}
    Path("facts.json").write_text(json.dumps(facts), "utf-8")
    marrow = Path("marrow.safetensors")
    release(Path(toy), Path("facts.json"), marrow)
    outputs = (
        *("--cells", "o/cells.csv", "--coco", "o/coco.json", "--report", "o/report.html"),
        *("--geojson", "o/geo", "--fhir", "o/results.json", "--hl7", "o/results.hl7"),
    )
    code, _, err = run(
        slides, *OUTPUTS, *typing, *outputs, "--profile", "bone-marrow", detector=str(marrow)
    )
    assert code == 0
    said = "the detector is experimental: learned from composed fields"
    assert said in err
    label = "bone-marrow 1.0 (experimental: learned from composed fields)"
    for name in ("counts", "cells", "slides"):
        assert {r["profile"] for r in rows(f"o/{name}.csv")} == {label}
    for level in ("slide", "run"):
        advice = [r for r in rows("o/slides.csv") if (r["level"], r["kind"]) == (level, "advice")]
        assert any(said in r["note"] for r in advice), level
    assert json.loads(Path("o/coco.json").read_text("utf-8"))["info"]["profile"] == label
    for path in ("o/report.html", "o/results.json", "o/results.hl7"):
        assert said in Path(path).read_text("utf-8"), path
    drawn = [path.read_text("utf-8") for path in Path("o/geo").rglob("*.geojson")]
    assert {json.loads(text)["profile"] for text in drawn} == {label}
    record = json.loads(Path("o/counts.run.json").read_text("utf-8"))
    assert record["profile"]["experimental"] == facts["experimental"]
    # The same detector is refused for blood, which it is not for.
    blood = ("--out", "p/counts.csv", "--slides", "p/slides.csv", "--profile", "peripheral-blood")
    code, _, err = run(slides, *blood, detector=str(marrow))
    assert code == 2
    assert "of bone marrow" in err
