"""A small tree of rendered slides, a toy detector that knows them, and the command itself."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from cellcount import cli
from cellcount.rendering.field import FieldSpec, RenderedField, render_field
from tests.loaded_once import loaded_once

WIDTH_PX, HEIGHT_PX, DIAMETER_PX = 160, 120, 24

FIELDS = ("a/1.png", "a/2.jpg", "b/x/1.tif", "b/x.png", "c.bmp")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def shared_models() -> Iterator[None]:
    """Commands share the models of the repository."""
    with loaded_once():
        yield


@pytest.fixture(scope="session")
def toy(repo_root: Path) -> str:
    """Weights of the golden tests: they find the cells of small rendered fields."""
    return str(repo_root / "tests" / "golden" / "tiny.safetensors")


@pytest.fixture(scope="session")
def rendered() -> dict[str, RenderedField]:
    """The fields of ``slides`` with their truth."""
    return {
        name: render_field(FieldSpec(WIDTH_PX, HEIGHT_PX, seed, DIAMETER_PX, 0.3, 2, 3, debris=0))
        for seed, name in enumerate(FIELDS, 1)
    }


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, rendered: dict[str, RenderedField]) -> Path:
    root = tmp_path_factory.mktemp("pristine") / "slides"
    for name, field in rendered.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(field.pixels).save(path)
    return root


@pytest.fixture
def slides(tmp_path: Path, pristine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``slides`` of five fields on four slides, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pristine, tmp_path / "slides")
    return Path("slides")


@pytest.fixture
def run(toy: str, capfd: pytest.CaptureFixture[str]) -> Run:
    """``run("slides", "--out", "counts.csv", ...)`` → exit code, stdout, stderr."""

    def analyze(*arguments: str | Path, detector: str = toy) -> tuple[int, str, str]:
        capfd.readouterr()
        # Whatever the default is; a later --classifier goes before it.
        models = ["--detector", detector, "--classifier", "none"]
        code = cli.main(["analyze", *models, *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return analyze


@pytest.fixture(scope="session")
def rows() -> Callable[[Path | str], list[dict[str, str]]]:
    """``rows(path)``: the rows of a table as the file has them, escapes and all."""

    def read(path: Path | str, separator: str = ",") -> list[dict[str, str]]:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter=separator))

    return read


@pytest.fixture(scope="session")
def typed_run(
    tmp_path_factory: pytest.TempPathFactory,
    pristine: Path,
    toy: str,
    colour_weights: Path,
    classifier_plugins: Path,
) -> Path:
    """The folder of a typed run of ``pristine`` with tables, report and COCO; for copying."""
    folder = tmp_path_factory.mktemp("typed")
    models = ["--detector", toy, "--classifier", str(colour_weights)]
    names = {"--out": "counts.csv", "--cells": "cells.csv", "--slides": "slides.csv"}
    names |= {"--report": "report.html", "--coco": "coco.json"}
    names |= {"--fhir": "results.json", "--hl7": "results.hl7"}
    outputs = [part for option, name in names.items() for part in (option, str(folder / name))]
    plugins = ["--plugins", str(classifier_plugins)]
    assert cli.main(["analyze", str(pristine), *models, *plugins, *outputs]) == 0
    return folder


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    pristine: Path,
    toy: str,
    colour_weights: Path,
    classifier_plugins: Path,
) -> Callable[[tuple[str, ...]], Path]:
    """``finished(("--out", "o/counts.csv"))``: a folder of ``slides`` and of what a typed run made.

    It is made once for all tests with the same outputs: copy it, and make the copy the current
    folder. Its journal names the fields of the first folder, which must stay as they are.
    """

    @cache
    def folder_of(outputs: tuple[str, ...]) -> Path:
        folder = tmp_path_factory.mktemp("finished")
        shutil.copytree(pristine, folder / "slides")
        models = ("--detector", toy, "--classifier", str(colour_weights))
        plugins = ("--plugins", str(classifier_plugins))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert cli.main(["analyze", "slides", *models, *plugins, *outputs]) == 0
        return folder

    return folder_of
