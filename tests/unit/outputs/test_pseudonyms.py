"""Codes in place of names: stable under one key, different under another, nothing left to read."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from cellcount.core.records import ImageRef, ImageResult
from cellcount.errors import UsageError
from cellcount.outputs.pseudonyms import Pseudonyms, check_key_place


def test_codes_depend_on_key_and_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    first = Pseudonyms.open(path)
    code = first.image("Meier Anna/slide 1/f.TIF#page=2")
    first.save(path)
    again = Pseudonyms.open(path)
    again.image("something/else.png")
    assert again.image("Meier Anna/slide 1/f.TIF#page=2") == code
    assert Pseudonyms(b"other").image("Meier Anna/slide 1/f.TIF#page=2") != code
    assert code.endswith(".tif#page=2")
    # The slide's code is the beginning of its images' codes.
    assert code.startswith(first.path("Meier Anna/slide 1") + "/")


def test_the_key_file_turns_codes_back_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    codes = Pseudonyms.open(path)
    codes.learn([ImageRef(Path("x"), "Meier/ä.png", "Meier", "P 1")])
    codes.save(path)
    document = json.loads(path.read_text())
    assert sorted(document["names"].values()) == ["Meier", "P 1", "ä.png"]
    assert document["names"][codes.path("Meier")] == "Meier"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_name_that_is_no_suffix_is_not_kept() -> None:
    code = Pseudonyms(b"k").image("Meier.Anna")
    assert "Anna" not in code
    assert "anna" not in code
    assert Pseudonyms(b"k").path("") == ""


def test_reasons_tell_no_names() -> None:
    ref = ImageRef(Path("/data/Meier/f.png"), "Meier/f.png", "Meier", "P")
    told = Pseudonyms(b"k").result(
        ImageResult(ref, "failed", "cannot read /data/Meier/f.png: f.png is cut off")
    )
    assert "Meier" not in told.reason
    assert "f.png is" not in told.reason
    assert told.ref.path == ref.path
    assert replace(told.ref, image="", slide="", specimen="") == replace(
        ref, image="", slide="", specimen=""
    )


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "x", "key": "", "names": {}}', "[]"])
def test_a_file_that_is_no_key_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(UsageError, match="is no key file"):
        Pseudonyms.open(path)
    assert path.read_text() == text


def test_the_key_stays_apart(tmp_path: Path) -> None:
    out, folder = tmp_path / "out" / "counts.csv", tmp_path / "drawn"
    check_key_place(tmp_path / "keys" / "k.json", [out], [folder])
    with pytest.raises(UsageError, match="in another folder"):
        check_key_place(tmp_path / "out" / "k.json", [out], [folder])
    with pytest.raises(UsageError, match="in another folder"):
        check_key_place(tmp_path / "drawn" / "deep" / "k.json", [out], [folder])
