"""Cells that come back changed from QuPath and ImageJ become corrections."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellcount import cli

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]
Review = Callable[..., tuple[int, str, str]]
Finished = Callable[[tuple[str, ...]], Path]
Json = dict[str, Any]

OUTPUTS = ("--out", "o/counts.csv", "--cells", "o/cells.csv", "--geojson", "o/geo")
IMAGE = "a/1.png"


@pytest.fixture
def results(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """counts.csv of a typed run that exported its boxes."""
    shutil.copytree(finished(OUTPUTS), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("o/counts.csv")


@pytest.fixture
def apply(results: Path, capfd: pytest.CaptureFixture[str]) -> Review:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(["review", "apply", str(results), *map(str, arguments), "--reviewer", "AB"])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def exported() -> tuple[Path, Json]:
    """A copy of the exported tree, and the features of one image."""
    shutil.rmtree("edited", ignore_errors=True)
    shutil.copytree("o/geo", "edited")
    path = Path("edited") / f"{IMAGE}.geojson"
    return path, json.loads(path.read_text(encoding="utf-8"))


def moved(feature: Json, by: float) -> None:
    ring = feature["geometry"]["coordinates"][0]
    feature["geometry"]["coordinates"] = [[[x + by, y + by] for x, y in ring]]


def feature(box: tuple[float, float, float, float], name: str | None) -> Json:
    """A rectangle as QuPath exports one that was drawn: an annotation with an id of its own."""
    x0, y0, x1, y1 = box
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    told = {"classification": {"name": name, "color": [1, 2, 3]}} if name else {}
    return {
        "type": "Feature",
        "id": "c0ffee00-0000-4000-8000-000000000000",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", **told},
    }


def of_image(rows: Rows) -> list[dict[str, str]]:
    return [row for row in rows("o/cells.csv") if row["image"] == IMAGE]


def test_an_unchanged_export_changes_nothing(apply: Review) -> None:
    exported()
    code, out, _ = apply("--geojson", "edited")
    assert code == 0
    assert "nothing was changed" in out


def test_moved_added_deleted_and_renamed_cells_become_corrections(
    apply: Review, rows: Rows
) -> None:
    before = of_image(rows)
    typed = [n for n, row in enumerate(before) if row["type"] and row["type"] != "unclassified"]
    path, document = exported()
    features = document["features"]
    new_type = "lymphocyte" if before[typed[0]]["type"] == "neutrophil" else "neutrophil"
    features[typed[0]]["properties"]["classification"]["name"] = new_type
    moved(features[typed[1]], 3)
    gone, ignored = [n for n in range(len(features)) if n not in typed[:2]][:2]
    features[ignored]["properties"]["classification"]["name"] = "Ignore*"
    features.append(feature((1, 2, 21, 22), "Eosinophils"))
    features.append(feature((-5, 60, 20, 80), "platelet"))
    del features[gone]
    path.write_text(json.dumps(document), encoding="utf-8")

    code, out, err = apply("--geojson", "edited")
    assert (code, err) == (0, ""), err
    assert "2 cells relabelled, 1 moved, 2 added, 1 deleted" in out
    after = of_image(rows)
    assert len(after) == len(before) + 2
    assert after[typed[0]]["reviewed_type"] == new_type
    assert after[typed[0]]["type"] == before[typed[0]]["type"]
    x = float(before[typed[1]]["x_min_px"])
    assert float(after[typed[1]]["x_min_px"]) == pytest.approx(x + 3, abs=0.02)
    assert after[gone]["reviewed_type"] == "deleted"
    assert after[ignored]["reviewed_type"] == "not_a_cell"
    added, platelet = after[-2:]
    assert (added["reviewed_type"], added["score"], added["label"]) == ("eosinophils", "", "wbc")
    assert (platelet["label"], platelet["x_min_px"], platelet["edge"]) == (
        "platelet",
        "0.00",
        "true",
    )
    # The export that was written anew is what was drawn, and applying either again adds nothing.
    kept = Path("o/cells.csv").read_bytes()
    for folder in ("edited", "o/geo"):
        assert "nothing was changed" in apply("--geojson", folder)[1]
    assert Path("o/cells.csv").read_bytes() == kept


def test_of_two_cells_in_one_place_the_one_that_is_left_stays(apply: Review, rows: Rows) -> None:
    first = of_image(rows)[0]
    box = [float(first[f"{side}_px"]) for side in ("x_min", "y_min", "x_max", "y_max")]
    wider = (box[0], box[1], box[2] + 0.04 * (box[2] - box[0]), box[3])
    path, document = exported()
    document["features"].append(feature(wider, first["label"]))
    path.write_text(json.dumps(document), encoding="utf-8")
    assert "1 added" in apply("--geojson", "edited")[1]
    path, document = exported()
    assert document["features"][0]["geometry"] != document["features"][-1]["geometry"]
    # The first of both is taken out, and the other one has lost its id in the other program.
    del document["features"][0]
    document["features"][-1]["id"] = "c0ffee00-0000-4000-8000-000000000000"
    path.write_text(json.dumps(document), encoding="utf-8")
    code, out, err = apply("--geojson", "edited")
    assert (code, err) == (0, "")
    assert "0 cells relabelled, 1 deleted" in out
    assert of_image(rows)[0]["reviewed_type"] == "deleted"


def test_a_file_from_before_the_last_correction_cannot_undo_it(apply: Review) -> None:
    path, document = exported()
    document["features"][0]["properties"]["classification"]["name"] = "Ignore*"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert apply("--geojson", "edited")[0] == 0
    del document["features"][1]
    path.write_text(json.dumps(document), encoding="utf-8")
    code, _, err = apply("--geojson", "edited")
    assert code == 2
    assert f"{IMAGE}.geojson: the image was corrected since this file was written" in err


def test_files_named_by_the_image_alone_find_it(apply: Review) -> None:
    path, document = exported()
    del document["features"][0]
    Path("flat").mkdir()
    Path("flat/c.geojson").write_text(
        (path.parent.parent / "c.bmp.geojson").read_text(), encoding="utf-8"
    )
    code, out, _ = apply("--geojson", "flat")
    assert (code, "nothing was changed" in out) == (0, True)
    Path("flat/unknown.geojson").write_text(json.dumps(document), encoding="utf-8")
    code, _, err = apply("--geojson", "flat")
    assert code == 2
    assert "unknown.geojson: these results have no image 'unknown'" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.append(feature((1, 1, 9, 9), None)), "was drawn and has no name"),
        (lambda f: f.append(feature((1, 1, 9, 9), "eosinofil")), "did you mean 'eosinophils'"),
        (lambda f: f.append(feature((900, 1, 990, 9), "platelet")), "has no area in the image"),
        (lambda f: f.append(f[0]), "cell 1 is there twice; keep one"),
        (lambda f: f.append({"type": "Point"}), "it is no GeoJSON of features"),
    ],
)
def test_what_cannot_be_meant_is_told_and_nothing_is_changed(
    apply: Review, change: Callable[[list[Json]], None], message: str
) -> None:
    path, document = exported()
    document["features"][1]["properties"]["classification"]["name"] = "Ignore*"
    change(document["features"])
    path.write_text(json.dumps(document), encoding="utf-8")
    kept = Path("o/cells.csv").read_bytes()
    code, _, err = apply("--geojson", "edited")
    assert code == 2
    assert message in err
    assert Path("o/cells.csv").read_bytes() == kept


def test_a_table_and_a_folder_are_not_applied_together(apply: Review) -> None:
    exported()
    for arguments in ((), ("o/cells.csv", "--geojson", "edited")):
        code, _, err = apply(*arguments)
        assert code == 2
        assert "name one of CORRECTIONS" in err


def test_rois_of_imagej_go_out_and_come_back(
    slides: Path,
    run: Run,
    rows: Rows,
    colour_weights: Path,
    classifier_plugins: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    roifile = pytest.importorskip("roifile", reason="needs roifile (extra: imagej)")
    typing = ("--classifier", colour_weights, "--plugins", classifier_plugins)
    outputs = ("--out", "o/counts.csv", "--cells", "o/cells.csv", "--rois", "o/rois")
    assert run(slides, *outputs, *typing)[0] == 0
    cells = of_image(rows)
    path = Path("o/rois") / f"{IMAGE}.zip"
    first = path.read_bytes()
    found = roifile.roiread(path)
    assert len(found) == len(cells)
    for roi, row in zip(found, cells, strict=True):
        assert roi.name.startswith(f"{row['cell']} ")
        assert roi.roitype == roifile.ROI_TYPE.RECT
        assert roi.xd == pytest.approx(float(row["x_min_px"]), abs=0.01)
        assert roi.yd + roi.heightd == pytest.approx(float(row["y_max_px"]), abs=0.01)

    def apply() -> str:
        capfd.readouterr()
        code = cli.main(["review", "apply", "o/counts.csv", "--rois", "sets", "--reviewer", "AB"])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out

    target = Path("sets") / f"{IMAGE}.zip"
    target.parent.mkdir(parents=True)
    shutil.copy(path, target)
    assert "nothing was changed" in apply()
    typed = next(n for n, row in enumerate(cells) if row["type"] not in ("", "unclassified"))
    found[typed].name = f"{typed + 1} eosinophils"
    drawn = roifile.ImagejRoi.frompoints([[5, 5], [25, 6], [20, 30]], name="platelet")
    target.unlink()
    kept = [roi for n, roi in enumerate(found) if n == typed or n % 5]
    roifile.roiwrite(target, [*kept, drawn])
    out = apply()
    gone = len(found) - len(kept)
    assert f"1 cell relabelled, 1 added, {gone} deleted" in out
    after = of_image(rows)
    assert after[typed]["reviewed_type"] == "eosinophils"
    assert after[-1]["label"] == "platelet"
    assert [after[-1][c] for c in ("x_min_px", "y_max_px")] == ["5.00", "30.00"]
    assert path.read_bytes() != first
    assert "nothing was changed" in apply()
