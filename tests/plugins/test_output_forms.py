"""Forms of output: ours are sound; those of plugins come by name, and help imports none."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.core.records import CellClass
from cellcount.errors import OutputError, PluginError, UsageError
from cellcount.outputs.forms import FORMS, form_of, packages_of, write_form
from cellcount.outputs.run_content import RunContent
from cellcount.plugins import OUTPUTS
from cellcount.settings import OutputSettings
from tests.unit.run_content import content_of

Offer = Callable[..., Path]
EMPTY = content_of([], [CellClass("wbc", "white cell", "white cells")])

HEAD = "from cellcount.outputs.forms import OutputForm\n"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_ours_can_be_written(form: object, tmp_path: Path) -> None:
    found = form_of(form.name)  # type: ignore[attr-defined]
    assert found is form
    assert isinstance(found.write, str)
    assert len(inspect.signature(pkgutil.resolve_name(found.write)).parameters) == 2
    write_form(found, tmp_path / "made" / "o", EMPTY)
    # Of no images there is a file all the same, but for folders with one per image.
    if found.kind == "file":
        written = (tmp_path / "made" / "o").stat().st_size
        assert written or found.name == "hl7"  # a message per specimen and nothing else


def test_no_form_is_called_like_another_setting() -> None:
    names = [form.name for form in FORMS]
    assert len(set(names)) == len(names)
    assert not set(names) & {f.name for f in dataclasses.fields(OutputSettings)}


def test_an_unknown_form_says_which_there_are(offer: Offer) -> None:
    offer("some-form", "lines", "some_form:form", "", OUTPUTS)
    with pytest.raises(PluginError) as caught:
        form_of("line")
    message = str(caught.value)
    assert "no output form 'line' among the installed packages; did you mean 'lines'?" in message
    assert message.endswith(
        "Install the package that offers it (entry-point group cellcount.outputs)"
    )
    with pytest.raises(PluginError, match=r"by the plugin gone 1\.2, which is not installed here"):
        form_of("line", "gone 1.2")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def form(): return 3\n", r"form\(\) returned 3, expected an OutputForm named 'lines'"),
        (
            f"{HEAD}def form(): return OutputForm(name='other', help='', write=print)\n",
            "returned one named 'other', expected an OutputForm named 'lines'",
        ),
        ("def form(): return 1 / 0\n", "failed with ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_form_is_named_with_its_package(offer: Offer, code: str, expected: str) -> None:
    offer("some-form", "lines", "wrong_form:form", code, OUTPUTS)
    assert packages_of(["cells", "lines"]) == {"lines": "some-form 1.2"}
    with pytest.raises(PluginError, match=rf"'lines' of some-form 1\.2.*{expected}"):
        form_of("lines")


def test_what_a_plugin_raises_is_told_as_its_fault(offer: Offer, tmp_path: Path) -> None:
    code = (
        f"{HEAD}from cellcount.errors import OutputError\n"
        "def write(path, content):\n"
        "    raise OutputError('full') if path.name == 'full' else ValueError('odd')\n"
        "def form(): return OutputForm(name='lines', help='', write=write)\n"
    )
    offer("some-form", "lines", "raising_form:form", code, OUTPUTS)
    form = form_of("lines")
    with pytest.raises(PluginError, match=r"'lines' of some-form 1\.2 failed with ValueError: odd"):
        write_form(form, tmp_path / "x", EMPTY)
    with pytest.raises(OutputError, match="full"):
        write_form(form, tmp_path / "full", EMPTY)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["lines"], "--output is 'lines', expected NAME=PATH"),
        (["=lines"], "expected NAME=PATH"),
        (["coco=c.json"], "this form has an option of its own, --coco PATH"),
        (["lines=a", "lines=b"], "--output names lines twice"),
    ],
)
def test_paths_of_forms_are_checked(
    asked: list[str], expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [word for text in asked for word in ("--output", text)]
    assert cli.main(["analyze", "x", "--out", "o.csv", *options]) == UsageError.exit_code
    assert expected in capfd.readouterr().err


@pytest.mark.parametrize("command", ["analyze", "merge"])
def test_help_lists_installed_forms_and_imports_none(
    offer: Offer, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    offer("some-form", "lines", "unimported_form:form", "1 / 0\n", OUTPUTS)
    assert cli.main([command, "--help"]) == 0
    assert "Installed: lines (some-form 1.2)." in " ".join(capfd.readouterr().out.split())
    assert "unimported_form" not in sys.modules


@pytest.mark.usefixtures("tinynet")
def test_the_example_offers_one() -> None:
    assert importlib.metadata.version("cellcount-tinynet") == "0.1.0"
    form = form_of("counts-lines")
    assert form.option == "--output counts-lines"
    assert packages_of(["counts-lines"]) == {"counts-lines": "cellcount-tinynet 0.1.0"}
    assert isinstance(EMPTY, RunContent)
