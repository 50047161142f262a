"""Too little memory on the device: batches halve, then tiles, then the image fails and says why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from cellcount.core.records import Detections, ImageRef
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.devices import in_batches, is_out_of_memory
from cellcount.engines.field_detector import FieldDetector
from cellcount.engines.slide_detector import detect_on_slide
from cellcount.errors import DeviceMemoryError
from cellcount.images.whole_slide import open_whole_slide

CPU = torch.device("cpu")


def room_for(most: int, seen: list[tuple[int, int]]) -> Any:  # noqa: ANN401 -- a plain function
    """Doubles numbers, of at most so many at once."""

    def compute(items: Sequence[int], size: int) -> list[int]:
        seen.append((len(items), size))
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [2 * item for item in items]

    return compute


@pytest.mark.parametrize("most", [1, 2, 3, 4, 8, 9])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 20])
def test_batches_halve_until_they_fit_and_lose_nothing(most: int, count: int) -> None:
    seen: list[tuple[int, int]] = []
    items = list(range(count))
    assert in_batches(items, 8, room_for(most, seen), CPU) == [2 * item for item in items]
    assert all(items <= size <= 8 for items, size in seen)


def test_a_single_item_that_does_not_fit_is_told() -> None:
    with pytest.raises(DeviceMemoryError, match="cpu has too little memory"):
        in_batches([1, 2, 3], 4, room_for(0, []), CPU)


def test_other_errors_are_not_taken_for_it() -> None:
    def broken(items: Sequence[int], size: int) -> list[int]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        in_batches([1], 1, broken, CPU)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(ValueError("not enough memory"))


def test_what_torch_raises_without_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_real_detector_finds_the_same_in_half_batches(tiny_weights: Path) -> None:
    engine: Any = load_engine("torchvision", tiny_weights, EngineOptions("cpu", batch_size=4))
    tiles = [np.random.default_rng(n).integers(0, 255, (96, 96, 3), np.uint8) for n in range(5)]
    whole = engine.detect(tiles)
    batches = []

    def at_most_two(module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        batches.append(len(inputs[0]))
        if batches[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    engine._model.trunk.register_forward_pre_hook(at_most_two)
    halved = engine.detect(tiles)
    assert sorted(batches) == [2, 2, 2, 4, 4]  # batches are computed side by side
    for one, other in zip(whole, halved, strict=True):
        assert len(one) == len(other) > 0
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.05)


def small_device(engine: Any, most_px: int) -> list[int]:  # noqa: ANN401 -- a fixture's class
    """Lets the engine refuse larger tiles; gives the longest side of each that it saw."""
    detect, seen = engine.detect, []

    def refusing(tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        seen.append(max(max(tile.shape[:2]) for tile in tiles))
        if seen[-1] > most_px:
            raise DeviceMemoryError("cuda has too little memory")
        found: list[Detections] = detect(tiles)
        return found

    engine.detect = refusing
    return seen


def test_tiles_halve_with_the_same_cells(disc_engine: Any, disc_field: Any) -> None:  # noqa: ANN401
    field = disc_field(1300, 900, whole=False)
    engine = disc_engine()
    whole = FieldDetector(engine, 1024).detect(field.pixels, 1.0)
    assert whole.short_of_memory == 0
    seen = small_device(engine, 600)
    found = FieldDetector(engine, 1024).detect(field.pixels, 1.0)
    assert found.short_of_memory == 512
    assert max(seen[1:]) <= 512
    assert sorted(found.detections.labels) == sorted(whole.detections.labels)


def test_a_scan_is_looked_at_in_smaller_tiles_too(
    tmp_path: Path,
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    field, engine = disc_field(1300, 900, whole=False), disc_engine()
    tifffile.imwrite(tmp_path / "a.tif", field.pixels, photometric="rgb", tile=(128, 128))
    slide = open_whole_slide(ImageRef(tmp_path / "a.tif", "a", "s"), max_pixels=1_000_000)
    assert slide is not None
    seen = small_device(engine, 600)
    found = detect_on_slide(FieldDetector(engine, 1024), slide, 1.0, None)
    assert (seen[0], found.short_of_memory) == (1024, 512)
    assert sorted(found.detections.labels) == sorted(field.labels)


def test_the_smallest_tile_that_does_not_fit_fails_the_image(
    disc_engine: Any,  # noqa: ANN401
    disc_field: Any,  # noqa: ANN401
) -> None:
    engine = disc_engine()
    small_device(engine, 100)
    with pytest.raises(DeviceMemoryError, match=r"too little memory, even for one tile of 256 px"):
        FieldDetector(engine, 1024).detect(disc_field(1300, 900).pixels, 1.0)
