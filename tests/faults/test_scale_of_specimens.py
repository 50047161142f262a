"""Slides of two specimens that share a name are two slides, each with a scale of its own."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cellcount.rendering.field import FieldSpec, render_field
from tests.faults.recipes import Fields, Run, made


def factors(path: str = "o.csv") -> dict[str, float]:
    with open(path, encoding="utf-8") as file:
        return {row["image"]: float(row["scale_factor"]) for row in csv.DictReader(file)}


def manifest(*rows: str) -> str:
    Path("m.csv").write_text("\n".join(["path,slide,specimen", *rows]) + "\n")
    return "m.csv"


def test_w04_two_slides_called_1(fields: Fields, run: Run) -> None:
    field = fields.image(0)
    turned = [field, *(field.transpose(Image.Transpose(t)) for t in (0, 1, 3))]
    for number, picture in enumerate(turned):
        picture.resize((320, 240), Image.Resampling.LANCZOS).save(made(f"A/{number}.png"))
    fields.image(1).resize((1280, 960)).save(made("B/0.png"))
    named = manifest(*(f"A/{number}.png,1,P-A" for number in range(4)), "B/0.png,1,P-B")
    assert run("analyze", named, "--classifier", "none", "--out", "o.csv")[0] == 0
    apart = manifest(*(f"A/{number}.png,1a,P-A" for number in range(4)), "B/0.png,1b,P-B")
    assert run("analyze", apart, "--classifier", "none", "--out", "apart.csv")[0] == 0
    with open("o.csv", encoding="utf-8") as one, open("apart.csv", encoding="utf-8") as other:
        same, counts = list(csv.DictReader(one)), list(csv.DictReader(other))
    names = ("image", "scale_factor", "n_rbc", "n_wbc", "n_platelet")
    assert [[row[n] for n in names] for row in same] == [[row[n] for n in names] for row in counts]
    assert factors()["B/0.png"] < 1 < factors()["A/0.png"]


@pytest.fixture
def analyze(run: Run, repo_root: Path) -> Callable[..., str]:
    """Fields of A at half the size of those of B; ``analyze("m.csv")`` → stderr."""
    for seed, (place, diameter) in enumerate((("A", 24), ("A", 24), ("B", 48), ("B", 48)), 1):
        size = (diameter * 20 // 3, diameter * 5)
        field = render_field(FieldSpec(*size, seed, diameter, 0.3, 2, 3, debris=0))
        Image.fromarray(field.pixels).save(made(f"{place}/1_{seed}.png"))
    toy = repo_root / "tests" / "golden" / "tiny.safetensors"

    def call(*arguments: object, out: str = "o.csv") -> str:
        options = ("--detector", toy, "--classifier", "none", "--out", out)
        code, _, err = run("analyze", *arguments, *options)
        assert code == 0, err
        return err

    return call


ROWS = ("A/1_1.png,1,P-A", "A/1_2.png,1,P-A", "B/1_3.png,1,P-B", "B/1_4.png,1,P-B")
Analyze = Callable[..., str]


def apart() -> dict[str, float]:
    """Scale factors of the two specimens."""
    found = {image.partition("/")[0]: factor for image, factor in factors().items()}
    assert found["A"] > 1.5 * found["B"]  # half the size
    return found


def test_specimens_from_the_path_are_measured_apart(analyze: Analyze) -> None:
    analyze(".", "--slide-from", r"(?P<specimen>\w)/(?P<slide>\d)_")
    apart()


def test_the_order_of_the_rows_does_not_matter(analyze: Analyze) -> None:
    analyze(manifest(*ROWS))
    first = apart()
    analyze(manifest(*ROWS[::-1]), out="other.csv")
    assert factors("other.csv") == factors()
    assert first


def test_shards_and_their_merge_measure_them_apart(analyze: Analyze, run: Run) -> None:
    named = manifest(*ROWS)
    analyze(named)
    for shard in (1, 2):
        analyze(named, "--shard", f"{shard}/2", out=f"p/{shard}.csv")
    assert run("merge", "p", "--out", "merged.csv")[0] == 0
    assert factors("merged.csv") == factors()


def test_a_slide_that_turns_out_to_be_of_two_specimens_is_done_again(analyze: Analyze) -> None:
    analyze(manifest(*(row.replace("P-B", "P-A") for row in ROWS)))
    analyze(manifest(*ROWS))
    analyze(manifest(*ROWS), out="fresh.csv")
    assert factors() == factors("fresh.csv")
    analyze(manifest(*(row.replace("P-B", "P-C") for row in ROWS)))  # another name, no other scale
    assert factors() == factors("fresh.csv")


def test_slides_without_a_specimen_keep_the_scale_that_their_journal_has(analyze: Analyze) -> None:
    from cellcount.store.journal import Journal

    analyze("A")
    with Journal.reopen(Path("o.journal.sqlite")) as journal:
        assert list(journal.values("scale:")) == ["A"]
