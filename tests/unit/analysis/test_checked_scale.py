"""A scale is held against the red cells that are found, and gives way where it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellcount.analysis.checked_scale import Checked, CheckedDetector
from cellcount.analysis.load import Loaded, load
from cellcount.analysis.slide_scales import ScalesInMemory, SlideScales
from cellcount.core.records import ImageRef, Picture
from cellcount.engines.field_detector import FieldDetector
from cellcount.engines.source_detector import detect
from cellcount.images.source import Field
from cellcount.store.file_key import key_of

LARGE = 10**9
SEEN = (0.45, 2.2)  # of the model's 64 px: what the detector finds at all
Engine = Any  # a fixture's class
#: µm/px at which discs of 32 px are red cells of a smear.
RIGHT = 7.5 / 32


@pytest.fixture
def slide(tmp_path: Path, disc_field: Any) -> Callable[..., list[Loaded]]:  # noqa: ANN401
    """Fields of discs of given diameters as one slide; ``um_per_px`` stands in their files."""

    def make(*diameters: float, um_per_px: float | None = None) -> list[Loaded]:
        loaded = []
        for number, diameter in enumerate(diameters):
            path = tmp_path / f"{number}.tif"
            pixels = np.full((300, 400, 3), 235, np.uint8)
            if diameter:
                sizes = (0.95 * diameter, 1.05 * diameter)
                pixels = disc_field(400, 300, diameters=sizes, kinds=1).pixels
            scale = None if um_per_px is None else (1e4 / um_per_px, 1e4 / um_per_px)
            tifffile.imwrite(path, pixels, photometric="rgb", resolutionunit=3, resolution=scale)
            loaded.append(load(ImageRef(path, path.name, "s"), LARGE))
        return loaded

    return make


def checked(engine: Engine, loaded: list[Loaded], which: int = 0) -> Checked:
    detector = FieldDetector(engine)
    scales = SlideScales([one.ref for one in loaded], detector, ScalesInMemory(), LARGE)
    source = loaded[which].source
    assert source is not None
    return CheckedDetector(detector, scales, lambda share: None).detect(loaded[which], source)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Scale factors of the passes over whole images, in their order."""
    factors: list[float] = []

    def counted(detector: Any, source: Any, factor: float, tell: Any) -> Any:  # noqa: ANN401
        factors.append(factor)
        return detect(detector, source, factor, tell)

    monkeypatch.setattr("cellcount.analysis.checked_scale.detect", counted)
    return factors


@pytest.mark.parametrize("wrong", [1 / 16, 0.3, 0.6, 1.7, 3, 10])
def test_a_scale_of_the_file_gives_way_to_red_cells(
    slide: Callable[..., list[Loaded]], disc_engine: Engine, wrong: float
) -> None:
    found = checked(disc_engine(seen=SEEN), slide(32, um_per_px=wrong * RIGHT))
    assert found.scale.factor == pytest.approx(2.0, rel=0.1)
    assert found.scale.um_per_px is None
    assert f"the file says {wrong * RIGHT:.3g} µm/px" in found.scale.caution
    assert "tell about 0.2" in found.scale.caution
    assert len(found.found.detections) == len(
        checked(disc_engine(seen=SEEN), slide(32, um_per_px=RIGHT)).found.detections
    )


@pytest.mark.parametrize("other", [0.75, 1.0, 1.35])
def test_the_size_of_a_patients_red_cells_contradicts_nothing(
    slide: Callable[..., list[Loaded]], disc_engine: Engine, other: float
) -> None:
    engine = disc_engine(seen=SEEN)
    found = checked(engine, slide(32, um_per_px=other * RIGHT))
    assert found.scale.um_per_px == pytest.approx(other * RIGHT)
    assert found.scale.caution == ""
    assert len(engine.calls) == 1  # no pass beside that which counts


def test_a_given_scale_stays_and_is_cautioned(
    slide: Callable[..., list[Loaded]], disc_engine: Engine
) -> None:
    (loaded,) = slide(32, um_per_px=RIGHT)
    given = replace(loaded, ref=replace(loaded.ref, um_per_px=RIGHT / 2))
    found = checked(disc_engine(seen=SEEN), [given])
    assert (found.scale.factor, found.scale.um_per_px) == (1.0, RIGHT / 2)
    assert f"the given scale is {RIGHT / 2:.3g} µm/px" in found.scale.caution


def test_a_field_without_red_cells_follows_its_slide_rather_than_its_file(
    slide: Callable[..., list[Loaded]], disc_engine: Engine
) -> None:
    loaded = slide(32, 0, 32, um_per_px=10 * RIGHT)
    blank = checked(disc_engine(seen=SEEN), loaded, 1).scale
    assert blank.factor == pytest.approx(2.0, rel=0.1)
    assert "the red cells of its slide tell" in blank.caution
    alone = checked(disc_engine(seen=SEEN), slide(0, um_per_px=RIGHT)).scale
    assert alone.um_per_px == pytest.approx(RIGHT)
    assert alone.caution == ""


@pytest.mark.parametrize("diameter", [14, 18, 22, 44, 58])
def test_a_field_of_another_magnification_is_measured_at_its_own(
    slide: Callable[..., list[Loaded]], disc_engine: Engine, diameter: float
) -> None:
    loaded = slide(32, 32, 32, diameter)
    found = checked(disc_engine(seen=SEEN), loaded, 3)
    assert found.scale.factor == pytest.approx(64 / diameter, rel=0.2)
    told = float(found.scale.caution.split()[4])
    assert told == pytest.approx(diameter / 32, rel=0.1)
    assert "those of its slide" in found.scale.caution
    assert checked(disc_engine(seen=SEEN), loaded, 0).scale.caution == ""


def test_a_field_without_red_cells_that_would_be_huge_is_looked_at_once(
    slide: Callable[..., list[Loaded]], disc_engine: Engine, passes: list[float]
) -> None:
    loaded = slide(32, 0, 32, um_per_px=10 * RIGHT)
    checked(disc_engine(seen=SEEN), loaded, 1)
    assert passes == [pytest.approx(2.0, rel=0.1)]


@pytest.mark.parametrize("um_per_px", [None, 2.4 * RIGHT])
def test_a_large_field_is_never_looked_at_in_a_scale_that_its_red_cells_contradict(
    slide: Callable[..., list[Loaded]],
    disc_engine: Engine,
    passes: list[float],
    monkeypatch: pytest.MonkeyPatch,
    um_per_px: float | None,
) -> None:
    monkeypatch.setattr("cellcount.analysis.checked_scale._LARGE_PX", 500)
    loaded = slide(32, 32, 32, 58, um_per_px=um_per_px)
    found = checked(disc_engine(seen=SEEN), loaded, 3)
    assert found.scale.factor == pytest.approx(64 / 58, rel=0.2)
    assert passes == [found.scale.factor]


def test_fields_like_their_slide_cost_no_pass_more(
    slide: Callable[..., list[Loaded]], disc_engine: Engine
) -> None:
    loaded = slide(32, 30, 34)
    detector = FieldDetector(disc_engine(seen=SEEN))
    scales = SlideScales([one.ref for one in loaded], detector, ScalesInMemory(), LARGE)
    scales.of(loaded[0])
    engine: Engine = detector.engine
    engine.calls.clear()
    for one in loaded:
        assert one.source is not None
        CheckedDetector(detector, scales, lambda share: None).detect(one, one.source)
    assert len(engine.calls) == len(loaded)


def test_cells_that_are_not_found_again_at_their_own_scale_change_nothing(
    slide: Callable[..., list[Loaded]],
    disc_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "cellcount.analysis.checked_scale.red_cell_diameter_px", lambda engine, pixels: 300.0
    )
    loaded = slide(32, 32, 0)
    found = checked(disc_engine(seen=SEEN), loaded, 2)
    assert found.scale.factor == pytest.approx(2.0, rel=0.1)
    assert found.scale.caution == ""


def test_a_scan_is_asked_before_it_is_looked_at(
    tmp_path: Path,
    disc_engine: Engine,
    disc_field: Any,  # noqa: ANN401
) -> None:
    path = tmp_path / "scan.tif"
    pixels = disc_field(700, 520, diameters=(31, 33)).pixels
    scale = (1e4 / (10 * RIGHT),) * 2
    tifffile.imwrite(
        path, pixels, photometric="rgb", tile=(128, 128), resolution=scale, resolutionunit=3
    )
    loaded = load(ImageRef(path, path.name, "s"), 300_000)
    assert loaded.picture is None
    told = list[float]()
    detector = FieldDetector(disc_engine(seen=SEEN))
    scales = SlideScales([loaded.ref], detector, ScalesInMemory(), 300_000)
    assert loaded.source is not None
    found = CheckedDetector(detector, scales, told.append).detect(loaded, loaded.source)
    assert found.scale.factor == pytest.approx(2.0, rel=0.1)
    assert "the file says" in found.scale.caution
    assert told.count(0.0) == 1  # one pass over the scan


def test_platelets_taken_for_red_cells_do_not_bear_out_a_scale(
    slide: Callable[..., list[Loaded]], disc_engine: Engine
) -> None:
    """More white than red cells: what a detector sees in a picture several times too large."""
    (loaded,) = slide(32, um_per_px=RIGHT)
    assert loaded.picture is not None
    engine = disc_engine(seen=SEEN)
    find = engine.find

    def mostly_white(tile: Any) -> Any:  # noqa: ANN401
        found = find(tile)
        found.labels[: 3 * len(found) // 4] = 1
        return found

    engine.find = mostly_white
    source = Field(Picture(loaded.picture.pixels, RIGHT))
    found = checked(engine, [Loaded(loaded.ref, key_of(loaded.ref), source)])
    assert len(engine.calls) > 1  # it was sought, and found to be right
    assert found.scale.um_per_px == RIGHT
