"""``analyze --fhir`` and ``--hl7``: what the manifest names goes out, again and again the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]

SENT = ("--out", "o/counts.csv", "--fhir", "o/r.json", "--hl7", "o/r.hl7", "--um-per-px", "0.3")


@pytest.fixture
def typing(colour_weights: Path, classifier_plugins: Path) -> tuple[str, ...]:
    return ("--classifier", str(colour_weights), "--plugins", str(classifier_plugins))


@pytest.fixture
def manifest(slides: Path) -> Path:
    """Two specimens with an accession number each."""
    path = slides / "m.csv"
    path.write_text(
        "path,specimen,accession\na/1.png,P-1,26-0001\na/2.jpg,P-1,26-0001\nc.bmp,P-2,26-0002\n"
    )
    return path


def test_specimens_and_orders_of_the_manifest_go_out_and_repeat_to_the_byte(
    manifest: Path, run: Run, typing: tuple[str, ...]
) -> None:
    assert run(manifest, *SENT, *typing)[0] == 0
    sent = {name: Path("o", name).read_bytes() for name in ("r.json", "r.hl7")}
    bundle = json.loads(sent["r.json"])
    reports = [
        entry["resource"]["identifier"][0]["value"]
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "DiagnosticReport"
    ]
    assert reports == ["26-0001", "26-0002"]
    messages = sent["r.hl7"].decode().split("MSH|")[1:]
    assert [m.split("\rOBR|")[1].split("|")[2] for m in messages] == reports
    assert run(manifest, *SENT, *typing)[0] == 0
    assert {name: Path("o", name).read_bytes() for name in sent} == sent


def test_codes_stand_for_accession_numbers_too(
    manifest: Path, run: Run, typing: tuple[str, ...]
) -> None:
    assert run(manifest, *SENT, *typing, "--pseudonymize", "keys/key.json")[0] == 0
    for name in ("o/r.json", "o/r.hl7"):
        text = Path(name).read_text(encoding="utf-8")
        assert "26-0001" not in text
        assert "P-1" not in text
    assert "26-0001" in json.loads(Path("keys/key.json").read_text())["names"].values()


def test_two_accession_numbers_of_a_specimen_are_one_sentence(
    manifest: Path, run: Run, typing: tuple[str, ...]
) -> None:
    manifest.write_text("path,specimen,accession\na/1.png,P,1\na/2.jpg,P,2\n")
    code, _, err = run(manifest, *SENT, *typing)
    assert code == 2
    assert "specimen P has the accession numbers 1, 2, expected one" in err
    assert not Path("o").exists()
