"""Bad files, odd names and every exit code: one image never ends a batch, and each says why."""

from __future__ import annotations

import csv
import os
import shutil
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount.files.text import unescape_text

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]


def header_bomb(side_px: int) -> bytes:
    """A PNG whose header promises side_px² pixels and that holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


def test_every_bad_file_has_its_row_and_reason(slides: Path, run: Run, rows: Rows) -> None:
    good = (slides / "a/1.png").read_bytes()
    jpeg = (slides / "a/2.jpg").read_bytes()
    tiff = (slides / "b/x/1.tif").read_bytes()
    bad = Path("bad")
    bad.mkdir()
    (bad / "01-good.png").write_bytes(good)
    (bad / "02-empty.png").write_bytes(b"")
    (bad / "03-cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (bad / "04-cut.tif").write_bytes(tiff[: len(tiff) // 2])
    shutil.copy(slides / "b/x.png", bad / "05-a-png.jpg")  # a wrong extension does no harm
    (bad / "06-text.png").write_text("not an image")
    Image.new("RGB", (1, 1), (230, 220, 210)).save(bad / "07-one-pixel.png")
    (bad / "08-bomb.png").write_bytes(header_bomb(60_000))
    Image.open(slides / "c.bmp").save(bad / "09-good.PNG")

    code, out, err = run(bad, "--out", "o.csv", "--cells", "c.csv")
    assert code == 1
    found = {row["image"]: row for row in rows("o.csv")}
    assert [row["status"] for row in found.values()] == [
        "done", "failed", "failed", "failed", "done", "failed", "excluded", "failed", "done",
    ]  # fmt: skip
    for name, words in {
        "02-empty.png": "empty file",
        "03-cut.jpg": "truncated JPEG",
        "04-cut.tif": "truncated TIFF",
        "06-text.png": "not an image",
        "08-bomb.png": "3600000000 pixels (60000 x 60000), the limit is 500000000",
    }.items():
        assert words in found[name]["reason"]
        assert found[name]["cells"] == found[name]["n_rbc"] == ""  # empty, never 0
        assert f"failed: {name}: " in err
        assert f"failed: {name}: " in out
    assert int(found["05-a-png.jpg"]["cells"]) > 0
    assert found["07-one-pixel.png"]["width_px"] == "1"
    assert found["07-one-pixel.png"]["reason"].endswith("no cells found")
    assert out.startswith("3 of 9 images done, 5 failed, 1 excluded, in ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_say_so(slides: Path, run: Run, rows: Rows) -> None:
    (slides / "c.bmp").chmod(0)
    assert run(slides, "--out", "o.csv")[0] == 1
    assert rows("o.csv")[-1]["reason"] == "permission denied"


def test_what_is_no_file_is_passed_over_with_its_reason(slides: Path, run: Run, rows: Rows) -> None:
    (slides / "folder.jpg").mkdir()
    (slides / "folder.jpg" / "1.png").write_bytes((slides / "a/1.png").read_bytes())
    os.mkfifo(slides / "pipe.png")
    (slides / "notes.txt").write_text("x")
    (slides / "gone.tif").symlink_to("nowhere")
    (slides / ".hidden.png").write_bytes(b"")
    code, _, err = run(slides, "--out", "o.csv")
    assert code == 0
    for line in (
        "slides/folder.jpg: a folder named like an image; the images in it are read",
        "slides/pipe.png: a pipe",
        "slides/notes.txt: not an image type (.txt)",
        "slides/gone.tif: a link that leads nowhere",
    ):
        assert f"passed over: {line}\n" in err
    assert "hidden" not in err
    names = [row["image"] for row in rows("o.csv")]
    assert len(names) == 6
    assert "folder.jpg/1.png" in names


def test_names_of_every_kind_come_through(slides: Path, run: Run, rows: Rows) -> None:
    good = (slides / "a/1.png").read_bytes()
    names = ["é ü 血.png", "a,b;c.png", "=1+2.png", "line\nbreak.png", 'quo"te.png', "\x1b[31m.png"]
    folder = Path("odd")
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(good + name.encode())  # no copies byte for byte
    (folder / "bad\n\x1b[2J.png").write_bytes(b"")
    invalid = os.fsencode(folder) + b"/caf\xe9.png"
    Path(os.fsdecode(invalid)).write_bytes(good)

    code, out, err = run(
        folder, "--out", "o.csv", "--cells", "c.csv", "--coco", "o.json", "--annotated", "drawn"
    )
    assert code == 1
    assert "\x1b[2J" not in out + err  # a name must not command the terminal
    assert "failed: bad\\n\\x1b[2J.png: empty file" in err
    written = {row["image"] for row in rows("o.csv")}
    assert written == {
        *(names[:2]), "'=1+2.png", "line\\x0abreak.png", names[4], "\\x1b[31m.png",
        "caf\\udce9.png", "bad\\x0a\\x1b[2J.png",
    }  # fmt: skip
    assert {unescape_text(name) for name in written} >= set(names)
    with open("o.csv", encoding="utf-8", newline="") as file:
        assert {len(row) for row in csv.reader(file)} == {21}
    drawn = set(os.listdir(b"drawn"))
    assert {os.fsencode(name + ".png") for name in names} | {b"caf\xe9.png.png"} <= drawn
    assert run(folder, "--out", "o.csv")[2].startswith("going on: 7 of 8 images done before")


def test_nothing_to_do_is_exit_code_3(tmp_path: Path, slides: Path, run: Run) -> None:
    Path("none").mkdir()
    Path("none/notes.txt").write_text("x")
    code, _, err = run("none", "--out", "o.csv")
    assert code == 3
    assert err.startswith("Error: no image found in none; JPEG, PNG, BMP, WebP and TIFF are read\n")
    assert "none/notes.txt: not an image type (.txt)" in err
    Path("none/bad.png").write_bytes(b"")
    assert run("none", "--out", "o.csv")[0] == 3


def test_too_many_failures_stop_the_run_with_exit_code_4(
    slides: Path, run: Run, rows: Rows
) -> None:
    for number in range(4):
        (slides / f"a/0{number}.png").write_bytes(b"")  # the first in path order
    code, _, err = run(slides, "--out", "o.csv", "--max-failure-rate", "0.3")
    assert code == 4
    assert "stopped: more images failed than --max-failure-rate allows" in err
    assert "6 images left; give the same command again to go on" in err
    statuses = [row["status"] for row in rows("o.csv")]
    assert statuses == ["failed"] * 3 + ["outstanding"] * 6  # 3 of 9 is above 0.3
    code, _, _ = run(slides, "--out", "o.csv", "--max-failure-rate", "0.5")
    assert code == 1
    assert len(rows("o.csv")) == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "INPUT nowhere does not exist"),
        (["slide"], "did you mean slides?"),
        (["slides", "--um-per-px", "11"], "--um-per-px is 11.0, expected micrometres per pixel"),
        (["slides", "--min-score", "1.5"], "--min-score is 1.5, expected a number from 0 to 1"),
        (["slides", "--tile-px", "100"], "--tile-px is 100, expected a multiple of 32"),
        (["slides", "--cells", "o.csv"], "--cells and --out both name o.csv"),
        (["slides", "--cells", "slides/../o.csv"], "--cells and --out both name slides/../o.csv"),
        (["slides", "--coco", "o.run.json"], "keeps its own notes beside --out"),
        (["slides", "--device", "tpu"], "tpu"),
        (["slides", "--edge-rule", "three"], "'three' is not one of 'all', 'two-sides'"),
        (["m.csv", "--cells", "m.csv"], "m.csv is both an input and an output"),
        (["slides", "--cells", "slides/c.bmp"], "c.bmp, which promises .bmp"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_code_2_and_says_what_to_do(
    slides: Path, run: Run, arguments: list[str], words: str
) -> None:
    Path("m.csv").write_text("path\nslides/c.bmp\n")
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    code, _, err = run(*arguments, "--out", "o.csv")
    assert code == 2
    assert words in " ".join(err.split())
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_an_output_that_cannot_be_written_is_found_out_first(
    slides: Path, run: Run, toy: str
) -> None:
    Path("taken").write_text("a file")
    for options in (("--annotated", "taken/drawn"), ("--cells", "taken/c.csv")):
        code, _, err = run(slides, "--out", "o.csv", *options)
        assert code == 3
        assert "taken is not a folder; check the folder" in err
        assert "Counting" not in err
    assert run(slides, "--out", "o.csv", detector="blod")[0] == 3
    Path("w.pt").write_bytes(b"")
    code, _, err = run(slides, "--out", "o.csv", detector="w.pt")
    assert code == 2
    assert "pickle" in err


def test_a_stack_cut_short_keeps_its_whole_pages(slides: Path, run: Run, rows: Rows) -> None:
    with Image.open(slides / "a/1.png") as page, tifffile.TiffWriter("s.tif") as stack:
        for _ in range(3):
            stack.write(np.asarray(page), photometric="rgb")
    data = Path("s.tif").read_bytes()
    Path("s.tif").write_bytes(data[: len(data) - 30_000])
    code, _, _ = run("s.tif", "--out", "o.csv")
    assert code in (1, 3)
    assert "failed" in {row["status"] for row in rows("o.csv")}


def test_tables_are_readable_by_others(slides: Path, toy: str) -> None:
    """Also through the installed module, as a batch system starts it."""
    command = [sys.executable, "-m", "cellcount", "analyze", "slides", "--out", "o.csv"]
    done = subprocess.run(
        [*command, "--detector", toy], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "Counting 5 images\n")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(Path("o.csv").stat().st_mode) == 0o666 & ~mask
