"""docs/python.md prints what it says: its examples are run on the sample fields."""

from __future__ import annotations

import doctest
import re
import shutil
from pathlib import Path
from typing import Any

import pytest


def test_the_examples_print_what_stands_on_the_page(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(repo_root / "sample_data" / "slide-B", tmp_path / "sample_data" / "slide-B")
    monkeypatch.chdir(tmp_path)
    page = (repo_root / "docs" / "python.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for block in blocks:
        example = doctest.DocTestParser().get_doctest(block, names, "python.md", None, None)
        runner.run(example, out=told.append, clear_globs=False)
        names = example.globs
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
