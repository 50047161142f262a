"""Files of other programs that are damaged or made up end in a ValueError, and nothing else."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cellcount.review.imagej import read_rois
from cellcount.review.qupath import read_geojson

RING = [[[1, 2], [9, 2], [9, 8], [1, 8], [1, 2]]]
SOUND = {"geometry": {"type": "Polygon", "coordinates": RING}, "properties": {}}


def geojson(path: Path, **facts: object) -> Path:
    path.write_text(json.dumps({"type": "Feature", **SOUND, **facts}), encoding="utf-8")
    return path


def nested(depth: int) -> str:
    return "[" * depth + "1,2" + "]" * depth


@pytest.mark.parametrize(
    "facts",
    [
        {"geometry": None},
        {"geometry": "POLYGON"},
        {"geometry": [1]},
        {"geometry": {"coordinates": {"x": 1}}},
        {"geometry": {"coordinates": [[[10**400, 1], [2, 2]]]}},
        {"geometry": {"coordinates": [[[float("nan"), 1], [2, 2]]]}},
        {"geometry": {"coordinates": [[[float("inf"), 1], [2, 2]]]}},
    ],
)
def test_a_feature_without_an_area_is_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is no area|is no place"):
        read_geojson(geojson(tmp_path / "a.geojson", **facts), "a", 0)


@pytest.mark.parametrize(
    "properties",
    [
        None,
        [],
        "x",
        {"classification": []},
        {"classification": {"names": 7}},
        {"measurements": 7},
        {"measurements": [1, {"name": []}, {"name": "last_review", "value": "x"}]},
        {"measurements": {"last_review": 10**400}},
        {"measurements": {"last_review": float("nan")}},
        {"measurements": {"last_review": -1}},
    ],
)
def test_properties_that_tell_nothing_are_passed_over(tmp_path: Path, properties: object) -> None:
    drawn = read_geojson(geojson(tmp_path / "a.geojson", properties=properties), "a", 0)
    (cell,) = drawn.cells
    assert (cell.box_xyxy, cell.label, drawn.last_review) == ((1, 2, 9, 8), "", 0)


@pytest.mark.parametrize(
    ("measurements", "time"),
    [
        ({"last_review": 5}, 5),
        ([{"name": "score", "value": 1}, {"name": "last_review", "value": 5}], 5),
    ],
)
def test_old_and_new_qupath_tell_when_the_file_was_written(
    tmp_path: Path, measurements: object, time: int
) -> None:
    path = geojson(tmp_path / "a.geojson", properties={"measurements": measurements})
    assert read_geojson(path, "a", 0).last_review == time


def of_depth(path: Path, depth: int) -> Path:
    rings = f"[{nested(depth)},{nested(depth)}]"
    path.write_text(f'{{"type": "Feature", "geometry": {{"coordinates": {rings}}}}}', "utf-8")
    return path


def test_rings_in_rings_are_read_however_deep(tmp_path: Path) -> None:
    (cell,) = read_geojson(of_depth(tmp_path / "a.geojson", 500), "a", 0).cells
    assert cell.box_xyxy == (1, 2, 1, 2)


def test_rings_too_deep_for_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it is not valid GeoJSON"):
        read_geojson(of_depth(tmp_path / "a.geojson", 100_000), "a", 0)


def roi_set(path: Path, *rois: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in rois:
            archive.writestr(f"{name}.roi", data)
    return path


def roi(name: str, props: str = "") -> bytes:
    roifile = pytest.importorskip("roifile", reason="needs roifile (extra: imagej)")
    made = roifile.ImagejRoi.frompoints([[5, 5], [25, 6], [20, 30]], name=name)
    made.props = props
    return bytes(made.tobytes())


def test_damaged_sets_of_rois_are_refused(tmp_path: Path) -> None:
    whole = roi_set(tmp_path / "a.zip", ("1 platelet", roi("1 platelet", "a: b\n"))).read_bytes()
    chance, refused = random.Random(3), 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "a.zip").write_bytes(damaged[: chance.choice([None, -1, len(damaged) // 2])])
        try:
            read_rois(tmp_path / "a.zip")
        except (ValueError, OSError):
            refused += 1
    assert refused > 100


def test_damaged_rois_of_a_sound_set_are_refused(tmp_path: Path) -> None:
    whole = roi("1 platelet", "a: b\n")
    chance, refused = random.Random(4), 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.choice([0, 255, chance.randrange(256)])
        path = roi_set(tmp_path / "a.zip", ("1 platelet", bytes(damaged)))
        try:
            read_rois(path)
        except (ValueError, OSError):
            refused += 1
    assert refused > 10


def test_a_set_with_a_password_is_refused(tmp_path: Path) -> None:
    path = roi_set(tmp_path / "a.zip", ("1 platelet", roi("1 platelet")))
    data = bytearray(path.read_bytes())
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(start) + flags] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="it is no set of ROIs: .*password"):
        read_rois(path)


def test_a_roi_that_tells_its_name_and_no_label_is_called_by_its_name(tmp_path: Path) -> None:
    name = "4 platelet"
    path = roi_set(tmp_path / "a.zip", (name, roi(name, f"cellcount_name: {name}\n")))
    (cell,) = read_rois(path).cells
    assert (cell.number, cell.label) == (4, "platelet")
