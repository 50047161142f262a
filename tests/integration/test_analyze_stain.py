"""``--stain-reference``: recorded, the same for any tile, off by default, told where it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cellcount import cli
from cellcount.images.stain_reference import load_stain_reference

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]


def test_the_stain_is_normalized_and_recorded(slides: Path, run: Run, rows: Rows) -> None:
    assert run(slides, "--out", "plain.csv", "--cells", "plain-cells.csv")[0] == 0
    code, _, _ = run(slides, "--out", "o.csv", "--cells", "cells.csv", "--stain-reference", "bccd")
    assert code == 0
    settings = json.loads(Path("o.run.json").read_text("utf-8"))["settings"]
    reference = load_stain_reference("bccd")
    assert reference is not None
    assert settings["stain_reference"] == "bccd"
    assert settings["stain_dyes"] == reference.facts()
    plain = json.loads(Path("plain.run.json").read_text("utf-8"))["settings"]
    assert (plain["stain_reference"], plain["stain_dyes"]) == ("none", None)
    assert rows("cells.csv") != rows("plain-cells.csv")
    for row, before in zip(rows("o.csv"), rows("plain.csv"), strict=True):
        assert row["focus"] == before["focus"]  # quality is of the field as it was read


def test_the_detector_sees_what_the_reference_makes(slides: Path, run: Run, rows: Rows) -> None:
    """Compare with normalizing the pixels before, whatever the tile."""
    reference = load_stain_reference("bccd")
    assert reference is not None
    for path in list(slides.rglob("*.*")):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        made = Path("made") / path.relative_to(slides).with_suffix(".png")
        made.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(reference.apply(pixels)).save(made)
    options = ("--um-per-px", "0.3125")
    assert run("made", "--out", "m.csv", "--cells", "m-cells.csv", *options)[0] == 0
    stained = ("--stain-reference", "bccd", *options)
    for name, tile in (("a", "0"), ("b", "256")):
        out = ("--out", f"{name}.csv", "--cells", f"{name}-cells.csv", "--tile-px", tile)
        assert run(slides, *out, *stained)[0] == 0
    boxes = [[r["x_min_px"], r["y_max_px"], r["label"]] for r in rows("m-cells.csv")]
    for name in ("a", "b"):
        assert [
            [r["x_min_px"], r["y_max_px"], r["label"]] for r in rows(f"{name}-cells.csv")
        ] == boxes


def test_where_it_cannot_be_done_is_told(slides: Path, run: Run, rows: Rows) -> None:
    Image.fromarray(np.full((120, 160, 3), 231, np.uint8)).save(slides / "glass.png")
    assert run(slides, "--out", "o.csv", "--stain-reference", "pbc")[0] == 0
    reasons = {row["image"]: row["reason"] for row in rows("o.csv")}
    assert "stain not normalized" in reasons["glass.png"]
    assert "stain not normalized" not in reasons["c.bmp"]


def test_wrong_references_are_said(slides: Path, run: Run) -> None:
    code, _, err = run(slides, "--out", "o.csv", "--stain-reference", "bcd")
    assert code == 2
    assert "did you mean 'bccd'" in err
    code, _, err = run(slides, "--out", "o.csv", "--stain-for", "detector")
    assert code == 2
    assert "name a --stain-reference" in err


def test_evaluate_shows_both(slides: Path, run: Run, toy: str) -> None:
    assert run(slides, "--out", "o.csv", "--coco", "coco.json")[0] == 0
    Path("coco.json").rename(slides / "coco.json")
    arguments = ["evaluate", "detector", str(slides), "--detector", toy, "--json", "e.json"]
    assert cli.main([*arguments, "--stain-reference", "bccd"]) == 0
    told = json.loads(Path("e.json").read_text("utf-8"))
    assert list(told["reports"]) == ["original", "original, stain"]
    assert told["stain_reference"]["name"] == "bccd"
