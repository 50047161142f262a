"""The form of output, without a run."""

from __future__ import annotations

import json
from pathlib import Path

from cellcount_counts_lines import form, write_counts_lines

from cellcount.core.records import CellClass, ImageRef, ImageResult
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Rules
from cellcount.differential.profile import load_profile
from cellcount.outputs.run_content import RunContent, RunFacts
from cellcount.settings import CsvForm


def test_a_line_per_image_and_no_counts_of_one_that_failed(tmp_path: Path) -> None:
    wbc = CellClass("wbc", "white cell", "white cells")
    counting = Counting(load_profile("peripheral-blood"), (), (wbc,), Rules(), {})
    facts = RunFacts(counting=counting, types=(), images=2, max_pixels=1)
    done = ImageResult(ImageRef(Path("a.png"), "a.png", "s"), "done")
    failed = ImageResult(ImageRef(Path("b.png"), "b.png", "s"), "failed", "empty file")
    content = RunContent(lambda: iter([done, failed]), facts.labels, CsvForm(), facts)
    write_counts_lines(tmp_path / "lines.jsonl", content)
    lines = (tmp_path / "lines.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"image": "a.png", "status": "done", "wbc": 0},
        {"image": "b.png", "status": "failed"},
    ]
    assert form().name == "counts-lines"
