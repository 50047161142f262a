"""GeoJSON, YOLO and VOC of results: complete, stable, and read back by our own readers."""

from __future__ import annotations

import json
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount.core.records import CellClass, CellTypes, ImageResult
from cellcount.datasets.annotations import read_annotations
from cellcount.outputs.geojson_export import write_geojson
from cellcount.outputs.voc_export import write_voc_annotations
from cellcount.outputs.yolo_export import write_yolo_labels
from tests.unit.run_content import content_of

MakeResult = Callable[..., ImageResult]


@pytest.fixture
def typed(make_result: MakeResult, said: CellTypes) -> ImageResult:
    result = make_result("s 1/a.png", 5)
    return replace(result, cells=replace(result.cells, types=said))


def test_geojson_of_every_cell(
    tmp_path: Path, blood: list[CellClass], types: list[CellClass], typed: ImageResult
) -> None:
    write_geojson(tmp_path, content_of([typed], blood, types))
    path = tmp_path / "s 1" / "a.png.geojson"
    document = json.loads(path.read_text("utf-8"))
    assert document["type"] == "FeatureCollection"
    features = document["features"]
    names = [f["properties"]["classification"]["name"] for f in features]
    # Labels go round rbc, wbc, platelet; said: untyped, sure, unsure, sure, sure.
    unsure = "platelet (unclassified)"
    assert names == ["red cell", "neutrophil", unsure, "band cell", "neutrophil"]
    for feature, box in zip(features, typed.cells.detections.boxes_xyxy.tolist(), strict=True):
        assert feature["type"] == "Feature"
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        corners = np.array(ring)
        found = [*corners.min(axis=0), *corners.max(axis=0)]
        assert found == pytest.approx(box, abs=0.006)
        assert feature["properties"]["objectType"] == "detection"
        assert all(0 <= c <= 255 for c in feature["properties"]["classification"]["color"])
        uuid.UUID(feature["id"])
    assert len({f["id"] for f in features}) == 5
    assert features[1]["properties"]["measurements"]["type_prob"] == pytest.approx(0.9)
    assert "type_prob" not in features[0]["properties"]["measurements"]
    before = path.read_bytes()
    write_geojson(tmp_path, content_of([typed], blood, types))
    assert path.read_bytes() == before


def test_a_failed_image_has_no_file_any_more(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    result = make_result("a.png", 2)
    failed = replace(result, status="failed", reason="broken")
    for state in (result, failed):
        write_geojson(tmp_path / "g", content_of([state], blood))
        write_yolo_labels(tmp_path / "y", content_of([state], blood))
        write_voc_annotations(tmp_path / "v", content_of([state], blood))
        there = state.status == "done"
        assert (tmp_path / "g" / "a.png.geojson").exists() is there
        assert (tmp_path / "y" / "labels" / "a.txt").exists() is there
        assert (tmp_path / "v" / "Annotations" / "a.xml").exists() is there


def test_no_cells_are_an_empty_file(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    empty = make_result("a.png", 0)
    write_geojson(tmp_path, content_of([empty], blood))
    assert json.loads((tmp_path / "a.png.geojson").read_text())["features"] == []
    write_yolo_labels(tmp_path, content_of([empty], blood))
    assert (tmp_path / "labels" / "a.txt").read_text() == ""


def test_every_form_tells_the_profile(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    one, profile = make_result("a.png", 1), "mär\udcffrow: 1.0 (forced)"
    write_geojson(tmp_path, content_of([one], blood, (), profile))
    write_yolo_labels(tmp_path, content_of([one], blood, (), profile))
    write_voc_annotations(tmp_path, content_of([one], blood, (), profile))
    document = json.loads((tmp_path / "a.png.geojson").read_text("utf-8"))
    assert (document["profile"], len(document["features"])) == (profile, 1)
    lines = (tmp_path / "data.yaml").read_text("utf-8").splitlines()
    assert lines[2].startswith("profile: ")
    assert json.loads(lines[2].partition(": ")[2]) == profile
    root = ET.parse(tmp_path / "Annotations" / "a.xml").getroot()
    source = "cellcount, profile mär\\udcffrow: 1.0 (forced)"
    assert root.findtext("source/annotation") == source


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_our_own_reader_finds_the_same_boxes(
    tmp_path: Path,
    blood: list[CellClass],
    types: list[CellClass],
    typed: ImageResult,
    make_result: MakeResult,
    form: str,
) -> None:
    results = [typed, make_result("s 1/b.png", 3), make_result("c.png", 0)]
    write = write_yolo_labels if form == "yolo" else write_voc_annotations
    write(tmp_path, content_of(results, blood, types, "blood 1.0"))
    images = tmp_path / ("images" if form == "yolo" else "JPEGImages")
    for result in results:
        path = images / result.ref.image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 480)).save(path)
    read = {image.path.name: image for image in read_annotations(tmp_path, format=form).images}
    assert sorted(read) == ["a.png", "b.png", "c.png"]
    for result in results:
        image = read[Path(result.ref.image).name]
        expected = np.clip(result.cells.detections.boxes_xyxy, 0, [640, 480, 640, 480])
        np.testing.assert_allclose(image.boxes_xyxy, expected, atol=1e-3)
    assert read["a.png"].labels == ("rbc", "neutrophil", "platelet", "band_cell", "neutrophil")


def test_images_that_share_a_stem_keep_their_suffix(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    results = [make_result(n, 1) for n in ("a.png", "A.jpg", "b.tif", "c.tif#page=2", "d.1.png")]
    write_yolo_labels(tmp_path, content_of(results, blood))
    names = sorted(path.name for path in (tmp_path / "labels").iterdir())
    assert names == ["A.jpg.txt", "a.png.txt", "b.txt", "c.tif#page=2.txt", "d.1.txt"]
