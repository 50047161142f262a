"""The collector's rules for boxes, splits at random, subsets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellcount.core.records import LabelledImage
from cellcount.datasets.annotated import (
    DEFAULT_SHARES,
    AnnotatedSet,
    clean_label,
    has_slides,
    random_split,
    slide_split,
)
from cellcount.datasets.raw_annotation import Annotation, RawBox
from cellcount.datasets.reading import Reading
from cellcount.errors import AnnotationError, UsageError

Make = Callable[..., Path]


def a_set(count: int = 10, splits: tuple[str, ...] = ("",), root: str = "d") -> AnnotatedSet:
    images = tuple(
        LabelledImage(
            Path(root) / f"{i:03d}.jpg",
            np.array([[0, 0, i + 1, 2]], np.float32),
            ("rbc",),
            split=splits[i % len(splits)],
        )
        for i in range(count)
    )
    return AnnotatedSet(images, ("rbc", "wbc"), (), "made")


def test_boxes_are_clipped_to_the_image(tmp_path: Path, make_image: Make) -> None:
    path = make_image("a.jpg", (100, 50))
    reading = Reading(tmp_path)
    boxes = [RawBox("rbc", (-5, 10, 30, 60)), RawBox(" big  cell ", (90, 0, 140, 50))]
    reading.add(Annotation(path, boxes, path))
    image = reading.finish("made").images[0]
    assert image.boxes_xyxy.tolist() == [[0, 10, 30, 50], [90, 0, 100, 50]]
    assert image.boxes_xyxy.dtype == np.float32
    assert image.labels == ("rbc", "big cell")
    assert (image.width_px, image.height_px) == (100, 50)


@pytest.mark.parametrize(
    ("xyxy", "said"),
    [
        ((10, 10, 10, 20), "no width or height"),
        ((30, 10, 10, 20), "no width or height"),
        ((10, 20, 30, 20), "no width or height"),
        ((100, 0, 120, 20), "no width or height"),
        ((-20, 0, 0, 20), "no width or height"),
        ((float("nan"), 0, 5, 5), "not finite"),
        ((0, 0, float("inf"), 5), "not finite"),
    ],
)
def test_broken_boxes_are_left_out_and_said(
    tmp_path: Path, make_image: Make, xyxy: tuple[float, float, float, float], said: str
) -> None:
    path, where = make_image("a.jpg", (100, 50)), tmp_path / "a.xml"
    reading = Reading(tmp_path)
    boxes = [RawBox("rbc", (1, 1, 5, 5)), RawBox("wbc", xyxy)]
    reading.add(Annotation(path, boxes, where, where=where))
    annotated = reading.finish("made")
    assert annotated.images[0].labels == ("rbc",)
    (problem,) = annotated.problems
    assert problem.path == where
    assert said in problem.what
    assert "box 2 (wbc" in problem.what


def test_a_box_without_a_class_is_left_out(tmp_path: Path, make_image: Make) -> None:
    reading = Reading(tmp_path)
    path = make_image("a.jpg")
    boxes = [RawBox("  ", (1, 1, 5, 5)), RawBox("rbc", (10, 10, 20, 20))]
    reading.add(Annotation(path, boxes, path))
    annotated = reading.finish("made")
    assert annotated.images[0].labels == ("rbc",)
    assert "names no class" in annotated.problems[0].what


def test_images_that_cannot_be_opened_or_come_twice(tmp_path: Path, make_image: Make) -> None:
    broken, empty = tmp_path / "broken.jpg", tmp_path / "empty.png"
    broken.write_bytes(b"\xff\xd8\xffnothing more")
    empty.write_bytes(b"")
    good = make_image("good.jpg")
    reading = Reading(tmp_path)
    for path in (good, broken, empty, tmp_path / "gone.jpg", good):
        reading.add(Annotation(path, [], path))
    annotated = reading.finish("made")
    assert [i.path for i in annotated.images] == [good]
    assert [p.path.name for p in annotated.problems] == [
        "broken.jpg",
        "empty.png",
        "gone.jpg",
        "good.jpg",
    ]
    assert "more than once" in annotated.problems[-1].what


def test_a_picture_of_other_proportions_than_stated_is_left_out(
    tmp_path: Path, make_image: Make
) -> None:
    reading = Reading(tmp_path)
    path = make_image("a.jpg", (100, 50))
    reading.add(Annotation(path, [RawBox("rbc", (5, 5, 20, 20))], path, stated_px=(120, 100)))
    annotated = reading.finish("made")
    assert annotated.images == ()
    (problem,) = annotated.problems
    assert problem.pictures == annotated.left_out == 1
    assert "states 120×100 px, but a.jpg has 100×50 px" in problem.what


def test_images_are_sorted_by_path(tmp_path: Path, make_image: Make) -> None:
    reading = Reading(tmp_path)
    for name in ("b.jpg", "a/z.jpg", "a.jpg"):
        path = make_image(name)
        reading.add(Annotation(path, [], path))
    names = [i.path.relative_to(tmp_path).as_posix() for i in reading.finish("made").images]
    assert names == sorted(names)


def test_splits_and_subset() -> None:
    annotated = a_set(6, ("val", "train", "fold"))
    assert list(annotated.splits().items()) == [("train", 2), ("val", 2), ("fold", 2)]
    assert [i.path.stem for i in annotated.subset("val").images] == ["000", "003"]
    assert annotated.subset("val").classes == annotated.classes
    with pytest.raises(AnnotationError, match=r"no split 'test'.*'train': 2"):
        annotated.subset("test")


def test_a_label_must_be_among_the_classes() -> None:
    with pytest.raises(ValueError, match="'rbc'"):
        dataclasses.replace(a_set(1), classes=("wbc",))


def test_random_split_does_not_depend_on_order_or_folder() -> None:
    one = random_split(a_set(25), {"train": 0.8, "val": 0.2}, seed=7)
    annotated = a_set(25, root="elsewhere/deep")
    shuffled = dataclasses.replace(annotated, images=annotated.images[::-1])
    two = random_split(shuffled, {"train": 0.8, "val": 0.2}, seed=7)
    assert [i.split for i in one.images] == [i.split for i in two.images]
    assert one.splits() == {"train": 20, "val": 5}
    assert [i.boxes_xyxy[0, 2] for i in two.images] == list(range(1, 26))
    other = random_split(a_set(25), {"train": 0.8, "val": 0.2}, seed=8)
    assert [i.split for i in other.images] != [i.split for i in one.images]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 10, 101])
def test_random_split_deals_out_every_image_in_proportion(count: int) -> None:
    fractions = {"train": 0.7, "val": 0.1, "test": 0.2}
    dealt = random_split(a_set(count), fractions, seed=1).splits()
    assert sum(dealt.values()) == count
    assert all(abs(dealt.get(name, 0) - share * count) <= 1 for name, share in fractions.items())


def test_random_split_never_moves_published_test_images_into_training() -> None:
    annotated = a_set(20, ("train", "test"))
    dealt = random_split(annotated, {"train": 0.5, "val": 0.5}, seed=1)
    was_test = {i.path for i in annotated.images if i.split == "test"}
    assert {i.path for i in dealt.images if i.split == "test"} == was_test
    assert dealt.splits() == {"train": 5, "val": 5, "test": 10}
    again = random_split(annotated, {"train": 0.5, "test": 0.5}, seed=1)
    assert {i.path for i in again.images if i.split == "test"} != was_test


@pytest.mark.parametrize("fractions", [{}, {"train": 0.5}, {"train": 1.2, "val": -0.2}])
def test_random_split_wants_shares_of_one(fractions: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="sum of 1"):
        random_split(a_set(), fractions, seed=1)


def test_of_a_few_images_one_at_least_is_validated_on() -> None:
    for count in (2, 3, 4):
        assert random_split(a_set(count), DEFAULT_SHARES, seed=1).splits()["val"] == 1


def of_slides(*sizes: int) -> AnnotatedSet:
    """Set of as many images in the folder of each slide."""
    slides = [a_set(size, root=f"d/slide {n}") for n, size in enumerate(sizes)]
    return AnnotatedSet(tuple(i for s in slides for i in s.images), ("rbc",), (), "made")


def test_folders_are_slides_from_five_on() -> None:
    assert not has_slides(of_slides(3, 3, 3, 3))
    assert has_slides(of_slides(3, 3, 3, 3, 3))


@pytest.mark.parametrize("sizes", [(4,) * 5, (40, 30, 5, 3, 1, 1), (1,) * 25, (200, 1, 1, 1, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_images_of_a_slide_stay_together(sizes: tuple[int, ...], seed: int) -> None:
    annotated = of_slides(*sizes)
    divided = slide_split(annotated, DEFAULT_SHARES, seed)
    given = {(i.path.parent, i.split) for i in divided.images}
    assert len(given) == len(sizes)
    assert {split for _, split in given} == DEFAULT_SHARES.keys()
    back = dataclasses.replace(annotated, images=annotated.images[::-1])
    again = slide_split(back, DEFAULT_SHARES, seed)
    assert {(i.path.parent, i.split) for i in again.images} == given


def test_shares_are_met_by_slides_as_far_as_they_can() -> None:
    dealt = slide_split(of_slides(*(4,) * 50), DEFAULT_SHARES, 0).splits()
    assert dealt == {"train": 128, "val": 32, "test": 40}
    seeds = [slide_split(of_slides(*(4,) * 50), DEFAULT_SHARES, seed) for seed in (0, 1)]
    assert [i.split for i in seeds[0].images] != [i.split for i in seeds[1].images]


def test_clean_label() -> None:
    assert clean_label("  Red \t Blood\nCell ") == "Red Blood Cell"
