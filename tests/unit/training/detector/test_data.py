"""Joining, splitting and scaling of data sets, and what is left out with a word."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from cellcount.core.records import LabelledImage
from cellcount.datasets.annotated import AnnotatedSet
from cellcount.errors import AnnotationError
from cellcount.training.detector.data import (
    augment_settings,
    cell_classes,
    field_factors,
    model_diameter_px,
    prepare,
)
from cellcount.training.detector.settings import DetectorTraining

Tiny = Callable[..., DetectorTraining]


def a_set(images: tuple[LabelledImage, ...], *splits: str) -> AnnotatedSet:
    marked = [dataclasses.replace(i, split=s) for i, s in zip(images, splits, strict=True)]
    return AnnotatedSet(tuple(marked), ("rbc", "wbc", "platelet"), format="made")


def test_given_splits_are_kept_and_test_images_left_alone(
    fields: tuple[LabelledImage, ...], tiny: Tiny
) -> None:
    sets = [a_set(fields, "train", "", "val", "test"), a_set(fields[:1], "val")]
    data = prepare(sets, tiny(), ["one", "two"], print)
    assert [i.path for i in data.train] == [fields[0].path, fields[1].path]
    assert [i.path for i in data.val] == [fields[2].path, fields[0].path]
    assert data.classes == ("rbc", "wbc", "platelet")
    assert data.sources == (
        {"name": "one", "format": "made", "train": 2, "val": 1},
        {"name": "two", "format": "made", "train": 0, "val": 1},
    )


def test_the_last_epochs_may_settle_on_the_first_sets(
    fields: tuple[LabelledImage, ...], tiny: Tiny
) -> None:
    sets = [a_set(fields, "train", "val", "train", "test"), a_set(fields[:1], "train")]
    on = {n: prepare(sets, tiny(settle_sets=n), ["a", "b"], print).settle_on for n in (0, 1, 2)}
    assert on == {0: 3, 1: 2, 2: 3}
    learn_all = prepare(sets, tiny(settle_sets=1, split="all"), ["a", "b"], print)
    assert (learn_all.settle_on, len(learn_all.train)) == (3, 4)


def test_shares_are_drawn_by_seed(fields: tuple[LabelledImage, ...], tiny: Tiny) -> None:
    whole = a_set(fields, "train", "train", "train", "test")
    drawn = {
        prepare([whole], tiny(split="2/1", seed=seed), ["x"], print).val[0].path
        for seed in range(12)
    }
    assert len(drawn) == 3, "each but the test image has been drawn"
    data = prepare([whole], tiny(split="2/1", seed=5), ["x"], print)
    assert (len(data.train), len(data.val)) == (2, 1)
    again = prepare([whole], tiny(split="2/1", seed=5), ["x"], print)
    assert data.val[0].path == again.val[0].path


def test_all_learns_from_val_too(fields: tuple[LabelledImage, ...], tiny: Tiny) -> None:
    data = prepare([a_set(fields, "train", "val", "", "test")], tiny(split="all"), ["x"], print)
    assert (len(data.train), len(data.val)) == (3, 0)


def test_nothing_to_validate_on_says_what_to_do(
    fields: tuple[LabelledImage, ...], tiny: Tiny
) -> None:
    with pytest.raises(AnnotationError, match="0 training and 4 validation.*--split 64/16/20"):
        prepare([a_set(fields, *["val"] * 4)], tiny(), ["x"], print)


def test_images_that_cannot_be_decoded_are_named_and_left_out(
    fields: tuple[LabelledImage, ...], tiny: Tiny, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(fields[0].path.read_bytes()[:2000])
    images = (*fields[:3], dataclasses.replace(fields[3], path=broken))
    said: list[str] = []
    data = prepare([a_set(images, "train", "train", "val", "train")], tiny(), ["x"], said.append)
    assert len(data.train) == 2
    assert len(said) == 1
    assert "broken.png left out" in said[0]


def test_factors_bring_red_cells_or_the_long_edge_to_size(
    fields: tuple[LabelledImage, ...], tiny: Tiny
) -> None:
    by_cells = field_factors(fields, tiny(rbc_diameter_px=72.0))
    assert by_cells == pytest.approx([2.0] * 4, rel=0.15)
    assert field_factors(fields, tiny(resize="long-edge")) == [128 / 160] * 4


def test_the_long_edge_has_a_measured_diameter(
    fields: tuple[LabelledImage, ...], tiny: Tiny
) -> None:
    data = prepare([a_set(fields, "train", "train", "train", "val")], tiny(), ["x"], print)
    assert model_diameter_px(data, tiny()) == 36.0
    assert model_diameter_px(data, tiny(resize="long-edge")) == pytest.approx(36 * 0.8, rel=0.15)
    assert model_diameter_px(data, tiny(resize="long-edge", rbc_px=50.0)) == 40.0


def test_strengths_of_augmentation(tiny: Tiny) -> None:
    flips, mild, full, wide, varied = (
        augment_settings(tiny(augment=a)) for a in ("flips", "mild", "full", "wide", "varied")
    )
    assert flips.colour is None
    assert (flips.scale_range, flips.mosaic, flips.shear_share) == ((1.0, 1.0), 0.0, 0.0)
    assert full.scale_range[0] <= 0.4
    assert full.scale_range[1] >= 2.5
    assert mild.colour is not None
    assert full.colour is not None
    assert wide.colour is not None
    of_wide = {"strange", "strength", "grey", "sharpen", "fringe"}
    for name in (f.name for f in dataclasses.fields(full.colour)):
        usual, strong = getattr(full.colour, name), getattr(wide.colour, name)
        assert strong > usual if name in of_wide else 0 < getattr(mild.colour, name) <= usual
    # "varied" is "wide" but for stains, which change less.
    less = {"stain", "strange", "grey"}
    assert varied.colour is not None
    assert varied == dataclasses.replace(wide, colour=varied.colour)
    for name in (f.name for f in dataclasses.fields(full.colour)):
        strong, usual = getattr(wide.colour, name), getattr(varied.colour, name)
        assert usual < strong if name in less else usual == strong
    assert (full.heaps, full.pale_red, full.no_white) == (0, 0, 0)
    assert wide.heaps > 0
    assert wide.pale_red > 0
    assert wide.no_white > 0


def test_the_blur_of_wide_crops_goes_with_the_size_of_red_cells(tiny: Tiny) -> None:
    half, whole = (
        augment_settings(tiny(augment="wide", rbc_diameter_px=px)) for px in (40.0, 80.0)
    )
    assert half.colour is not None
    assert whole.colour is not None
    assert half.colour.blur_px == pytest.approx(whole.colour.blur_px / 2)


def test_classes_have_full_names() -> None:
    assert cell_classes(["rbc", "parasite"])[0].plural == "red cells"
    assert cell_classes(["rbc", "parasite"])[1].plural == "parasite cells"
