"""Training crops: pure functions of (seed, epoch, index), and boxes that follow the pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.utils.data import DataLoader

from cellcount.core.records import LabelledImage
from cellcount.datasets.pixels import red_cell_diameter_px, scale_factors
from cellcount.errors import AnnotationError
from cellcount.images.colour_balance import hue_factors
from cellcount.images.white_balance import white_balance_gains
from cellcount.models.detector_card import Preprocessing
from cellcount.rendering.field import FieldSpec, render_field
from cellcount.training.augment import ColourSettings
from cellcount.training.detector.fields import AugmentSettings, FieldDataset

if TYPE_CHECKING:
    from tests.unit.conftest import DiscField

Item = tuple[torch.Tensor, dict[str, torch.Tensor]]
CLASSES = ("rbc", "wbc", "platelet")
AS_THEY_ARE = Preprocessing(white_balance=False)
PLAIN = AugmentSettings(
    size_px=128,
    scale_range=(1, 1),
    scale_core=(1, 1),
    mosaic=0,
    shear_share=0,
    aspect=0,
    min_visible=0.0,
    colour=None,
)


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory, disc_field: type[DiscField]
) -> list[LabelledImage]:
    folder = tmp_path_factory.mktemp("discs")
    made = []
    for number in range(3):
        field = disc_field(200, 160, diameters=(24, 30), spacing=1.5, seed=number)
        path = folder / f"{number}.png"
        Image.fromarray(field.pixels).save(path)
        labels = tuple(CLASSES[i] for i in field.labels)
        made.append(LabelledImage(path, field.boxes_xyxy, labels, 200, 160))
    return made


def dataset(
    images: list[LabelledImage], augment: AugmentSettings, seed: int = 0, factor: float = 1.0
) -> FieldDataset:
    return FieldDataset(
        images, [factor] * len(images), CLASSES, augment, seed=seed, preprocessing=AS_THEY_ARE
    )


def equal(one: Item, other: Item) -> bool:
    return torch.equal(one[0], other[0]) and all(
        torch.equal(one[1][k], other[1][k]) for k in ("boxes", "labels")
    )


def test_an_item_is_decided_by_seed_epoch_and_index(images: list[LabelledImage]) -> None:
    full = AugmentSettings(size_px=96)
    one, other = dataset(images, full), dataset(images, full)
    torch.manual_seed(1)
    first = [one[i] for i in (0, 1, 2)]
    torch.manual_seed(99)
    again = [other[i] for i in (2, 1, 0)][::-1]
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert not equal(first[0], dataset(images, full, seed=1)[0])
    other.start_epoch(1, settling=False)
    assert not equal(first[0], other[0])


def test_items_leave_the_global_generator_alone(images: list[LabelledImage]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dataset(images, AugmentSettings(size_px=96))[0]
    assert torch.equal(torch.rand(3), expected)


def test_workers_change_nothing(images: list[LabelledImage]) -> None:
    data = dataset(images, AugmentSettings(size_px=96))
    direct = [data[i] for i in range(3)]
    loaded = list(DataLoader(data, batch_size=None, num_workers=2))
    assert all(equal(a, (b[0], b[1])) for a, b in zip(direct, loaded, strict=True))


def extents(image: torch.Tensor) -> np.ndarray:
    """Boxes of the discs as the pixels show them."""
    spots, _ = ndimage.label(image[1].numpy() < 175)
    found = [
        (c.start, r.start, c.stop, r.stop)
        for r, c in ndimage.find_objects(spots)
        if c.stop - c.start > 3 and r.stop - r.start > 3
    ]
    return np.array(found, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("changes", "factor", "tolerance"),
    [
        ({}, 1.0, 1.3),  # crops, flips and turns alone
        ({"aspect": 0.15}, 1.0, 1.6),
        ({"scale_range": (0.7, 2.5), "scale_core": (0.7, 2.5)}, 1.0, 2.2),
        ({}, 1.6, 1.8),
        ({"shear_share": 1.0, "shear_deg": 12.0}, 1.0, 2.4),
        ({"mosaic": 1.0, "scale_range": (0.8, 1.1), "scale_core": (0.8, 1.1)}, 1.0, 1.6),
    ],
    ids=["flips and turns", "aspect", "scale", "factor", "shear", "mosaic"],
)
def test_boxes_follow_the_pixels(
    images: list[LabelledImage],
    changes: dict[str, float | tuple[float, float]],
    factor: float,
    tolerance: float,
) -> None:
    import dataclasses

    settings = dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]
    data = dataset(images, settings, factor=factor)
    compared = 0
    for epoch in range(12):
        data.start_epoch(epoch, settling=False)
        for index in range(3):
            image, target = data[index]
            boxes = target["boxes"].numpy()
            # Cells cut by the crop, or by the seams of a mosaic, show less than their box.
            seams = np.array([0, 43, 64, 85, 128] if "mosaic" in changes else [0, 128])
            whole = boxes[(np.abs(boxes[..., None] - seams) > 3).all((1, 2))]
            seen = extents(image)
            for box in whole:
                assert np.abs(seen - box).max(axis=1).min() <= tolerance, f"no disc at {box}"
                compared += 1
    assert compared > 30


def test_labels_follow_the_boxes(images: list[LabelledImage]) -> None:
    colours = np.array([[200, 90, 110], [90, 60, 170], [150, 120, 60]])
    data = dataset(images, PLAIN)
    for index in range(3):
        image, target = data[index]
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            x, y = (box[:2] + box[2:]).div(2).long().clamp(0, 127).tolist()
            shown = np.abs(colours - image[:, y, x].numpy()).sum(1).argmin() + 1
            assert int(label) == shown


def test_the_scale_range_is_covered(images: list[LabelledImage]) -> None:
    """At factor 1 discs of 24-30 px must be seen from 0.4 to 2.5 times their size."""
    import dataclasses

    settings = dataclasses.replace(
        PLAIN, scale_range=(0.4, 2.5), scale_core=(0.75, 1.35), size_px=192
    )
    data = dataset(images, settings)
    shares: list[float] = []
    core = 0
    for epoch in range(60):
        data.start_epoch(epoch, settling=False)
        for index in range(3):
            boxes = data[index][1]["boxes"]
            inside = boxes[(boxes.min(1).values > 2) & (boxes.max(1).values < 190)]
            if len(inside):
                side = float((inside[:, 2:] - inside[:, :2]).prod(1).sqrt().median()) / 27
                shares.append(side)
                core += 0.7 < side < 1.45
    assert min(shares) < 0.5
    assert max(shares) > 2.1
    assert 0.55 < core / len(shares) < 0.9, "most crops stay near the model's scale"


def test_settling_stays_near_the_scale_without_mosaics(images: list[LabelledImage]) -> None:
    data = dataset(images, AugmentSettings(size_px=96, colour=None))
    for epoch in range(10):
        data.start_epoch(epoch, settling=True)
        boxes = data[epoch % 3][1]["boxes"]
        inside = boxes[(boxes.min(1).values > 2) & (boxes.max(1).values < 94)]
        sides = (inside[:, 2:] - inside[:, :2]).prod(1).sqrt()
        assert ((sides > 24 * 0.7) & (sides < 30 * 1.45)).all()


def test_settling_uses_the_first_images_alone_and_half_of_them_in_their_own_colours(
    images: list[LabelledImage],
) -> None:
    class_of = {1: "rbc", 2: "wbc", 3: "platelet"}
    relabelled = [
        dataclasses.replace(image, labels=(class_of[number],) * len(image.labels))
        for number, image in enumerate(images, start=1)
    ]
    augment = dataclasses.replace(PLAIN, colour=ColourSettings(cast=0.6))
    data = FieldDataset(
        relabelled, [1.0] * 3, CLASSES, augment, seed=0, preprocessing=AS_THEY_ARE, settle_on=2
    )
    own = np.median(np.asarray(Image.open(images[0].path)), axis=(0, 1)).tolist()
    seen, own_colours = set(), 0
    for epoch in range(40):
        data.start_epoch(epoch, settling=True)
        image, target = data[2]
        seen |= set(target["labels"].tolist())
        background = image.flatten(1).median(dim=1).values
        own_colours += background.tolist() == own
    assert seen == {1}, "image 2 stands for image 0 of the first two"
    assert 10 <= own_colours <= 30
    data.start_epoch(0, settling=False)
    assert set(data[2][1]["labels"].tolist()) == {3}


def test_hard_epochs_have_worse_light_and_small_white_cells(images: list[LabelledImage]) -> None:
    augment = dataclasses.replace(PLAIN, colour=ColourSettings(), small_copies=1.5)
    data = dataset(images, augment)
    cells, spread = {}, {}
    for hard in (False, True):
        items = []
        for epoch in range(25):
            data.start_epoch(epoch, settling=False, hard=hard)
            items += [data[i] for i in range(3)]
        cells[hard] = sum(int((t["labels"] == 2).sum()) for _, t in items)
        tints = [(i[0].float() - i[2].float()).reshape(2, -1).mean(1) for i, _ in items]
        spread[hard] = np.mean([float((upper - lower).abs()) for upper, lower in tints])
    per_image = (cells[True] - cells[False]) / 75
    assert 0.1 < per_image < 1.5, "two copies or one, where there is a white cell, and room"
    assert spread[True] > 1.2 * spread[False], "the light's colour changes across the field"
    data.start_epoch(0, settling=False)
    again = data[0]
    data.start_epoch(0, settling=False, hard=False)
    assert equal(again, data[0])


def test_items_are_what_the_model_takes(images: list[LabelledImage]) -> None:
    data = dataset(images, AugmentSettings(size_px=64))
    for epoch in range(12):
        data.start_epoch(epoch, settling=False)
        image, target = data[epoch % 3]
        boxes, labels = target["boxes"], target["labels"]
        assert (image.shape, image.dtype) == ((3, 64, 64), torch.uint8)
        assert (boxes.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert boxes.shape == (len(labels), 4)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes <= 64).all()
        assert ((labels >= 1) & (labels <= 3)).all()


def test_most_crops_have_their_red_cells_in_one_hue_where_the_card_asks_for_it(
    tmp_path: Path,
) -> None:
    spec = FieldSpec(160, 160, seed=1, rbc_diameter_px=28.0, density=0.4)
    Image.fromarray(render_field(spec).pixels).save(tmp_path / "field.png")
    image = LabelledImage(tmp_path / "field.png", np.zeros((0, 4), np.float32), (), 160, 160)
    stained = dataclasses.replace(PLAIN, colour=ColourSettings(stain=0.1, light=0.0, noise=0.0))
    hues: dict[bool, list[float]] = {}
    for hue in (False, True):
        data = FieldDataset(
            [image],
            [1.0],
            CLASSES,
            stained,
            seed=0,
            preprocessing=Preprocessing(red_cell_hue=hue),
        )
        factors = []
        for epoch in range(24):
            data.start_epoch(epoch, settling=False)
            pixels = data[0][0].permute(1, 2, 0).numpy()
            found = hue_factors(pixels, white_balance_gains(pixels))
            factors.append(float(np.abs(np.log(found)).max()))
        hues[hue] = factors
    near = sum(off < 0.2 for off in hues[True]), sum(off < 0.2 for off in hues[False])
    assert near[0] > len(hues[True]) / 2 > 2 * near[1], f"{near} of {len(hues[True])}"
    assert near[0] < len(hues[True]), "some keep their own hue"


def test_other_classes_and_empty_images_are_no_trouble(
    images: list[LabelledImage], tmp_path: Path
) -> None:
    Image.new("RGB", (40, 30), "white").save(tmp_path / "empty.png")
    empty = LabelledImage(tmp_path / "empty.png", np.zeros((0, 4), np.float32), (), 40, 30)
    only_wbc = FieldDataset([empty, images[0]], [5.0, 1.0], ("wbc",), PLAIN, seed=0)
    image, target = only_wbc[0]
    assert image.float().mean() > 230
    assert target["boxes"].shape == (0, 4)
    assert set(only_wbc[1][1]["labels"].tolist()) == {1}


def labelled(diameters: list[float], size: tuple[int, int] = (500, 400)) -> LabelledImage:
    boxes = [[10 + 90 * i, 20, 10 + 90 * i + d, 20 + d] for i, d in enumerate(diameters)]
    stacked = np.array(boxes, np.float32).reshape(-1, 4)
    return LabelledImage(Path("x.png"), stacked, ("rbc",) * len(boxes), *size)


def test_red_cells_are_measured_by_their_median() -> None:
    assert red_cell_diameter_px(labelled([50, 60, 80]), "rbc") == pytest.approx(60)
    assert red_cell_diameter_px(labelled([50, 60]), "rbc") is None
    assert red_cell_diameter_px(labelled([50, 60, 80]), "wbc") is None
    # The third is cut by the right edge, so only two are whole.
    assert red_cell_diameter_px(labelled([50, 60, 80], (230, 400)), "rbc") is None


def test_factors_fall_back_on_images_of_the_same_size() -> None:
    few_alike, few_other = labelled([50]), labelled([50], (900, 900))
    images = [
        labelled([40] * 3),
        labelled([50] * 3),
        few_alike,
        labelled([80] * 3, (600, 600)),
        few_other,
    ]
    factors = scale_factors(images, scale_class="rbc", target_px=80, given_px=None)
    assert factors == pytest.approx([2.0, 1.6, 80 / 45, 1.0, 80 / 50])
    given = scale_factors(images, scale_class="rbc", target_px=80, given_px=20)
    assert given == [4.0] * 5


def test_an_unknown_scale_is_asked_for() -> None:
    with pytest.raises(
        AnnotationError, match="state the red-cell diameter in pixels with --rbc-px"
    ):
        scale_factors([labelled([50])], scale_class="rbc", target_px=80, given_px=None)


def test_windows_that_avoid_white_cells_show_fewer(images: list[LabelledImage]) -> None:
    small = dataclasses.replace(PLAIN, size_px=64)

    def whites(augment: AugmentSettings) -> int:
        items = [dataset(images, augment, seed=seed)[i] for seed in range(12) for i in range(3)]
        return sum(int((target["labels"] == 2).sum()) for _, target in items)

    usual = whites(small)
    assert usual > 10
    assert whites(dataclasses.replace(small, no_white=1.0)) < usual / 3


def test_heaps_come_with_the_hard_epochs(images: list[LabelledImage]) -> None:
    heaped = dataset(images, dataclasses.replace(PLAIN, heaps=1.0, size_px=192))
    plain = dataset(images, dataclasses.replace(PLAIN, size_px=192))
    assert equal(heaped[0], plain[0])
    for one in (heaped, plain):
        one.start_epoch(0, settling=False, hard=True)
    assert len(heaped[0][1]["boxes"]) > len(plain[0][1]["boxes"])
