"""Choice of the engine: ``auto``, and the message where Detectron2 is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from cellcount.cli import main
from cellcount.engines import base
from cellcount.engines.base import (
    DETECTRON2_IS_EXTRA,
    ENGINES,
    OPENVINO_IS_EXTRA,
    EngineOptions,
    choose_engine,
    engine_class,
    has_detectron2,
    load_engine,
)
from cellcount.errors import CellcountError, UsageError

IS_INSTALLED = importlib.util.find_spec("detectron2") is not None
only_without = pytest.mark.skipif(IS_INSTALLED, reason="Detectron2 is installed here")


@pytest.fixture
def broken_detectron2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Detectron2 that is installed, and cannot be imported."""
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text("raise ImportError('wrong torch')\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_name_stands_for_itself() -> None:
    assert choose_engine("torchvision") == "torchvision"
    expected = "auto or one of torchvision, detectron2, openvino"
    with pytest.raises(UsageError, match=f"--engine is 'onnx', expected {expected}"):
        choose_engine("onnx")


@only_without
def test_auto_is_torchvision_without_detectron2(tiny_weights: Path) -> None:
    assert not has_detectron2()
    assert choose_engine("auto") == "torchvision"
    assert load_engine("auto", tiny_weights, EngineOptions("cpu")).name == "torchvision"


@only_without
def test_a_mere_folder_of_that_name_is_no_detectron2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "detectron2").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert choose_engine("auto") == "torchvision"


@only_without
@pytest.mark.usefixtures("broken_detectron2")
def test_auto_is_detectron2_where_it_is_installed() -> None:
    assert choose_engine("auto") == choose_engine("detectron2") == "detectron2"


@only_without
@pytest.mark.usefixtures("broken_detectron2")
def test_a_detectron2_that_does_not_work_is_told() -> None:
    with pytest.raises(CellcountError, match=r"importing it fails \(wrong torch\).*--engine torch"):
        engine_class("auto")


@only_without
@pytest.mark.parametrize(
    "command",
    [
        ["analyze", "{data}", "--out", "{data}/counts.csv", "--engine", "detectron2"],
        ["train", "detector", "{data}", "--out", "{data}/run", "--engine", "detectron2"],
        ["evaluate", "detector", "{data}", "--engine", "detectron2"],
        ["models", "export", "blood", "--format", "detectron2", "--out", "{data}/exported"],
    ],
    ids=lambda c: " ".join(c[:2]) if c[0] != "analyze" else c[0],
)
def test_asking_for_it_without_it_gives_the_sentence(
    command: list[str],
    annotated: Path,
    tiny_weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = [part.format(data=annotated) for part in command]
    if command[0] in ("analyze", "evaluate"):
        line += ["--detector", str(tiny_weights)]
    assert main(line) == UsageError.exit_code
    assert capsys.readouterr().err.strip() == f"Error: {DETECTRON2_IS_EXTRA}"
    assert not (annotated / "run").exists()
    assert not (annotated / "exported").exists()


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one rendered field with its annotations."""
    folder = tmp_path_factory.mktemp("annotated") / "data"
    line = ["datasets", "render", "--out", str(folder), "--fields", "1", "--size", "120x100"]
    assert main(line) == 0
    return folder


def test_the_page_on_plugins_says_the_same(repo_root: Path) -> None:
    page = " ".join((repo_root / "docs" / "plugins.md").read_text("utf-8").split())
    assert DETECTRON2_IS_EXTRA in page
    assert OPENVINO_IS_EXTRA in page
    assert set(ENGINES) == {"torchvision", "detectron2", "openvino"}


def test_openvino_without_openvino_is_told_and_auto_never_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "field.png"
    Image.new("RGB", (64, 64)).save(picture)
    monkeypatch.setattr(base, "_is_installed", lambda package: False)
    line = ["analyze", str(picture), "--out", str(tmp_path / "counts.csv"), "--engine", "openvino"]
    assert main(line) == UsageError.exit_code
    assert capsys.readouterr().err.strip() == f"Error: {OPENVINO_IS_EXTRA}"
    assert not (tmp_path / "counts.csv").exists()
    monkeypatch.setattr(base, "_is_installed", lambda package: package == "openvino")
    assert choose_engine("auto") == "torchvision"
    assert choose_engine("openvino") == "openvino"
