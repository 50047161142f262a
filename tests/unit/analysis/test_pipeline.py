"""One image through the pipeline: exact with an engine that knows the answer, whatever happens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cellcount.analysis.fingerprint import fingerprint, thresholds_of
from cellcount.analysis.load import Loaded, load
from cellcount.analysis.pipeline import (
    CAP_CAUTION,
    EMPTY_CAUTION,
    SLIDE_STAIN_CAUTION,
    STAIN_CAUTION,
    Pipeline,
)
from cellcount.analysis.slide_scales import SCALE_CAUTION, SlideScales
from cellcount.core.records import Cells, CellTypes, Detections, ImageRef, ImageResult, Picture
from cellcount.engines.base import EngineOptions
from cellcount.engines.cell_typer import CellTyper
from cellcount.engines.crop_classifier import load_classifier
from cellcount.engines.field_detector import FieldDetector, Found
from cellcount.images.quality import measure_quality
from cellcount.images.source import Field
from cellcount.rendering.field import FieldSpec, render_field
from cellcount.settings import AnalyzeSettings, StainFor
from cellcount.store.changed_settings import Json
from cellcount.store.file_key import key_of
from cellcount.store.journal import Journal

LARGE = 10**9


class Memory:
    def __init__(self) -> None:
        self.values: dict[str, Json] = {}
        self.forgotten: list[str] = []

    def get_value(self, name: str) -> Json:
        return self.values.get(name)

    def set_value(self, name: str, value: Json, forget: Iterable[str] = ()) -> None:
        self.values[name] = value
        self.forgotten += list(forget)


def save(folder: Path, name: str, pixels: NDArray[np.uint8]) -> ImageRef:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return ImageRef(path, name, path.parent.name)


def image_of(result: ImageResult) -> str:
    return result.ref.image


def pipeline_of(
    engine: Any,  # noqa: ANN401 -- a fixture's class
    refs: list[ImageRef],
    settings: AnalyzeSettings | None = None,
    store: Memory | None = None,
    typer: CellTyper | None = None,
) -> Pipeline:
    settings = settings or AnalyzeSettings()
    detector = FieldDetector(engine, settings.tile_px)
    scales = SlideScales(refs, detector, store or Memory(), LARGE)
    return Pipeline(detector, settings, scales, typer)


@pytest.fixture(scope="session")
def typer(disc_engine: Any, colour_weights: Path, classifier_plugins: Path) -> CellTyper:  # noqa: ANN401
    options = EngineOptions("cpu", "fp32", plugin_folder=classifier_plugins)
    return CellTyper(load_classifier(colour_weights, options), disc_engine().card)


@pytest.mark.parametrize("tile_px", [256, 320, 480, 640, 2048])
def test_tile_size_never_changes_counts(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
    tile_px: int,
) -> None:
    field = disc_field(1300, 900, whole=False)
    ref = replace(save(tmp_path, "a.png", field.pixels), um_per_px=7.5 / 64)
    pipeline = pipeline_of(disc_engine(), [ref], AnalyzeSettings(tile_px=tile_px))
    result = pipeline.analyze(load(ref, LARGE))
    assert (result.status, result.reason, result.scale_factor) == ("done", "", 1.0)
    diameter_px = disc_engine().card.rbc_diameter_px
    assert result.quality == measure_quality(field.pixels, 1.0, diameter_px)  # of the whole field
    found = np.bincount(result.cells.detections.labels, minlength=3)
    assert found.tolist() == np.bincount(field.labels, minlength=3).tolist()
    assert len(field.labels) > 150


def test_scale_is_measured_once_a_slide_and_kept(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    """Discs of 32 px before a model of 64 px: twice the size, boxes back in original pixels."""
    refs = [
        save(tmp_path, f"s/{n}.png", disc_field(400, 300, diameters=(31, 33), seed=n).pixels)
        for n in range(3)
    ]
    truth = disc_field(400, 300, diameters=(31, 33), seed=1)
    engine, store = disc_engine(seen=(0.5, 2.0)), Memory()
    pipeline = pipeline_of(engine, refs, store=store)
    result = pipeline.analyze(load(refs[1], LARGE))
    assert result.scale_factor == pytest.approx(2.0, rel=0.05)
    assert result.um_per_px is None  # an estimate is no measurement
    assert len(result.cells) == len(truth.labels)
    assert list(store.values) == ["scale:s"]
    (stored,) = store.values.values()
    assert isinstance(stored, dict)
    assert stored["factor"] == result.scale_factor
    assert list(stored["sample"]) == [ref.image for ref in refs]

    again = pipeline_of(engine, refs[:1], store=store)  # another sample, the same slide
    assert again.analyze(load(refs[0], LARGE)).scale_factor == result.scale_factor


def test_which_image_comes_first_does_not_matter(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    """Neither for the slide's scale, nor for that of fields of another magnification in it."""
    sizes = [20, 26, 32, 38, 44, 50, 56]
    refs = [
        save(tmp_path, f"s/{d}.png", disc_field(400, 300, diameters=(d, d)).pixels) for d in sizes
    ]
    of_slide, of_images = set(), set()
    for turn in range(len(refs)):
        engine, store = disc_engine(seen=(0.5, 2.0)), Memory()
        pipeline = pipeline_of(engine, refs, store=store)
        turned = refs[turn:] + refs[:turn]
        results = sorted((pipeline.analyze(load(r, LARGE)) for r in turned), key=image_of)
        of_images.add(tuple((r.scale_factor, r.reason, len(r.cells)) for r in results))
        of_slide.add(
            SlideScales(refs, FieldDetector(engine), store, LARGE).of(load(refs[0], LARGE))
        )
    assert len(of_slide) == 1
    assert len(of_images) == 1
    assert len({factor for factor, _, _ in of_images.pop()}) > 1


def test_a_slide_without_red_cells_is_analysed_as_it_is_until_it_grows(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    blank = np.full((300, 400, 3), 235, np.uint8)
    ref, store = save(tmp_path, "s/a.png", blank), Memory()
    result = pipeline_of(disc_engine(), [ref], store=store).analyze(load(ref, LARGE))
    assert (result.status, result.scale_factor) == ("done", 1.0)
    assert result.reason == f"{SCALE_CAUTION}; {EMPTY_CAUTION}"
    scales = SlideScales([ref], FieldDetector(disc_engine()), store, LARGE)
    assert scales.refresh() == []  # it was looked at already
    more = save(tmp_path, "s/b.png", disc_field(400, 300, diameters=(31, 33)).pixels)
    engine = disc_engine(seen=(0.5, 2.0))
    assert SlideScales([ref, more], FieldDetector(engine), store, LARGE).refresh() == ["s"]
    assert store.forgotten == ["s/a.png", "s/b.png"]  # all of a slide is treated alike
    grown = pipeline_of(engine, [ref, more], store=store)
    assert grown.analyze(load(ref, LARGE)).scale_factor == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("um_per_px", [7.5 / 64, 7.5 / 32, None])
def test_cells_are_typed_from_the_original_pixels_at_any_scale(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
    typer: CellTyper,
    um_per_px: float | None,
) -> None:
    """Red and blue discs are typed by their colour, the third class is not asked about."""
    diameter = 7.5 / um_per_px if um_per_px else 64
    field = disc_field(900, 700, diameters=(0.9 * diameter, 1.1 * diameter))
    ref = replace(save(tmp_path, "a.png", field.pixels), um_per_px=um_per_px)
    result = pipeline_of(disc_engine(), [ref], typer=typer).analyze(load(ref, LARGE))
    assert (result.status, result.reason) == ("done", "")
    cells, types = result.cells, result.cells.types
    assert types is not None
    assert len(cells) == len(field.labels) > 40
    expected = {0: "neutrophil", 1: "erythroblast", 2: None}
    names = [typer.types[best].id if best >= 0 else None for best in types.best]
    assert names == [expected[label] for label in cells.detections.labels.tolist()]
    assert types.accepted.tolist() == [name is not None for name in names]
    assert (types.prob[types.accepted] > 0.9).all()
    plain = pipeline_of(disc_engine(), [ref]).analyze(load(ref, LARGE))
    assert plain.cells.types is None
    np.testing.assert_array_equal(plain.cells.detections.labels, cells.detections.labels)


def test_a_field_without_a_scale_is_typed_as_it_is_with_its_caution(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    typer: CellTyper,
) -> None:
    engine = disc_engine()
    box = np.array([[40, 40, 104, 104]], np.float32)
    white = Detections(box, np.ones(1, np.float32), np.ones(1, np.int64))
    engine.detect = lambda tiles: [white for _ in tiles]
    pixels = np.full((150, 150, 3), 235, np.uint8)
    pixels[40:104, 40:104] = (90, 60, 170)
    ref = save(tmp_path, "a.png", pixels)
    result = pipeline_of(engine, [ref], typer=typer).analyze(load(ref, LARGE))
    assert (result.reason, result.scale_factor) == (SCALE_CAUTION, 1.0)
    assert result.cells.types is not None
    assert [typer.types[i].id for i in result.cells.types.best] == ["erythroblast"]


def test_an_empty_field_has_no_types_and_a_failing_classifier_fails_one_image(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    typer: CellTyper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blank = np.full((300, 400, 3), 235, np.uint8)
    ref = replace(save(tmp_path, "a.png", blank), um_per_px=7.5 / 64)
    pipeline = pipeline_of(disc_engine(), [ref], typer=typer)
    result = pipeline.analyze(load(ref, LARGE))
    assert result.reason == EMPTY_CAUTION
    assert result.cells.types is not None
    assert len(result.cells.types) == 0

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(CellTyper, "type_cells", fail)
    result = pipeline.analyze(load(ref, LARGE))
    assert (result.status, result.reason) == ("failed", "unexpected MemoryError: no room")
    assert len(result.cells) == 0


def test_given_scale_goes_before_the_files_own(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    ref = save(tmp_path, "a.png", disc_field(300, 200).pixels)
    pipeline = pipeline_of(disc_engine(), [ref])
    source = Field(Picture(disc_field(300, 200).pixels, um_per_px=8.5 / 64))
    own = pipeline.analyze(Loaded(ref, key_of(ref), source))
    assert own.um_per_px == 8.5 / 64
    assert own.scale_factor == pytest.approx(8.5 / 7.5)
    given = replace(ref, um_per_px=7.5 / 64)
    result = pipeline.analyze(Loaded(given, key_of(given), source))
    assert (result.um_per_px, result.scale_factor) == (7.5 / 64, 1.0)


@pytest.mark.parametrize("wanted_by", ["all", "detector", "classifier"])
def test_only_who_is_named_sees_the_dyes_of_the_reference(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    typer: CellTyper,
    monkeypatch: pytest.MonkeyPatch,
    wanted_by: StainFor,
) -> None:
    spec = FieldSpec(320, 240, 4, 24, 0.3)
    ref = replace(save(tmp_path, "a.png", render_field(spec).pixels), um_per_px=7.5 / 64)
    pixels = load(ref, LARGE).picture.pixels  # type: ignore[union-attr]
    seen = dict[str, NDArray[np.uint8]]()
    types = CellTypes.untyped(0)

    def detected(_: object, source: Field, *rest: object) -> Found:
        seen["detector"] = source.picture.pixels
        return Found(Detections.empty(), capped=False)

    def typed(_: object, source: Field, cells: Cells, factor: float) -> CellTypes:
        seen["classifier"] = source.picture.pixels
        return types

    monkeypatch.setattr("cellcount.analysis.checked_scale.detect", detected)
    monkeypatch.setattr(CellTyper, "type_cells", typed)
    settings = AnalyzeSettings(stain_reference="pbc", stain_for=wanted_by)
    result = pipeline_of(disc_engine(), [ref], settings, typer=typer).analyze(load(ref, LARGE))
    assert result.reason == EMPTY_CAUTION
    assert result.quality == measure_quality(pixels, 1.0, disc_engine().card.rbc_diameter_px)
    for model, shown in seen.items():
        is_as_read = bool(np.array_equal(shown, pixels))
        assert is_as_read == (wanted_by not in ("all", model)), model


def test_what_keeps_its_stain_says_why(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    settings = AnalyzeSettings(stain_reference="pbc")
    glass = save(tmp_path, "a.png", np.full((90, 120, 3), 235, np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", disc_field(700, 520).pixels, tile=(128, 128))
    slide = ImageRef(tmp_path / "b.tif", "b", "s")
    for ref, max_pixels, caution in (
        (glass, LARGE, STAIN_CAUTION),
        (slide, 300_000, SLIDE_STAIN_CAUTION),
    ):
        known = replace(ref, um_per_px=7.5 / 64)
        result = pipeline_of(disc_engine(), [known], settings).analyze(load(known, max_pixels))
        assert result.status == "done"
        assert result.reason.endswith(caution)


def test_the_cap_is_a_caution(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    engine = disc_engine()
    engine.card = replace(engine.card, inference=replace(engine.card.inference, max_detections=10))
    ref = replace(save(tmp_path, "a.png", disc_field(512, 400).pixels), um_per_px=7.5 / 64)
    result = pipeline_of(engine, [ref]).analyze(load(ref, LARGE))
    assert (result.status, result.reason) == ("done", CAP_CAUTION)


def test_scores_and_thresholds_meet_in_float32(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
) -> None:
    """0.7 as float64 lies above 0.7 as float32: such a cell must not be lost to rounding."""
    engine = disc_engine()
    score = np.float32(0.7)
    assert float(score) < 0.7
    box = np.array([[10, 10, 40, 40]], np.float32)
    one = Detections(box, np.array([score]), np.zeros(1, np.int64))
    engine.detect = lambda tiles: [one for _ in tiles]
    ref = replace(save(tmp_path, "a.png", np.full((90, 90, 3), 235, np.uint8)), um_per_px=7.5 / 64)
    result = pipeline_of(engine, [ref], AnalyzeSettings(min_score=0.7)).analyze(load(ref, LARGE))
    assert len(result.cells) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA out of memory.\nTried …"), "unexpected RuntimeError: CUDA out of mem"),
        (MemoryError(), "unexpected MemoryError: "),
    ],
)
def test_an_unexpected_error_fails_one_image(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    error: Exception,
    reason: str,
) -> None:
    engine = disc_engine()

    def fail(tiles: object) -> None:
        raise error

    engine.detect = fail
    ref = save(tmp_path, "a.png", np.full((90, 120, 3), 235, np.uint8))
    result = pipeline_of(engine, [ref]).analyze(load(ref, LARGE))
    assert result.status == "failed"
    assert result.reason.startswith(reason)
    assert "\n" not in result.reason
    assert (result.width_px, result.height_px) == (120, 90)


def test_an_interruption_is_no_failed_image(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
) -> None:
    engine = disc_engine()

    def stop(tiles: object) -> None:
        raise KeyboardInterrupt

    engine.detect = stop
    ref = save(tmp_path, "a.png", np.full((90, 120, 3), 235, np.uint8))
    with pytest.raises(KeyboardInterrupt):
        pipeline_of(engine, [ref]).analyze(load(ref, LARGE))


def test_what_cannot_be_read_says_why(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
) -> None:
    ref = save(tmp_path, "a.png", np.zeros((4, 4, 3), np.uint8))
    key = key_of(ref)
    ref.path.write_bytes(b"")
    loaded = load(ref, LARGE)
    assert (loaded.source, loaded.picture, loaded.reason) == (None, None, "empty file")
    assert loaded.file_key == key_of(ref) != key
    result = pipeline_of(disc_engine(), [ref]).analyze(loaded)
    assert (result.status, result.reason, result.scale_factor) == ("failed", "empty file", None)


def test_the_fingerprint_holds_what_decides_the_numbers(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
) -> None:
    detector = FieldDetector(disc_engine())
    base = fingerprint(AnalyzeSettings(), detector, "abc")
    assert base["thresholds"] == dict.fromkeys(("rbc", "wbc", "platelet"), 0.5)
    assert base["batch_size"] == 1  # the engine's, not the 0 that was asked for
    changed = [
        fingerprint(AnalyzeSettings(min_score=0.4), detector, "abc"),
        fingerprint(AnalyzeSettings(edge_rule="two-sides"), detector, "abc"),
        fingerprint(AnalyzeSettings(um_per_px=0.1), detector, "abc"),
        fingerprint(AnalyzeSettings(tile_px=512), detector, "abc"),
        fingerprint(AnalyzeSettings(), detector, "abd"),
        fingerprint(AnalyzeSettings(), detector, "abc", {"sha256": "1", "review_below": 0.5}),
    ]
    assert all(other != base for other in changed)
    with Journal.open(tmp_path / "j.sqlite", base):
        pass  # it is JSON-ready
    assert thresholds_of(detector.engine.card, 0.3) == dict.fromkeys(
        ("rbc", "wbc", "platelet"), 0.3
    )
