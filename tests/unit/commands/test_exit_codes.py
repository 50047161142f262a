"""A wrong choice of model is wrong usage, what is not there is missing, near misses are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount import cli


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"never read")
    return path


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--detector", "blood-types"), "expected a detector; classifiers are named with"),
        (("--classifier", "blood"), "expected a classifier; detectors are named with"),
    ],
)
def test_a_model_in_the_wrong_role_is_wrong_usage(
    image: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str], words: str
) -> None:
    code = cli.main(["analyze", str(image), "--out", str(image.parent / "o.csv"), *option])
    assert code == 2
    assert words in capsys.readouterr().err


def test_a_pickle_is_wrong_usage_and_one_that_is_not_there_is_missing(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickle = image.parent / "model.pt"
    arguments = ["analyze", str(image), "--out", str(image.parent / "o.csv")]
    arguments += ["--detector", str(pickle)]
    assert cli.main(arguments) == 3
    said = capsys.readouterr().err
    assert f"no model named '{pickle}'" in said
    assert "is a pickle" not in said
    pickle.write_bytes(b"\x80\x04")
    assert cli.main(arguments) == 2
    assert "is a pickle file, and opening one can run any code" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "suggested"),
    [(["analyse", "x"], "analyze"), (["train", "detectors"], "detector"), (["modles"], "models")],
)
def test_a_command_that_is_nearly_one_is_suggested(
    capsys: pytest.CaptureFixture[str], words: list[str], suggested: str
) -> None:
    assert cli.main(words) == 2
    assert f"Did you mean '{suggested}'?" in capsys.readouterr().err
