"""The name that a person means, in another Unicode form or letter case."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from cellcount.files.names import Folders, NameLookup

NFC, NFD = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("known", "name", "expected"),
    [
        ([NFC, NFD], NFD, NFD),
        ([NFC], NFD, NFC),
        ([NFD], NFC, NFD),
        ([NFC, "E.png"], NFC.upper(), NFC),
        (["a.png", "A.png"], "A.PNG", None),
        (["a.png", "A.png"], "A.png", "A.png"),
        ([NFD, NFC.upper()], NFC, NFD),
        (["b.png"], "a.png", None),
    ],
)
def test_exact_names_come_first_and_several_candidates_are_none(
    known: list[str], name: str, expected: str | None
) -> None:
    assert NameLookup(known).find(name) == expected


def test_folders_on_the_way_are_found_likewise(tmp_path: Path) -> None:
    folder = tmp_path / unicodedata.normalize("NFD", "Präparat")
    folder.mkdir()
    (folder / "A.png").touch()
    folders = Folders()
    name = unicodedata.normalize("NFC", "Präparat")
    assert folders.find(tmp_path, f"{name}/a.PNG") == folder / "A.png"
    assert folders.find(folder, f"../{name}/A.png") == folder / ".." / folder.name / "A.png"
    assert folders.find(tmp_path, str(tmp_path / name / "a.png")) == folder / "A.png"
    assert folders.find(tmp_path, f"{name}/b.png") is None
    assert folders.find(tmp_path, "n" * 5000) is None
    assert folders.find(tmp_path, "a\0b") is None
