"""Annotated pictures: of every size and brightness, with the cells in sight."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from cellcount.core.records import CellClass, Cells, CellTypes, Detections, ImageResult, Picture
from cellcount.outputs.pictures import outlines
from cellcount.outputs.pictures.annotate import (
    _type_entries,
    annotate,
    annotated_path,
    write_annotated,
)
from cellcount.outputs.pictures.legend import fitted
from cellcount.outputs.pictures.plates import RARE
from cellcount.outputs.pictures.shapes import font_of, look_of, printable
from cellcount.outputs.run_content import Labels

MakeResult = Callable[..., ImageResult]
Color = tuple[int, int, int]
Page = NDArray[np.uint8]


def plain(width: int, height: int, level: int = 200) -> Picture:
    return Picture(np.full((height, width, 3), level, np.uint8))


def cells_at(*rows: tuple[float, float, float, float, int, bool]) -> Cells:
    table = np.array(rows, np.float32).reshape(-1, 6)
    detections = Detections(
        table[:, :4], np.full(len(table), 0.9, np.float32), table[:, 4].astype(np.int64)
    )
    return Cells(detections, table[:, 5].astype(np.bool_))


def has_color(page: Page, color: Color) -> NDArray[np.bool_]:
    return np.asarray((page == np.array(color, np.uint8)).all(axis=2))


def line_share(page: Page, x: int, top: int, bottom: int, color: Color) -> float:
    return float(has_color(page, color)[top:bottom, x - 2 : x + 3].any(axis=1).mean())


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (100, 80), (7, 700), (4000, 300)])
@pytest.mark.parametrize("num_cells", [0, 500])
def test_any_picture_can_be_drawn(
    blood: list[CellClass],
    make_result: MakeResult,
    level: int,
    width: int,
    height: int,
    num_cells: int,
) -> None:
    cells = make_result("a", num_cells).cells
    page = annotate(plain(width, height, level), cells, Labels(blood), "title " * 40)
    assert page.dtype == np.uint8
    zoom = min(4, -(-480 // max(width, height)))
    page_height, page_width, colors = page.shape
    assert page_width == max(width * zoom, 420)
    assert page_height > height * zoom
    assert colors == 3
    if not num_cells:  # the picture itself is untouched
        assert (page[: height * zoom, : width * zoom] == level).all()


def test_outlines_lie_on_the_boxes_and_leave_the_inside_alone(blood: list[CellClass]) -> None:
    cells = cells_at(*[(100, 100, 200, 220, 0, False)] * (RARE + 1))  # too many for labels
    page = annotate(plain(640, 480), cells, Labels(blood), "a")
    drawn = has_color(page, look_of(0).color)[:480]
    rows, columns = np.nonzero(drawn)
    # A line of two pixels has one on either side of the box.
    assert (rows.min(), rows.max()) == (99, 220)
    assert (columns.min(), columns.max()) == (99, 200)
    assert (page[110:210, 110:190] == 200).all()


def test_small_pictures_are_enlarged_with_their_boxes(blood: list[CellClass]) -> None:
    page = annotate(plain(160, 160), cells_at((40, 50, 100, 120, 0, False)), Labels(blood), "a")
    assert line_share(page, 3 * 100, 3 * 50 + 5, 3 * 120 - 5, look_of(0).color) == 1


def test_cut_cells_are_dashed(blood: list[CellClass]) -> None:
    rows = [(100, 60, 300, 260, 0, False), (400, 60, 600, 260, 0, True)]
    page = annotate(plain(640, 480), cells_at(*rows), Labels(blood), "a")
    assert line_share(page, 300, 70, 250, look_of(0).color) == 1
    assert 0.3 < line_share(page, 600, 70, 250, look_of(0).color) < 0.85


def test_between_dashes_the_picture_is_untouched_on_every_side(blood: list[CellClass]) -> None:
    cells = cells_at(*[(400, 60, 603, 257, 0, True)] * (RARE + 1))  # too many for labels
    page = annotate(plain(640, 480), cells, Labels(blood), "a")[50:267, 390:613]
    lines, changed = has_color(page, look_of(0).color), (page != 200).any(axis=2)
    for quarter in range(4):
        line, rim = (np.rot90(mask, quarter)[5:16, 30:-30] for mask in (lines, changed))
        assert 0.5 < line.any(axis=0).mean() < 0.7
        np.testing.assert_array_equal(line.any(axis=0), rim.any(axis=0))


def test_pixels_are_the_same_however_many_are_changed_at_once(
    blood: list[CellClass], make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = make_result("a", 60).cells
    page = annotate(plain(640, 480), cells, Labels(blood), "a")
    assert (page[:480] != 200).any(axis=2).mean() > 0.01
    monkeypatch.setattr(outlines, "_BLENDED_AT_ONCE", 1001)
    np.testing.assert_array_equal(annotate(plain(640, 480), cells, Labels(blood), "a"), page)


def test_classes_differ_in_shape_too(blood: list[CellClass]) -> None:
    rows = [(60, 60, 160, 160, 0, False), (260, 60, 360, 160, 1, False)]
    page = annotate(plain(640, 480), cells_at(*rows), Labels(blood), "a")
    assert has_color(page, look_of(0).color)[57:64, 57:64].any()  # a corner
    assert not has_color(page, look_of(1).color)[57:64, 357:364].any()  # cut away


def test_only_rare_classes_are_labelled_and_never_over_another_rare_cell(
    blood: list[CellClass],
) -> None:
    def plates(cells: Cells, label: int) -> int:
        page = annotate(plain(640, 480), cells, Labels(blood), "a")
        drawn = has_color(page, look_of(label).color)[:480]
        return int((drawn[:, :-20] & drawn[:, 20:]).sum())  # wide areas of one colour

    many = [(40.0 * i, 300.0, 40.0 * i + 30, 330.0, 0, False) for i in range(RARE + 1)]
    white = (200.0, 100.0, 260.0, 160.0, 1, False)
    assert plates(cells_at(*many, white), 1) > 3 * plates(cells_at(*many), 1) + 100

    above_and_below = [(150.0, 60.0, 420.0, 98.0, 2, False), (150.0, 162.0, 420.0, 200.0, 2, False)]
    page = annotate(plain(640, 480), cells_at(*many, white, *above_and_below), Labels(blood), "a")
    for _, top, _, bottom, _, _ in above_and_below:
        inside = has_color(page, look_of(1).color)[int(top) + 4 : int(bottom) - 4, 160:410]
        assert not inside.any()


def test_the_commonest_of_several_classes_is_not_labelled(blood: list[CellClass]) -> None:
    alone = annotate(plain(640, 480), cells_at((100, 100, 200, 200, 0, False)), Labels(blood), "a")
    rows = [(100, 100, 200, 200, 0, False), (300, 100, 400, 200, 0, False)]
    mixed = annotate(
        plain(640, 480), cells_at(*rows, (500, 300, 560, 360, 1, False)), Labels(blood), "a"
    )
    above = (slice(80, 97), slice(100, 190))
    assert has_color(alone, look_of(0).color)[above].any()
    assert not has_color(mixed, look_of(0).color)[above].any()


def typed_as(best: list[int], accepted: list[bool]) -> CellTypes:
    n = len(best)
    prob, second = np.full(n, 0.8, np.float32), np.full(n, -1, np.int64)
    return CellTypes(np.array(best, np.int64), prob, second, prob, np.array(accepted))


def test_every_typed_cell_is_labelled_and_an_unclassified_one_differs(
    blood: list[CellClass], types: list[CellClass]
) -> None:
    """Twenty white cells are too many to be labelled, unless they have types."""
    corners = [(60 + 110 * (i % 5), 60 + 100 * (i // 5)) for i in range(20)]
    cells = cells_at(*[(x, y, x + 30, y + 30, 1, False) for x, y in corners])
    plain_page = annotate(plain(640, 480), cells, Labels(blood, types), "a")
    sure = typed_as([0] * 20, [True] * 20)
    doubtful = replace(sure, accepted=np.array([True] * 19 + [False]))
    pages = [
        annotate(plain(640, 480), replace(cells, types=said), Labels(blood, types), "a")
        for said in (sure, doubtful)
    ]

    def plate(page: Page, index: int, color: Color) -> int:
        x, y = corners[index]
        return int(has_color(page, color)[y - 20 : y - 2, x : x + 60].sum())

    own, white = look_of(1).color, (255, 255, 255)
    for index in range(20):
        assert plate(plain_page, index, own) == 0
        assert plate(pages[0], index, own) > 300
    assert plate(pages[1], 18, own) > 300
    assert plate(pages[1], 19, white) > 60
    assert plate(pages[0], 19, white) < plate(pages[1], 19, white)
    assert len(pages[1]) >= len(plain_page)


def test_a_type_without_room_beside_its_cell_stands_in_a_corner_of_it(
    blood: list[CellClass], types: list[CellClass]
) -> None:
    """Typed cells on all sides: the middle one's label goes inside, the others' beside them."""
    around = [(260, 20, 380, 139), (139, 140, 259, 260), (381, 140, 501, 260), (260, 261, 380, 381)]
    rows = [(*box, 1, False) for box in [(260, 140, 380, 260), *around]]
    cells = replace(cells_at(*rows), types=typed_as([0] * 5, [True] * 5))
    pixels = has_color(
        annotate(plain(640, 480), cells, Labels(blood, types), "a"), look_of(1).color
    )
    assert pixels[142:154, 262:314].mean() > 0.5
    assert not pixels[160:230, 275:365].any()  # the rest of it stays in sight
    untyped = annotate(plain(640, 480), replace(cells, types=None), Labels(blood), "a")
    assert has_color(untyped, look_of(1).color)[142:154, 262:314].mean() < 0.2


def test_the_legend_names_the_types_there_are(
    blood: list[CellClass], types: list[CellClass]
) -> None:
    cells = cells_at(*[(60, 60, 90, 90, 1, False)] * 5)
    cells = replace(cells, types=typed_as([0, 0, 2, 1, -1], [True, True, True, False, False]))
    assert [e.text for e in _type_entries(cells, types)] == [
        "2 neutrophils (NEU)",
        "1 band cell",
        "1 unclassified (?)",
    ]
    assert _type_entries(Cells.empty(), types) == []


def test_wrong_labels_are_an_error(blood: list[CellClass]) -> None:
    with pytest.raises(ValueError, match="a label is 3"):
        annotate(plain(9, 9), cells_at((1, 1, 3, 3, 3, False)), Labels(blood), "a")


def test_written_pictures_are_png_and_the_same_every_time(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    cells = make_result("a", 30).cells
    for name in ("1.png", "2.png"):
        page = annotate(plain(300, 200), cells, Labels(blood), "ü\udce9\n漢")
        write_annotated(tmp_path / "new" / name, page)
    first, second = (tmp_path / "new" / name for name in ("1.png", "2.png"))
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.format == "PNG"
        assert image.width == 600


def test_a_jpeg_is_the_same_every_time_and_keeps_the_colour_of_lines(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    page = annotate(plain(300, 200), make_result("a", 30).cells, Labels(blood), "a.png")
    for name in ("1.jpg", "2.jpg"):
        write_annotated(tmp_path / name, page)
    assert (tmp_path / "1.jpg").read_bytes() == (tmp_path / "2.jpg").read_bytes()
    with Image.open(tmp_path / "1.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (page.shape[1], page.shape[0]))
        assert JpegImagePlugin.get_sampling(image) == 0, "colour at full resolution"
        off = np.asarray(image).astype(int) - page
    assert np.sqrt((off**2).mean()) < 3


def test_a_real_field_keeps_its_cells_in_sight(
    shared_data: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    path = next(iter(sorted((shared_data / "txl-pbc" / "images").glob("*.jpg"))))
    pixels = np.asarray(Image.open(path).convert("RGB"))
    picture = Picture(pixels)
    page = annotate(picture, make_result("a", 40).cells, Labels(blood), path.name)
    zoom = -(-480 // max(picture.width_px, picture.height_px))
    shown = page[: zoom * picture.height_px, : zoom * picture.width_px][::zoom, ::zoom]
    untouched = (np.abs(shown.astype(int) - pixels) <= (0 if zoom == 1 else 20)).all(axis=2)
    assert untouched.mean() > 0.75


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a/b.tif", "a/b.tif.png"),
        ("b.tif#page=2", "b.tif#page=2.png"),
        ("a b,\nü.jpg", "a b,\nü.jpg.png"),
        ("=x.jpg", "=x.jpg.png"),
    ],
)
def test_the_path_keeps_tree_and_full_name(tmp_path: Path, image: str, expected: str) -> None:
    assert annotated_path(tmp_path, image) == tmp_path / expected


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0/", codec="utf-8"))
        | st.sampled_from(["..", ".", "", "x" * 300, "ü" * 200, "\udce9" * 260]),
        max_size=5,
    ).map("/".join)
)
def test_no_identity_leaves_the_folder_or_is_too_long(image: str) -> None:
    folder = Path("/pictures")
    path = annotated_path(folder, image)
    assert Path(os.path.normpath(path)).is_relative_to(folder)
    assert ".." not in path.parts
    assert path.name.endswith(".png")
    assert all(len(os.fsencode(part)) <= 255 for part in path.parts)


def test_different_images_have_different_pictures(tmp_path: Path) -> None:
    long = "x" * 300
    images = [
        "../a.jpg",
        "a.jpg",
        "/a.jpg",
        "__/a.jpg",
        long,
        long + "y",
        f"{long}/a",
        f"{long}y/a",
    ]
    assert len({annotated_path(tmp_path, image) for image in images}) == len(images)


def test_longest_names_can_be_written(tmp_path: Path, blood: list[CellClass]) -> None:
    path = annotated_path(tmp_path, "é" * 125 + ".jpg")  # 254 bytes before .png is added
    write_annotated(path, annotate(plain(4, 4), Cells.empty(), Labels(blood), "x"))
    assert path.exists()


def test_texts_fit_and_can_be_shown() -> None:
    font = font_of(14)
    assert fitted("short", font, 200) == "short"
    text = fitted("a folder of many/" * 10 + "end.png", font, 200)
    assert font.getlength(text) <= 200
    assert text.endswith("end.png")
    assert fitted("anything", font, 1) == "..."
    assert printable("Größe é\n\udce9") == "Gro?e e ?"


def test_the_longest_path_is_measured_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    font, measured = font_of(14), list[str]()

    def length(text: str) -> float:
        measured.append(text)
        return 7.0 * len(text)

    monkeypatch.setattr(font, "getlength", length)
    shown = fitted("folder/" * 585, font, 350)
    assert (len(shown), shown[:3], shown[-7:]) == (50, "fol", "folder/")
    assert len(measured) < 20
