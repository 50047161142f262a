"""The rendered fields of all recipes, an empty current folder, and the command itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcount import cli
from tests.faults.recipes import Fields, Run
from tests.loaded_once import loaded_once


@pytest.fixture(scope="module", autouse=True)
def shared_models() -> Iterator[None]:
    """Commands share the models of the repository."""
    with loaded_once():
        yield


@pytest.fixture(scope="session")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    """Six rendered fields of 640×480 px with truth."""
    folder = tmp_path_factory.mktemp("rendered") / "src"
    options = ["--fields", "6", "--size", "640x480", "--density", "0.15-0.35", "--seed", "11"]
    assert cli.main(["datasets", "render", "--out", str(folder), *options]) == 0
    return Fields(folder)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run("analyze", "s", "--out", "o.csv")`` → exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call
