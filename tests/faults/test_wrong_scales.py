"""Scales that files state and red cells contradict (W01): camera pitch, tenfold, half, defaults."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellcount.core.records import ImageRef
from cellcount.images.read import read_image
from tests.faults.recipes import Fields, Run, made

Pixels = NDArray[np.uint8]


def rows(path: str = "o.csv") -> dict[str, dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def counts(row: dict[str, str]) -> list[int]:
    return [int(row[f"n_{name}"]) for name in ("rbc", "wbc", "platelet")]


def tagged(path: str, pixels: Pixels, um_per_px: float, unit: str = "cm") -> None:
    """A TIFF with a scale as cameras, ImageJ, OME and Aperio write it."""
    options: dict[str, Any] = {"photometric": "rgb"}
    if unit in ("cm", "inch"):
        per_unit = {"cm": 1e4, "inch": 25400}[unit] / um_per_px
        options |= {
            "resolution": (per_unit, per_unit),
            "resolutionunit": {"cm": 3, "inch": 2}[unit],
        }
    elif unit == "imagej":
        options |= {"imagej": True, "resolution": (1 / um_per_px,) * 2, "metadata": {"unit": "um"}}
    elif unit == "ome-nm":
        physical = {f"PhysicalSize{axis}": um_per_px * 1e3 for axis in "XY"}
        units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
        options |= {"metadata": {"axes": "YXS", **physical, **units}}
    else:
        about = f"Aperio Image Library v1\r\n640x480 (256x256) |AppMag = 40|MPP = {um_per_px}"
        options |= {"description": about, "metadata": None, "tile": (256, 256)}
    tifffile.imwrite(made(path), pixels, **options)


WRONG = {
    "pitch/f.tif": (3.45, "cm"),
    "tenfold/f.tif": (1.13, "inch"),
    "half/f.tif": (0.0452, "cm"),
    "default/f.tif": (1.0, "imagej"),
    "nm/f.ome.tif": (3.45, "ome-nm"),
    "scan/f.svs": (0.0452, "aperio"),
}


def test_red_cells_go_before_a_scale_in_the_file(fields: Fields, run: Run) -> None:
    for path, (um_per_px, unit) in WRONG.items():
        tagged(path, fields.pixels(0), um_per_px, unit)
    fields.put(0, "plain/f.png")
    code, _, err = run("analyze", ".", "--classifier", "none", "--out", "o.csv")
    assert code == 0, err
    found = rows()
    plain = found.pop("plain/f.png")
    assert counts(plain) == [47, 7, 4]
    assert found.keys() == WRONG.keys()
    for path, row in found.items():
        assert counts(row) == counts(plain), path
        assert row["um_per_px"] == "", path
        assert f"the file says {WRONG[path][0]:.3g} µm/px" in row["reason"]
        assert "red cells tell about 0.15 µm/px" in row["reason"]


def test_a_right_scale_in_the_file_is_taken_as_it_is(fields: Fields, run: Run) -> None:
    tagged("a/f.tif", fields.pixels(0), 0.15)
    assert run("analyze", "a", "--classifier", "none", "--out", "o.csv")[0] == 0
    (row,) = rows().values()
    assert (row["um_per_px"], row["scale_factor"], row["reason"]) == ("0.15", "0.96", "")


@pytest.mark.parametrize("how", ["option", "manifest"])
def test_a_scale_that_a_person_gave_stays_with_a_caution(
    fields: Fields, run: Run, how: str
) -> None:
    fields.put(0, "a/f.png")
    Path("m.csv").write_text("path,um_per_px\na/f.png,0.0452\n")
    named = ["a", "--um-per-px", "0.0452"] if how == "option" else ["m.csv"]
    assert run("analyze", *named, "--classifier", "none", "--out", "o.csv")[0] == 0
    (row,) = rows().values()
    assert row["um_per_px"] == "0.0452"
    assert float(row["scale_factor"]) == pytest.approx(48 * 0.0452 / 7.5, rel=1e-3)
    assert "the given scale is 0.0452 µm/px, but the red cells tell about 0.15" in row["reason"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_the_dots_per_inch_of_a_picture_for_print_say_nothing(fields: Fields, suffix: str) -> None:
    for dpi in (72, 96, 300):
        path = made(f"{dpi}.{suffix}")
        if suffix == "tif":
            tagged(str(path), fields.pixels(0), 25400 / dpi, "inch")
        else:
            fields.image(0).save(path, dpi=(dpi, dpi))
        assert read_image(ImageRef(path, path.name, "s"), max_pixels=10**6).um_per_px is None
