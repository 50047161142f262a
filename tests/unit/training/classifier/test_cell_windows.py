"""Training items depend on seed, epoch and cell alone, and show what analysis would show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from cellcount.datasets.crop_set import LabelledCrop
from cellcount.engines.cell_typer import field_crops
from cellcount.engines.classifier_input import prepare_picture
from cellcount.errors import AnnotationError, ImageError
from cellcount.models.classifier_card import (
    ClassifierCard,
    ClassifierPreprocessing,
    CropRule,
    types_of,
)
from cellcount.models.taxonomy import load_taxonomy
from cellcount.training.classifier import cell_windows
from cellcount.training.classifier.cell_windows import (
    CropDataset,
    CropWindow,
    PlacedCell,
    placed_cells,
)
from cellcount.training.classifier.sampling import Draw
from cellcount.training.classifier.window_augment import CROP_AUGMENTS

LOOK = CropWindow((32, 32), window_rbc=2.0, rbc_px=20.0)


def card(look: CropWindow) -> ClassifierCard:
    return ClassifierCard(
        name="c",
        version="1",
        types=types_of(load_taxonomy("wbc-5")),
        taxonomy="wbc-5",
        license="MIT",
        crop=CropRule(look.window_rbc, look.rbc_px, look.contour),
        preprocessing=ClassifierPreprocessing(look.input_px, white_balance=look.white_balance),
    )


@pytest.fixture
def items(tmp_path: Path) -> list[LabelledCrop]:
    """Four single cells on yellowish glass, each of its own darkness."""
    made = []
    rows, columns = np.mgrid[:60, :72]
    for number in range(4):
        pixels = np.empty((60, 72, 3))
        pixels[:] = (230, 225, 190)
        inside = np.hypot(rows - 29.5, columns - 35.5) < 14
        pixels[inside] = (150 - 20 * number, 70, 150)
        pixels += np.random.default_rng(number).normal(0, 3, pixels.shape)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        made.append(LabelledCrop(path, "monocyte"))
    return made


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    "look",
    [
        LOOK,
        CropWindow((32, 32), window_rbc=0.0),
        CropWindow((32, 32), window_rbc=0.0, contour=True),
        CropWindow((24, 24), window_rbc=2.0, rbc_px=20.0, white_balance=False),
    ],
)
def test_single_cells_are_seen_as_classify_sees_them(
    items: list[LabelledCrop], look: CropWindow
) -> None:
    """In training by resampling in torch, so all but equal."""
    dataset = CropDataset(items, [0] * 4, look, seed=0)
    for index, item in enumerate(items):
        expected = prepare_picture(pixels_of(item.path), card(look)).astype(int)
        (cell,) = placed_cells([item], look)
        assert isinstance(cell, PlacedCell)
        np.testing.assert_array_equal(cell.crop(look.input_px), expected)
        image, label = dataset[index]
        assert label == 0
        assert np.abs(image.permute(1, 2, 0).numpy() - expected).mean() < 3


def test_boxes_are_seen_as_analyze_sees_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(100, 250, (80, 120, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "field.png")
    boxes = np.array([[5, 5, 25, 31], [70, 40, 118, 78]], np.float32)
    cells = [
        LabelledCrop(tmp_path / "field.png", "monocyte", box_xyxy=(b[0], b[1], b[2], b[3]))
        for b in boxes.tolist()
    ]
    expected = field_crops(pixels, boxes, card(LOOK), 40.0)
    for cell, crop in zip(placed_cells(cells, LOOK), expected, strict=True):
        assert isinstance(cell, PlacedCell)
        np.testing.assert_array_equal(cell.crop((32, 32)), crop)
    own = CropWindow((32, 32), window_rbc=0.0)
    (small, large) = placed_cells(cells, own)
    assert isinstance(small, PlacedCell)
    assert isinstance(large, PlacedCell)
    assert (small.side_px, large.side_px) == (26.0, 48.0)
    with pytest.raises(AnnotationError, match="the size of red cells; state it in pixels with"):
        list(placed_cells(cells, CropWindow((32, 32), window_rbc=2.0)))


def test_an_item_is_decided_by_seed_epoch_cell_and_copy(items: list[LabelledCrop]) -> None:
    def shown(seed: int, epoch: int, draws: list[Draw]) -> list[bytes]:
        dataset = CropDataset(items, [0, 1, 0, 1], LOOK, seed)
        dataset.start_epoch(epoch, draws, CROP_AUGMENTS["full"])
        torch.manual_seed(np.random.default_rng().integers(10**6))  # whatever went before
        return [dataset[i][0].numpy().tobytes() for i in range(len(dataset))]

    draws = [Draw(2, 0), Draw(0, 0), Draw(2, 1)]
    first = shown(7, 3, draws)
    assert shown(7, 3, draws[::-1]) == first[::-1]
    assert len(set(first)) == 3, "a copy is another window"
    assert shown(8, 3, draws)[0] != first[0]
    assert shown(7, 4, draws)[0] != first[0]
    state = torch.get_rng_state()
    CropDataset(items, [0] * 4, LOOK, 1)[0]
    assert torch.equal(state, torch.get_rng_state())


def test_first_showings_stay_plain_where_only_repeats_are_augmented(
    items: list[LabelledCrop],
) -> None:
    dataset = CropDataset(items, [0] * 4, LOOK, 0)
    plain = dataset[1][0]
    dataset.start_epoch(0, [Draw(1, 0), Draw(1, 1)], CROP_AUGMENTS["seed-002"])
    assert torch.equal(dataset[0][0], plain)
    assert not torch.equal(dataset[1][0], plain)


def test_a_picture_that_cannot_be_read(items: list[LabelledCrop]) -> None:
    items[1].path.write_bytes(b"nothing")
    kinds = [type(cell) for cell in placed_cells(items, LOOK)]
    assert [issubclass(kind, ImageError) for kind in kinds] == [False, True, False, False]
    with pytest.raises(AnnotationError, match=r"1\.png cannot be read any more"):
        CropDataset(items, [0] * 4, LOOK, 0)


def test_what_does_not_fit_in_memory_is_read_anew(
    items: list[LabelledCrop], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = CropDataset(items, [0] * 4, LOOK, 0)
    monkeypatch.setattr("cellcount.training.classifier.cell_windows._MEMORY_BYTES", 1)
    again = CropDataset(items, [0] * 4, LOOK, 0)
    assert not again._canvases
    for dataset in (kept, again):
        dataset.start_epoch(1, [Draw(3, 0), Draw(0, 0)], CROP_AUGMENTS["mild"])
    assert all(torch.equal(kept[i][0], again[i][0]) for i in range(2))


def test_boxes_of_a_whole_slide_are_read_one_by_one_to_the_same_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(100, 250, (400, 640, 3)).astype(np.uint8)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb")
    boxes = [(5.5, 5.0, 25.0, 31.0), (300.0, 200.5, 348.0, 238.0), (610.0, 380.0, 640.0, 400.0)]
    cells = [LabelledCrop(path, "monocyte", box_xyxy=box) for box in boxes]
    whole = list(placed_cells(cells, LOOK))
    monkeypatch.setattr(cell_windows, "_MAX_PIXELS", 100_000)
    monkeypatch.setattr(cell_windows, "read_image", None)
    for one, expected in zip(placed_cells(cells, LOOK), whole, strict=True):
        assert isinstance(one, PlacedCell)
        assert isinstance(expected, PlacedCell)
        assert one.side_px == expected.side_px
        for sides in (1.0, 1.6):
            np.testing.assert_array_equal(
                one.crop((32, 32), sides=sides), expected.crop((32, 32), sides=sides)
            )
