"""No table is replaced by that of other images, and no file holds another form than its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount import cli

Run = Callable[..., tuple[int, str, str]]


def test_another_folder_does_not_replace_the_table(slides: Path, run: Run) -> None:
    run(slides / "a", "--out", "o.csv")
    before = Path("o.csv").read_bytes()
    shutil.copytree(slides / "b", "other/a")  # the same names, other fields
    (Path("other/a") / "x.png").rename("other/a/1.png")
    code, _, err = run("other/a", "--out", "o.csv")
    assert code == 2
    assert "o.csv holds the counts of 2 images of another folder" in err
    assert "name another --out, name all INPUTs" in err
    assert Path("o.csv").read_bytes() == before
    code, _, err = run("other/a", "--out", "o.csv", "--fresh")
    assert code == 0, err
    assert Path("o.csv").read_bytes() != before


def test_a_folder_that_was_moved_goes_on(slides: Path, run: Run) -> None:
    run(slides / "a", "--out", "o.csv")
    (slides / "a").rename("moved")
    code, _, err = run("moved", "--out", "o.csv")
    assert code == 0, err


@pytest.mark.parametrize(
    ("option", "name"),
    [("--out", "o.docx"), ("--cells", "c.json"), ("--slides", "s.html"), ("--coco", "c.csv"),
     ("--report", "r.csv")],
)  # fmt: skip
def test_a_name_that_promises_another_form_is_refused(
    slides: Path, run: Run, option: str, name: str
) -> None:
    outputs = [option, name] if option == "--out" else ["--out", "o.csv", option, name]
    code, _, err = run(slides / "a", *outputs)
    assert code == 2
    assert f"{option} is {name}, which promises .{name.rpartition('.')[2]}" in err
    assert not Path(name).exists()


def test_classify_refuses_such_a_name_too(slides: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["classify", str(slides / "a"), "--out", "t.docx"]) == 2
    assert "--out is t.docx, which promises .docx" in capfd.readouterr().err
