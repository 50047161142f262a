"""A form of output from a plugin: written like ours, and named where its plugin is missing."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount import cli

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]


def command(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and stderr."""
    capfd.readouterr()
    code = cli.main(list(arguments))
    return code, capfd.readouterr().err


def without(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the example plugin missing again."""
    monkeypatch.setattr(
        sys, "path", [p for p in sys.path if p != str(plugin) and "cellcount-tinynet" not in p]
    )


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and "journal" not in path.name
    }


def test_it_is_written_by_a_run_and_by_a_merge(
    slides: Path,
    run: Run,
    rows: Rows,
    tinynet: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (slides / "b" / "broken.png").write_bytes(b"")
    asked = ("--output", "counts-lines=o/lines.jsonl")
    code, out, _ = run(slides, "--out", "o/counts.csv", *asked)
    assert code == 1
    assert "written: o/counts.csv, o/lines.jsonl, o/counts.run.json\n" in out
    lines = [json.loads(line) for line in Path("o/lines.jsonl").read_text().splitlines()]
    for line, row in zip(lines, rows("o/counts.csv"), strict=True):
        counts = {n: str(line.get(n, "")) for n in ("rbc", "wbc", "platelet")}
        assert (line["image"], counts) == (row["image"], {n: row[f"n_{n}"] for n in counts})
    record = json.loads(Path("o/counts.run.json").read_text())
    assert [Path(o["path"]).name for o in record["outputs"]] == ["counts.csv", "lines.jsonl"]

    for number in ("1", "2"):
        shard = (*("--shard", f"{number}/2"), *("--output", f"counts-lines=p/{number}.jsonl"))
        run(slides, "--out", f"p/{number}.csv", *shard)
    merge = ("merge", "p", "--out", "m/counts.csv", "--output", "counts-lines=m/lines.jsonl")
    assert command(capfd, *merge)[0] == 1
    assert Path("m/lines.jsonl").read_bytes() == Path("o/lines.jsonl").read_bytes()

    without(tinynet, monkeypatch)
    code, err = command(capfd, *merge)
    assert code == 3
    assert "written by the plugin cellcount-tinynet 0.1.0, which is not installed here" in err
    assert command(capfd, *merge[:4])[0] == 1  # what the shards wrote is not asked for again


def test_a_review_writes_it_again_and_names_a_missing_plugin(
    slides: Path,
    run: Run,
    tinynet: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    colour_weights: Path,
    classifier_plugins: Path,
) -> None:
    typing = ("--classifier", colour_weights, "--plugins", classifier_plugins)
    asked = ("--output", "counts-lines=o/lines.jsonl")
    assert run(slides, "--out", "o/counts.csv", *asked, *typing)[0] == 0
    before = hashes(Path("o"))
    with monkeypatch.context() as missing:
        without(tinynet, missing)
        export = ("review", "export", "o/counts.csv", "--out", "review", "--all", "--limit", "1")
        assert command(capfd, *export)[0] == 0
        table = Path("review/corrections.csv")
        with table.open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row | {"corrected_type": "monocytes"})
        apply = ("review", "apply", "o/counts.csv", "review/corrections.csv", "--reviewer", "AB")
        code, err = command(capfd, *apply)
        assert code == 3
        assert "'counts-lines' was written by the plugin cellcount-tinynet 0.1.0" in err
        assert hashes(Path("o")) == before
    Path("o/lines.jsonl").unlink()
    assert command(capfd, *apply)[0] == 0
    after = hashes(Path("o"))
    assert after["lines.jsonl"] == before["lines.jsonl"]
    assert after["counts.csv"] != before["counts.csv"]
