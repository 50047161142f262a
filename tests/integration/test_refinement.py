"""The second look from the command line: how often, and where to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount import cli
from cellcount.core.blood import BLOOD_CLASSES
from cellcount.core.records import LabelledImage
from cellcount.datasets.writers import write_coco
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.explain.attention_maps import attention_at
from cellcount.explain.picture import AttentionTrace, draw_attention

Run = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, str]]]
FIELD = Path("slides/a/1.png")


def boxes_of(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    sides = ("x_min_px", "y_min_px", "x_max_px", "y_max_px", "score")
    return [tuple(row[side] for side in sides) for row in rows]


def settings_of(out: str) -> dict[str, object]:
    settings: dict[str, object] = json.loads(Path(out).read_text())["settings"]
    return settings


def test_steps_are_the_cards_unless_named_and_none_is_the_first_look(
    slides: Path, run: Run, rows: Rows, toy: str, looking_weights: Path
) -> None:
    found = {}
    for name, weights, more in (
        ("plain", toy, []),
        ("off", looking_weights, ["--refine-steps", 0]),
        ("one", looking_weights, ["--refine-steps", 1]),
        ("two", looking_weights, ["--refine-steps", 2]),
        ("card", looking_weights, []),
    ):
        outputs = ["--out", f"{name}.csv", "--cells", f"{name}-cells.csv"]
        code, _, err = run(slides / "a", *outputs, *more, detector=str(weights))
        assert code == 0, err
        found[name] = boxes_of(rows(f"{name}-cells.csv"))
    assert found["off"] == found["plain"]
    assert found["card"] == found["two"]
    assert found["one"] != found["two"] != found["plain"]
    steps = {name: settings_of(f"{name}.run.json")["refine_steps"] for name in found}
    assert steps == {"plain": 0, "off": 0, "one": 1, "two": 2, "card": 2}


def test_an_output_goes_on_with_as_many_looks_alone(
    slides: Path, run: Run, looking_weights: Path
) -> None:
    def again(*more: object) -> tuple[int, str, str]:
        return run(slides / "a", "--out", "c.csv", *map(str, more), detector=str(looking_weights))

    assert again()[0] == 0
    _, _, err = again("--refine-steps", 2)
    assert "refine_steps" not in err, "two is what the card says"
    assert "done before" in err
    code, _, err = again("--refine-steps", 0)
    assert code == 0
    assert "refine_steps" in err
    assert "done before" not in err


def test_a_model_without_a_second_look_cannot_take_one(slides: Path, run: Run) -> None:
    assert run(slides / "a", "--out", "off.csv", "--refine-steps", "0")[0] == 0
    code, _, err = run(slides / "a", "--out", "c.csv", "--refine-steps", "2")
    assert code == 2
    assert "has learned no second look" in err
    assert run(slides / "a", "--out", "c.csv", "--refine-steps", "-1")[0] == 2


def test_evaluate_says_how_often_it_looked(
    slides: Path,
    rendered: dict[str, object],
    looking_weights: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    field = rendered["a/1.png"]
    image = LabelledImage(FIELD, field.boxes_xyxy, field.labels, 160, 120)  # type: ignore[attr-defined]
    write_coco(slides / "a" / "truth.json", [image], BLOOD_CLASSES)
    reports = {}
    for steps in (None, "0"):
        out = tmp_path / f"{steps}.json"
        more = [] if steps is None else ["--refine-steps", steps]
        line = ["evaluate", "detector", str(slides / "a"), "--detector", str(looking_weights)]
        assert cli.main([*line, "--json", str(out), *more]) == 0, capfd.readouterr().err
        reports[steps] = json.loads(out.read_text())
    assert reports[None]["refine_steps"] == 2
    assert reports["0"]["refine_steps"] == 0
    assert reports[None]["reports"] != reports["0"]["reports"]


def explained(*arguments: object) -> int:
    return cli.main(["models", "explain", *map(str, arguments)])


def test_the_boxes_drawn_are_those_of_the_tables(
    slides: Path, run: Run, rows: Rows, looking_weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(FIELD, "--out", "c.csv", "--cells", "l.csv", detector=str(looking_weights))
    assert code == 0, err
    cells = rows("l.csv")
    assert len(cells) > 3
    assert explained(FIELD, "--cell", 2, "--detector", looking_weights, "--out", "two.png") == 0
    assert f"cell 2 of 1.png: {'red cell'}" in capfd.readouterr().out
    with Image.open("two.png") as picture:
        assert picture.width > 3 * 380
    factor = float(rows("c.csv")[0]["scale_factor"])
    detector = FieldDetector(load_engine("auto", looking_weights, EngineOptions("cpu")))
    pixels = np.asarray(Image.open(FIELD).convert("RGB"))
    for cell in cells:
        sides = ("x_min_px", "y_min_px", "x_max_px", "y_max_px")
        box = np.array([float(cell[side]) for side in sides], np.float32)
        trace = attention_at(detector, pixels, factor, box)
        ends = np.clip(trace.boxes_xyxy[-1], 0, [160, 120, 160, 120])
        assert ends == pytest.approx(box, abs=0.02)
        assert np.abs(trace.boxes_xyxy[1:] - trace.boxes_xyxy[:-1]).max(axis=1).min() > 1e-3
        np.testing.assert_allclose(trace.weights.sum(axis=2), 1, atol=1e-5)
        # The window is half as large again as the box that it was put around.
        start = trace.boxes_xyxy[0]
        middle = (start[:2] + start[2:]) / 2
        assert trace.places_xy.mean(axis=0) == pytest.approx(middle, abs=0.01)
        width = trace.place_px[0] * 6
        assert width == pytest.approx(1.5 * (start[2] - start[0]), rel=0.01)


def test_large_fields_are_looked_at_tile_by_tile(looking_weights: Path, rendered: object) -> None:
    pixels = np.concatenate([rendered["a/1.png"].pixels] * 4, axis=1)  # type: ignore[index]
    detector = FieldDetector(load_engine("auto", looking_weights, EngineOptions("cpu")), 256)
    assert len(detector.tiles_of(pixels, 1.0)[1]) > 1
    found = detector.detect(pixels, 1.0).detections
    sure = found.boxes_xyxy[found.scores > 0.5]
    assert len(sure) > 8
    for box in sure:
        end = np.clip(attention_at(detector, pixels, 1.0, box).boxes_xyxy[-1], 0, [640, 120] * 2)
        assert end == pytest.approx(box, abs=1.0)


def test_what_cannot_be_explained_is_said(
    slides: Path, toy: str, looking_weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    looking, out = ("--detector", looking_weights), ("--out", "x.png")
    assert explained(FIELD, "--cell", 1, "--detector", toy, *out) == 2
    assert "looks at every cell once" in capfd.readouterr().err
    for number in (0, 999):
        assert explained(FIELD, "--cell", number, *looking, *out) == 2
        assert f"--cell is {number}, but 1.png has" in capfd.readouterr().err
    assert explained(slides, "--cell", 1, *looking, *out) == 2
    assert "holds 5 images, expected one" in capfd.readouterr().err
    FIELD.write_bytes(b"no image")
    assert explained(FIELD, "--cell", 1, *looking, *out) == 3
    assert not Path("x.png").exists()


def test_what_was_looked_at_is_yellow_and_what_was_not_is_grey() -> None:
    pixels = np.full((60, 60, 3), (200, 120, 160), np.uint8)
    places = np.array([[x, y] for y in (15.0, 25, 35, 45) for x in (15.0, 25, 35, 45)])
    weights = np.zeros((1, 2, 16))
    weights[0, :, 5] = 1  # the place around (25, 25)
    boxes = np.array([[12.0, 12, 48, 48], [14, 14, 46, 46]])
    page = draw_attention(pixels, AttentionTrace(boxes, weights, places, (10, 10)), "a cell")
    zoom, left = 380 / 40, 8 + 380 + 8
    at = {
        place: page.getpixel(
            (round(left + (place[0] - 10) * zoom), round(8 + (place[1] - 10) * zoom))
        )
        for place in ((25, 25), (35, 35))
    }
    red, green, blue = at[25, 25]  # type: ignore[misc]
    assert min(red, green) > blue + 100
    red, green, blue = at[35, 35]  # type: ignore[misc]
    assert red == green == blue
