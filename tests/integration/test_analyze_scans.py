"""Pictures too large for memory through the command: counted by windows, told and drawn as such."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellcount.rendering.field import FieldSpec, render_field

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]
WIDTH, HEIGHT = 620, 450
BY_WINDOWS = ("--max-pixels", "150000")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered slide of 620 x 450 px whose lower right quarter is glass, as tiled TIFF."""
    path = tmp_path_factory.mktemp("scanned") / "a.tif"
    pixels = render_field(FieldSpec(WIDTH, HEIGHT, 5, 24, 0.3, 6, 12, debris=0)).pixels
    pixels[230:, 320:] = np.percentile(pixels, 95, axis=(0, 1)).astype(np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), compression="zlib")
    return path


@pytest.fixture
def scan(scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of the slide."""
    monkeypatch.chdir(tmp_path)
    Path("slides").mkdir()
    shutil.copy(scanned, "slides/a.tif")
    return Path("slides")


def places(rows: list[dict[str, str]]) -> set[tuple[str, int, int]]:
    sides = ("x_min_px", "y_min_px", "x_max_px", "y_max_px")
    return {
        (r["label"], round((x0 + x1) / 8), round((y0 + y1) / 8))
        for r in rows
        for x0, y0, x1, y1 in [[float(r[s]) for s in sides]]
    }


def test_a_scan_has_the_cells_of_the_picture(scan: Path, run: Run, rows: Rows) -> None:
    code, _, _ = run(scan, "--out", "w.csv", "--cells", "wc.csv", "--um-per-px", "0.3125")
    assert code == 0
    code, out, err = run(
        scan, "--out", "s.csv", "--cells", "sc.csv", "--um-per-px", "0.3125", *BY_WINDOWS,
        "--annotated", "drawn", "--geojson", "geo", "--report", "r.html",
    )  # fmt: skip
    assert code == 0, out + err
    (whole,), (by_windows,) = rows("w.csv"), rows("s.csv")
    assert (by_windows["status"], by_windows["width_px"]) == ("done", str(WIDTH))
    assert int(by_windows["cells"]) == pytest.approx(int(whole["cells"]), rel=0.03)
    shared = places(rows("wc.csv")) & places(rows("sc.csv"))
    assert len(shared) > 0.85 * int(whole["cells"]) > 80
    # Instead of a picture, what QuPath draws on the scan; said, and the same as --geojson.
    assert "a.tif is too large to draw: drawn/a.tif.geojson has its cells, for QuPath" in err
    drawn = Path("drawn/a.tif.geojson").read_bytes()
    assert drawn == Path("geo/a.tif.geojson").read_bytes()
    assert len(json.loads(drawn)["features"]) == int(by_windows["cells"])
    assert not list(Path("drawn").glob("*.png"))
    # The report shows crops of single cells.
    assert len(re.findall(r"data:image/jpeg", Path("r.html").read_text("utf-8"))) >= 10


def test_a_scan_is_done_once_and_its_drawing_made_good(scan: Path, run: Run) -> None:
    common = (scan, "--out", "s.csv", *BY_WINDOWS, "--annotated", "drawn")
    assert run(*common)[0] == 0
    before = Path("s.csv").read_bytes()
    code, _, err = run(*common)
    assert (code, "too large to draw" in err) == (0, False)
    Path("drawn/a.tif.geojson").unlink()
    code, _, err = run(*common)
    assert (code, "too large to draw" in err) == (0, True)
    assert Path("s.csv").read_bytes() == before
    assert Path("drawn/a.tif.geojson").exists()


def test_the_scale_of_a_scan_is_that_of_its_sample_fields(scan: Path, run: Run, rows: Rows) -> None:
    """No µm per pixel anywhere: red cells of 24 px are what the model knows."""
    assert run(scan, "--out", "s.csv", *BY_WINDOWS)[0] == 0
    (row,) = rows("s.csv")
    assert (row["um_per_px"], row["scale_factor"], row["reason"]) == ("", "1", "")
    assert float(row["focus"]) > 0.3


def test_what_a_scan_costs_is_told_before(scan: Path, run: Run) -> None:
    code, out, _ = run(scan, "--out", "s.csv", *BY_WINDOWS, "--dry-run")
    assert code == 0
    assert "judged by 1 field" in out


def test_a_scan_that_is_damaged_in_the_middle_fails_with_its_reason(
    scan: Path, run: Run, rows: Rows
) -> None:
    data = bytearray((scan / "a.tif").read_bytes())
    with tifffile.TiffFile(scan / "a.tif") as file:
        start = file.pages[0].dataoffsets[30]
    data[start : start + 200] = bytes(200)
    (scan / "a.tif").write_bytes(data)
    code, _, _ = run(scan, "--out", "s.csv", *BY_WINDOWS)
    assert code == 3
    (row,) = rows("s.csv")
    assert row["status"] == "failed"
    assert row["reason"].startswith(("damaged TIFF", "truncated TIFF"))
