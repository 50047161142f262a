"""Finding plugins: by entry point, by folder, and what is said when one is missing or broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.errors import PluginError, UsageError
from cellcount.plugins import BACKBONES, CLASSIFIERS, available, find

Offer = Callable[..., Path]


def test_the_built_in_comes_through_the_same_door() -> None:
    assert available(BACKBONES)["timm"] == "cellcount"
    assert find(BACKBONES, "timm").__name__ == "timm_backbone"
    assert available(CLASSIFIERS)["timm"] == "cellcount"
    assert find(CLASSIFIERS, "timm").__name__ == "timm_classifier"


def test_an_installed_plugin_is_imported_only_when_asked_for(offer: Offer) -> None:
    offer("some-net", "some", "some_net_module:build", "def build(): return 'built'\n")
    assert available(BACKBONES)["some"] == "some-net 1.2"
    assert "some_net_module" not in sys.modules
    assert find(BACKBONES, "some")() == "built"


def test_groups_are_kept_apart(offer: Offer) -> None:
    offer("a-classifier", "typer", "typer_module:build", "def build(): ...\n", CLASSIFIERS)
    assert "typer" in available(CLASSIFIERS)
    assert "typer" not in available(BACKBONES)


def test_unknown_name_says_what_there_is_and_what_to_do() -> None:
    with pytest.raises(PluginError) as caught:
        find(BACKBONES, "timn")
    message = str(caught.value)
    assert "no backbone 'timn' among the installed packages" in message
    assert "did you mean 'timm'?" in message
    assert "--plugins" in message


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import no_such_library\n", "broken_module:build gave ModuleNotFoundError: No module"),
        ("1 / 0\n", "broken_module:build gave ZeroDivisionError: division by zero"),
        ("other = 1\n", "broken_module:build gave AttributeError"),
        ("build = 3\n", "broken_module:build is a int, expected a function"),
    ],
)
def test_a_broken_plugin_is_named_with_its_package(offer: Offer, code: str, expected: str) -> None:
    offer("broken-net", "broken", "broken_module:build", code)
    assert "broken" in available(BACKBONES)  # listing it does not run it
    with pytest.raises(PluginError) as caught:
        find(BACKBONES, "broken")
    assert "backbone 'broken' of broken-net 1.2" in str(caught.value)
    assert expected in str(caught.value)


def test_a_name_offered_twice_is_refused(offer: Offer) -> None:
    offer("my-timm", "timm", "my_timm_module:build", "def build(): ...\n")
    assert available(BACKBONES)["timm"] == "cellcount and my-timm 1.2"
    with pytest.raises(PluginError, match=r"offered twice, by cellcount and by my-timm 1\.2"):
        find(BACKBONES, "timm")


def test_a_file_in_a_named_folder(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text("runs = []\ndef build_backbone(**o): return len(runs), o\n")
    (tmp_path / "typer.py").write_text("def build_classifier(**o): ...\n")
    (tmp_path / "_private.py").write_text("def build_backbone(**o): ...\n")
    (tmp_path / "not-a-name.py").write_text("def build_backbone(**o): ...\n")
    found = available(BACKBONES, tmp_path)
    assert found.keys() - available(BACKBONES).keys() == {"small"}
    assert found["small"] == str(tmp_path / "small.py")
    assert find(BACKBONES, "small", tmp_path)(width=3) == (0, {"width": 3})
    assert find(BACKBONES, "small", tmp_path) is find(BACKBONES, "small", tmp_path)


def test_a_package_in_a_named_folder_may_import_its_parts(tmp_path: Path) -> None:
    package = tmp_path / "parted"
    package.mkdir()
    (package / "__init__.py").write_text("from .part import build_backbone\n")
    (package / "part.py").write_text("def build_backbone(): return __name__\n")
    assert find(BACKBONES, "parted", tmp_path)() == "cellcount_plugin_parted.part"


def test_the_same_name_in_two_folders_is_two_plugins(tmp_path: Path) -> None:
    for text in ("one", "two"):
        (tmp_path / text).mkdir()
        (tmp_path / text / "net.py").write_text(f"def build_backbone(): return {text!r}\n")
    assert find(BACKBONES, "net", tmp_path / "one")() == "one"
    assert find(BACKBONES, "net", tmp_path / "two")() == "two"


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("def build_backbone(:\n")
    with pytest.raises(PluginError, match=r"wrong\.py cannot be loaded: .* gave SyntaxError"):
        find(BACKBONES, "wrong", tmp_path)
    assert "cellcount_plugin_wrong" not in sys.modules


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--plugins names .*nowhere, which is not a folder"):
        find(BACKBONES, "any", tmp_path / "nowhere")


def test_the_current_folder_is_never_picked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.py").write_text("def build_backbone(): ...\n")
    monkeypatch.chdir(tmp_path)
    assert "here" not in available(BACKBONES)


def test_looking_for_plugins_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from cellcount.plugins import BACKBONES, available\n"
        "available(BACKBONES)\n"
        "print([m for m in ('torch', 'numpy', 'timm', 'pandas') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "[]\n"
