"""The doctor: well, and with each thing broken that it is there to find."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cellcount import cli
from cellcount.files.digest import sha256_of
from cellcount.models.weights import packaged_weights
from cellcount.testing.doctor import SUMS, check_weights, examine


def test_this_installation_is_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for words in ("cellcount 0", "torch ", "CPU: ", "weights blood", "sha256 as packaged"):
        assert words in said
    assert "reads, tested here: JPEG, PNG" in said
    assert "MIRAX MRXS" in said
    assert "self-test: 6 sample fields counted in" in said
    assert said.endswith("in working order\n")


def test_without_sample_data_fields_are_rendered(tmp_path: Path, repo_root: Path) -> None:
    package = tmp_path / "cellcount"
    package.mkdir()
    (package / "weights").symlink_to(repo_root / "cellcount" / "weights")
    findings = list(examine(package))
    assert [f.text for f in findings if f.state == "problem"] == []
    assert findings[-1].text.startswith("self-test: 2 rendered fields counted in")


@pytest.fixture
def weights(tmp_path: Path, repo_root: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(repo_root / "tests" / "golden" / "tiny.safetensors", folder)
    (folder / SUMS).write_text(f"{sha256_of(folder / 'tiny.safetensors')}  tiny.safetensors\n")
    return folder


def test_weights_are_verified_by_their_hashes(weights: Path) -> None:
    assert [f.state for f in check_weights(weights)] == ["ok"]
    data = bytearray((weights / "tiny.safetensors").read_bytes())
    data[-1] ^= 1
    (weights / "tiny.safetensors").write_bytes(data)
    (weights / "more.safetensors").write_bytes(data)
    with (weights / SUMS).open("a") as file:
        file.write(f"{'0' * 64}  gone.safetensors\n")
    findings = list(check_weights(weights))
    assert [(f.state, f.text) for f in findings] == [
        ("problem", "weights more are on no list of hashes"),
        ("problem", "weights tiny are not those that were packaged"),
        ("problem", "weights gone.safetensors are missing"),
    ]
    assert all("reinstall" in f.advice for f in findings)


def test_a_check_that_breaks_off_hides_no_other(tmp_path: Path) -> None:
    findings = list(examine(tmp_path / "nowhere"))
    assert any(f.state == "problem" and "FileNotFoundError" in f.text for f in findings)
    assert findings[-1].text.startswith("self-test: 2 rendered fields")


def test_the_list_of_hashes_is_current(repo_root: Path, update_golden: bool) -> None:
    path = repo_root / "cellcount" / "weights" / SUMS
    current = "".join(f"{sha256_of(p)}  {p.name}\n" for p in packaged_weights().values())
    if update_golden:
        path.write_text(current)
    assert path.read_text() == current, "run pytest --update-golden"
