"""Job arrays that are submitted in parts are refused; one damaged image keeps no merge waiting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.recipes import Fields, Run


def submitted(monkeypatch: pytest.MonkeyPatch, **variables: int) -> None:
    """Environment that Slurm sets."""
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))


@pytest.mark.parametrize(
    ("task", "variables"),
    [
        (2, {"COUNT": 2, "MIN": 2, "MAX": 4}),  # the recipe: 2 and 4 of 1-4 again
        (4, {"COUNT": 2, "MIN": 2, "MAX": 4, "STEP": 1}),
        (2, {"COUNT": 2, "MIN": 2, "MAX": 4, "STEP": 2}),  # as 2-4:2
        (3, {"COUNT": 2, "MIN": 3, "MAX": 4, "STEP": 1}),  # as 3-4
        (1, {"COUNT": 2, "MIN": 1, "MAX": 3, "STEP": 2}),  # as 1-3:2
        (1, {"COUNT": 3, "MIN": 1, "MAX": 4, "STEP": 1}),  # as 1,2,4
        (1, {"COUNT": 1, "MIN": 1, "MAX": 1, "STEP": 1}),
        (0, {"COUNT": 1, "MIN": 0, "MAX": 0, "STEP": 1}),
    ],
)
def test_w41_parts_of_an_array_are_refused(
    fields: Fields, run: Run, monkeypatch: pytest.MonkeyPatch, task: int, variables: dict[str, int]
) -> None:
    for i in range(6):
        fields.put(i, f"s/{i}.png")
    submitted(monkeypatch, ID=task, **variables)
    out = f"{task}.csv"
    code, _, err = run("analyze", "s", "--shard", "slurm", "--classifier", "none", "--out", out)
    assert code == 2
    assert re.search("number of shards is unknown|no certain share", err)
    assert f"write --shard {task}/N" in err or "write --shard I/N" in err
    assert not Path(out).exists()
    assert not Path(f"{task}.journal.sqlite").exists()


def test_w42_a_shard_with_a_damaged_image_is_whole_and_its_merge_starts(
    fields: Fields, run: Run, repo_root: Path
) -> None:
    fields.put(0, "s/a.png")
    Path("s/c.png").write_bytes(Path("s/a.png").read_bytes()[:3000])
    options = ("--shard", "1/1", "--classifier", "none", "--out", "parts/o.csv")
    Path("parts").mkdir()
    assert run("analyze", "s", *options)[0] == 1
    assert run("merge", "parts", "--out", "m.csv")[0] == 1  # says so itself, and writes all
    assert "c.png" in Path("m.csv").read_text()
    for script in ("count.sh", "merge.sh"):
        text = (repo_root / "docs" / "slurm" / script).read_text()
        assert re.findall(r"--dependency=(\w+)", text) == ["afterany"]
    page = (repo_root / "docs" / "cluster.md").read_text()
    assert "exit code 1" in page
    assert "`afterany`, not `afterok`" in page
