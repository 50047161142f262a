"""The scale of one image: what is known goes first, what is measured is the slide's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount.analysis.load import Loaded, load, load_whole
from cellcount.analysis.slide_scales import SCALE_CAUTION, Scale, ScalesInMemory, SlideScales
from cellcount.core.records import ImageRef, Picture
from cellcount.engines.field_detector import FieldDetector
from cellcount.images.source import Field
from cellcount.store.file_key import key_of

LARGE = 10**9


@pytest.fixture
def ref(tmp_path: Path, disc_field: Any) -> ImageRef:  # noqa: ANN401 -- a fixture's class
    """Discs of 32 px; the model knows 64."""
    Image.fromarray(disc_field(400, 300, diameters=(31, 33)).pixels).save(tmp_path / "a.png")
    return ImageRef(tmp_path / "a.png", "a", "s")


def scales_of(ref: ImageRef, engine: Any) -> tuple[SlideScales, ScalesInMemory]:  # noqa: ANN401
    store = ScalesInMemory()
    return SlideScales([ref], FieldDetector(engine), store, LARGE), store


def test_a_known_scale_is_not_measured(ref: ImageRef, disc_engine: Any) -> None:  # noqa: ANN401
    engine = disc_engine(seen=(0.5, 2.0))
    given = replace(ref, um_per_px=7.5 / 64)
    scales, store = scales_of(given, engine)
    assert scales.of(load(given, LARGE)) == Scale(1.0, 7.5 / 64, origin="given")
    source = Field(Picture(np.zeros((30, 40, 3), np.uint8), um_per_px=7.5 / 32))
    assert scales.of(Loaded(ref, key_of(ref), source)) == Scale(2.0, 7.5 / 32, origin="file")
    assert scales.of(Loaded(given, key_of(given), source)) == Scale(1.0, 7.5 / 64, origin="given")
    assert (engine.calls, store.values) == ([], {})


def test_a_measured_scale_is_no_um_per_px(ref: ImageRef, disc_engine: Any) -> None:  # noqa: ANN401
    scales, store = scales_of(ref, disc_engine(seen=(0.5, 2.0)))
    scale = scales.of(load(ref, LARGE))
    assert scale.factor == pytest.approx(2.0, rel=0.05)
    assert (scale.um_per_px, scale.caution) == (None, "")
    assert scales.known() == store.values
    assert list(store.values) == ["scale:s"]


def test_images_of_one_slide_that_ask_at_once_measure_it_once(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    refs = []
    for number in range(8):
        field = disc_field(400, 300, diameters=(31, 33), seed=number)
        Image.fromarray(field.pixels).save(tmp_path / f"{number}.png")
        refs.append(ImageRef(tmp_path / f"{number}.png", str(number), "s"))

    def calls_of(threads: int) -> tuple[int, set[float], Any]:
        engine, store = disc_engine(seen=(0.5, 2.0)), ScalesInMemory()
        scales = SlideScales(refs, FieldDetector(engine), store, LARGE)
        loaded = [load(ref, LARGE) for ref in refs]
        with ThreadPoolExecutor(threads) as pool:
            factors = {scale.factor for scale in pool.map(scales.of, loaded)}
        return len(engine.calls), factors, store.values

    one, many = calls_of(1), calls_of(8)
    assert one == many
    assert len(one[1]) == 1


def test_without_red_cells_the_scale_is_one_with_a_caution(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
) -> None:
    Image.new("RGB", (120, 90), (235, 235, 235)).save(tmp_path / "a.png")
    ref = ImageRef(tmp_path / "a.png", "a", "s")
    scales, _ = scales_of(ref, disc_engine())
    assert scales.of(load(ref, LARGE)) == Scale(1.0, None, SCALE_CAUTION, "unknown")


def test_a_slide_whose_samples_cannot_be_read_has_no_scale(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    """Its header is whole, so it is opened; its pixels are cut off."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, disc_field(700, 520).pixels, photometric="rgb", tile=(128, 128))
    ref = ImageRef(path, "a", "s")
    loaded = load(ref, 300_000)
    assert loaded.picture is None
    assert loaded.source is not None
    path.write_bytes(path.read_bytes()[:2_000])
    scales, _ = scales_of(ref, disc_engine())
    assert scales.of(loaded).caution == SCALE_CAUTION


def test_whole_or_by_windows_as_it_is_asked_for(
    tmp_path: Path,
    disc_field: Any,  # noqa: ANN401
) -> None:
    path, pixels = tmp_path / "a.tif", disc_field(700, 520).pixels
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128))
    ref = ImageRef(path, "a", "s")
    assert load(ref, 300_000).picture is None
    refused = load_whole(ref, 300_000)
    assert (refused.source, refused.reason.partition(";")[0]) == (
        None,
        "image has 364000 pixels (700 x 520), the limit is 300000",
    )
    picture = load_whole(ref, LARGE).picture
    assert picture is not None
    np.testing.assert_array_equal(picture.pixels, pixels)
