"""Distributions that exist only as metadata on ``sys.path``, as pip would leave them behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Offer = Callable[..., Path]


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """``offer("dist", "name", "module:callable", code)`` installs a distribution until the end."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(
        distribution: str,
        name: str,
        value: str,
        code: str | None = None,
        group: str = "cellcount.backbones",
    ) -> Path:
        info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
        )
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        if code is not None:
            module = value.partition(":")[0]
            (tmp_path / f"{module}.py").write_text(code)
            monkeypatch.delitem(sys.modules, module, raising=False)
        return tmp_path

    return install
