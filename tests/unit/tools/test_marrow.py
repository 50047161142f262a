"""Composed fields of marrow: contours, boxes, and the pictures that each field is made of."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.core.blood import RBC, WBC
from cellcount.datasets.annotations import read_annotations
from tools.marrow.compose import Plan, Stock, compose
from tools.marrow.contours import middle_contour
from tools.marrow.cuts import Cut, Seen, middle_cell, own_cells, small_cells
from tools.marrow.layout import Ground, Placed, box_in_field
from tools.marrow.make import write_fields
from tools.marrow.pictures import TEST, TRAIN, VAL, Picture, pictures

SIDE, RBC_PX = 200, 60.0
GLASS, RED, CYTOPLASM, NUCLEUS = (232, 228, 224), (205, 165, 160), (165, 150, 205), (80, 45, 130)
#: Centres (x, y) of red cells in the corners, and their radius.
REDS, RED_RADIUS = ((32, 34), (168, 34), (33, 167)), 28


def disc(
    pixels: NDArray[np.float64], at: tuple[float, float], radii: tuple[float, float]
) -> NDArray[np.bool_]:
    """Pixels of an ellipse."""
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    return np.asarray(((x - at[0]) / radii[0]) ** 2 + ((y - at[1]) / radii[1]) ** 2 < 1)


def picture(name: str, radii: tuple[float, float] = (40, 34), *, neighbour: bool = False) -> Seen:
    """A nucleated cell amid red ones, another nucleated cell touching it on request."""
    pixels = np.full((SIDE, SIDE, 3), GLASS, float)
    boxes: list[list[float]] = []
    labels = []
    for x, y in REDS:
        pixels[disc(pixels, (x, y), (RED_RADIUS, RED_RADIUS))] = RED
        boxes.append([x - RED_RADIUS, y - RED_RADIUS, x + RED_RADIUS, y + RED_RADIUS])
        labels.append(RBC)
    cells = [((100.0, 100.0), radii)]
    if neighbour:
        cells.append(((100.0 + radii[0] + 36, 100.0), (36, 36)))
    for at, size in cells:
        pixels[disc(pixels, at, size)] = CYTOPLASM
        pixels[disc(pixels, (at[0] + 4, at[1]), (size[0] * 0.6, size[1] * 0.6))] = NUCLEUS
        boxes.append([at[0] - size[0], at[1] - size[1], at[0] + size[0], at[1] + size[1]])
        labels.append(WBC)
    noise = np.random.default_rng(len(name)).normal(0, 1.5, pixels.shape)
    return Seen(
        name,
        np.clip(pixels + noise, 0, 255).astype(np.uint8),
        RBC_PX,
        np.array(boxes, np.float32),
        np.array(labels),
        np.ones(len(labels), np.float32),
    )


@pytest.mark.parametrize("radii", [(30, 30), (44, 34), (26, 40)])
def test_a_contour_follows_the_border_of_a_cell_and_not_of_its_nucleus(
    radii: tuple[float, float],
) -> None:
    seen = picture("mll-marrow/a", radii)
    contour = middle_contour(seen.density, seen.of(RBC), RBC_PX)
    assert contour is not None
    away = (contour.points - 100) / np.array(radii)
    assert np.abs(np.hypot(*away.T) - 1).max() < 0.09
    assert contour.sure > 0.9
    wanted = [100 - radii[0], 100 - radii[1], 100 + radii[0], 100 + radii[1]]
    assert contour.box == pytest.approx(wanted, abs=2)


def test_a_contour_ends_where_a_touching_cell_begins() -> None:
    seen = picture("mll-marrow/a", (36, 36), neighbour=True)
    contour = middle_contour(seen.density, seen.of(RBC), RBC_PX)
    assert contour is not None
    assert contour.box == pytest.approx([64, 64, 136, 136], abs=5)


def test_a_picture_without_a_nucleus_has_no_contour() -> None:
    seen = picture("mll-marrow/a")
    red = np.array(RED) + np.zeros((SIDE, SIDE, 3))
    bare = Seen(seen.name, red.astype(np.uint8), RBC_PX, seen.boxes, seen.labels, seen.scores)
    assert middle_contour(bare.density, bare.of(RBC), RBC_PX) is None


def test_a_cell_is_cut_only_where_a_detector_agrees_with_its_contour() -> None:
    seen = picture("mll-marrow/a")
    assert middle_cell(seen) is not None
    seen.boxes[seen.labels == WBC] += 30
    assert middle_cell(seen) is None


def test_a_whole_picture_is_used_only_if_each_of_its_nuclei_has_a_box() -> None:
    seen = picture("mll-marrow/a", (36, 36), neighbour=True)
    assert own_cells(seen)[1] == [WBC, WBC, RBC, RBC, RBC]
    seen.scores[-1] = 0.1
    assert own_cells(seen)[1] == []


def cuts(count: int = 3) -> Iterator[Cut]:
    for number in range(count):
        cut = middle_cell(picture("mll-marrow/" + "a" * (number + 1), (34 + 3 * number, 34)))
        assert cut is not None
        yield cut


def test_the_box_of_a_pasted_cell_is_that_of_its_mask() -> None:
    (cut,) = cuts(1)
    box = box_in_field(Placed(cut, 20, 30), (300, 300))
    rows, columns = np.nonzero(cut.alpha >= 0.5)
    assert box.tolist() == [
        columns.min() + 20, rows.min() + 30, columns.max() + 21, rows.max() + 31
    ]  # fmt: skip
    # One that the border cuts has the box of what the field shows.
    assert box_in_field(Placed(cut, -40, 270), (300, 300))[[0, 3]].tolist() == [0, 300]


def test_boxes_of_a_field_surround_what_was_pasted() -> None:
    stock = Stock(tuple(cuts()), (), ())
    plan = Plan((360, 360), nucleated=0.12, touching=0.0, overlap=0.0, red=0.0, platelets=0)
    field = compose(picture("mll-marrow/b"), stock, plan, np.random.default_rng(5))
    assert set(field.labels) == {WBC}
    dark = field.pixels.astype(float).mean(-1) < 200
    boxed = np.zeros_like(dark)
    for x0, y0, x1, y1 in field.boxes.round().astype(int):
        # All four sides of a box lie at dark pixels: it is as large as the cell, and no larger.
        window = dark[y0:y1, x0:x1]
        for side in (window[:3], window[-3:], window[:, :3], window[:, -3:]):
            assert side.any()
        boxed[max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = True
    assert not dark[~boxed].any()


def test_cells_of_a_packed_field_touch_and_hardly_overlap() -> None:
    ground, random = Ground(400, 400, 120), np.random.default_rng(3)
    stock = list(cuts())
    for number in range(12):
        ground.put_touching(stock[number % 3], random, 0.04)
    assert len(ground.cells) > 6
    areas = sum(np.count_nonzero(placed.cut.mask) for placed in ground.cells)
    assert 0.95 * areas <= np.count_nonzero(ground.taken) < areas


def shown(names: dict[str, str]) -> list[tuple[Picture, Seen]]:
    return [
        (Picture(name, Path(name), "BLA", part), picture(name, (36 + n, 34)))
        for n, (name, part) in enumerate(names.items())
    ]


NAMES = {
    "mll-marrow/a.jpg": TRAIN, "mll-marrow/bb.jpg": TRAIN, "pbc/ccc.jpg": TRAIN,
    "mll-marrow/dddd.jpg": VAL, "pbc/eeeee.jpg": VAL, "mll-marrow/ffffff.jpg": TEST,
    "pbc/ggggggg.jpg": TEST,
}  # fmt: skip


def test_fields_of_one_seed_are_the_same_and_no_picture_serves_two_splits(tmp_path: Path) -> None:
    wanted = {TRAIN: 2, VAL: 1, TEST: 1}
    for folder in ("one", "two"):
        write_fields(shown(NAMES), wanted, tmp_path / folder, 7)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 2 + 1 + 1 + 2
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    with (tmp_path / "one/sources.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert {row["split"] for row in rows} == {TRAIN, VAL, TEST}
    for row in rows:
        assert NAMES[row["picture"]] == row["split"]
        assert row["image"].startswith(f"images/{row['split']}-")
    write_fields(shown(NAMES), {TRAIN: 1}, tmp_path / "other", 8)
    first = Path("images/train-0000.jpg")
    assert (tmp_path / "one" / first).read_bytes() != (tmp_path / "other" / first).read_bytes()
    read = read_annotations(tmp_path / "one")
    assert not read.problems
    assert read.splits() == {TRAIN: 2, VAL: 1, TEST: 1}
    assert set(read.classes) == {RBC, WBC}


def test_pictures_of_val_splits_are_for_tests_alone(tmp_path: Path) -> None:
    for source, kind in (("mll-marrow", "BLA"), ("pbc", "ig")):
        (tmp_path / source).mkdir()
        rows = [f"{kind}/{n}.jpg,{'val' if n % 3 == 0 else 'train'},{kind}" for n in range(60)]
        table = "\n".join(["file,split,class", *rows, ""])
        (tmp_path / source / "splits.csv").write_text(table, "utf-8")
    drawn = list(pictures(tmp_path, 1.0, 0))
    assert len({p.name for p in drawn}) == len(drawn) > 80
    for one in drawn:
        assert (one.part == TEST) == (int(one.path.stem) % 3 == 0)
    assert {one.part for one in drawn} == {TRAIN, VAL, TEST}


def test_red_cells_are_cut_whole_and_alone() -> None:
    seen = picture("pbc/a")
    found = list(small_cells(seen, RBC))
    assert len(found) == len(REDS)
    for cut in found:
        assert np.count_nonzero(cut.mask) == pytest.approx(np.pi * RED_RADIUS**2, rel=0.08)
    seen.boxes[1] = seen.boxes[0] + 15
    assert len(list(small_cells(seen, RBC))) == 1
