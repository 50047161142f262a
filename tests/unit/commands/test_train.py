"""``train`` and ``datasets``: assignments, help and messages, without a training."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from PIL import Image

from cellcount.cli import main
from cellcount.commands.datasets import datasets_render
from cellcount.commands.train import parse_assignments, train_detector
from cellcount.errors import EXIT_USAGE, UsageError


def test_assignments_become_values() -> None:
    pairs = ("lr=0.5", "epochs=3", "name=abc", "rbc-px=none", "augment=flips", "split=90/10")
    assert parse_assignments(pairs) == {
        "lr": 0.5,
        "epochs": 3,
        "name": "abc",
        "rbc_px": None,
        "augment": "flips",
        "split": "90/10",
    }
    assert parse_assignments(("x=TRUE", "y=a=b")) == {"x": True, "y": "a=b"}
    with pytest.raises(UsageError, match="--set 'lr': expected KEY=VALUE"):
        parse_assignments(("lr",))


@pytest.mark.parametrize("command", [train_detector, datasets_render])
def test_every_option_has_a_help_text(command: click.Command) -> None:
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert silent == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "epoch=3"], "did you mean 'epochs'"),
        (["--recipe", "quick"], "--recipe is 'quick', expected one of default"),
        (["--epochs", "0"], "epochs is 0, expected more than 0"),
        (["--set", "lr=fast"], "lr is 'fast', expected number"),
    ],
)
def test_wrong_settings_are_said_before_data_is_read(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train", "detector", str(tmp_path), "--out", str(tmp_path / "run"), *arguments])
    assert code == EXIT_USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_without_annotations_says_what_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "detector", str(tmp_path), "--out", str(tmp_path / "run")]) != 0
    assert "fits no known annotation format" in capsys.readouterr().err


def test_rendered_fields_have_their_size_and_truth(tmp_path: Path) -> None:
    arguments = ["datasets", "render", "--out", str(tmp_path), "--fields", "3", "--seed", "4"]
    assert main([*arguments, "--size", "160x120", "--density", "0.3-0.4"]) == 0
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert [i["file_name"] for i in truth["images"]] == [
        f"images/field-{n:05d}.png" for n in range(3)
    ]
    with Image.open(tmp_path / "images" / "field-00000.png") as picture:
        assert picture.size == (160, 120)
    first = (tmp_path / "images" / "field-00001.png").read_bytes()
    assert main([*arguments, "--size", "160x120", "--density", "0.3-0.4"]) == 0
    assert (tmp_path / "images" / "field-00001.png").read_bytes() == first, "decided by the seed"


@pytest.mark.parametrize("wrong", [["--size", "640"], ["--density", "0.5"], ["--size", "0x10"]])
def test_a_wrong_size_or_density_shows_the_form(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["datasets", "render", "--out", str(tmp_path / "new"), "--fields", "1", *wrong])
    assert code == EXIT_USAGE
    assert "expected forms are 640x480 and 0.03-0.85" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
