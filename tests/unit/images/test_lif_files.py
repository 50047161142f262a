"""Images of Leica's LIF files are fields with their colours and scale, or are told why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import cellcount
from cellcount.core.records import ImageRef, Picture
from cellcount.errors import ImageError
from cellcount.images import lif_files, optional_formats
from cellcount.images.find import find_images
from cellcount.images.known_formats import read_formats
from cellcount.images.read import probe_size, read_image
from cellcount.images.scale import RBC_DIAMETER_UM
from cellcount.rendering.field import FieldSpec, render_field
from tests.leica_files import LeicaImage, write_lif

pytest.importorskip("liffile", reason="needs liffile (extra: cameras)")

MAX = 1_000_000


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return render_field(FieldSpec(90, 60, 4, 24.0, 0.3)).pixels


def read(path: Path, page: int = 0, max_pixels: int = MAX) -> Picture:
    return read_image(ImageRef(path, "a", "s", page=page), max_pixels=max_pixels)


def stored(pixels: NDArray[np.uint8], form: str) -> LeicaImage:
    """An image in one of the forms in which cameras leave colours."""
    if form == "planes":
        return LeicaImage(np.ascontiguousarray(pixels.transpose(2, 0, 1)), "CYX", "RGB")
    order = ["RGB".index(colour) for colour in form]
    return LeicaImage(np.ascontiguousarray(pixels[..., order]), "YXS", form)


@pytest.mark.parametrize("form", ["BGR", "RGB", "GRB", "planes"])
def test_colours_are_those_that_were_stored(
    tmp_path: Path, pixels: NDArray[np.uint8], form: str
) -> None:
    path = tmp_path / "a.lif"
    write_lif(path, [stored(pixels, form)])
    picture = read(path)
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.um_per_px == pytest.approx(0.1)
    assert picture.cautions == ()
    assert probe_size(ImageRef(path, "a", "s"), max_pixels=MAX) == (90, 60)


def test_images_stored_column_by_column_stand_upright(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    grey, turned = pixels[..., 1], np.ascontiguousarray(pixels.swapaxes(0, 1))
    images = [LeicaImage(turned[..., 1].copy(), "XY", ""), LeicaImage(turned, "XYS", "RGB")]
    write_lif(tmp_path / "a.lif", images)
    np.testing.assert_array_equal(
        read(tmp_path / "a.lif", 0).pixels, np.repeat(grey[..., None], 3, 2)
    )
    np.testing.assert_array_equal(read(tmp_path / "a.lif", 1).pixels, pixels)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_grey_and_deep_samples_keep_their_most_significant_bits(
    tmp_path: Path, pixels: NDArray[np.uint8], bits: int
) -> None:
    grey = pixels[..., 1]
    deep = grey if bits == 8 else grey.astype(np.uint16) << (bits - 8)
    colour = pixels if bits == 8 else pixels.astype(np.uint16) << (bits - 8)
    images = [LeicaImage(deep, "YX", "", bits), LeicaImage(colour, "YXS", "RGB", bits, name="2")]
    write_lif(tmp_path / "a.lif", images)
    np.testing.assert_array_equal(
        read(tmp_path / "a.lif", 0).pixels, np.repeat(grey[..., None], 3, 2)
    )
    np.testing.assert_array_equal(read(tmp_path / "a.lif", 1).pixels, pixels)


def test_unused_bits_are_cautioned(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    write_lif(tmp_path / "a.lif", [LeicaImage(pixels.astype(np.uint16) << 4, "YXS", "RGB", 16)])
    (caution,) = read(tmp_path / "a.lif").cautions
    assert "as in a picture of 12 bits; if it is one, export it in LAS X" in caution


@pytest.mark.parametrize("um_per_px", [(0.1, 0.2), (50.0, 50.0), (0.0, 0.0)])
def test_a_scale_that_cannot_be_meant_is_none(
    tmp_path: Path, pixels: NDArray[np.uint8], um_per_px: tuple[float, float]
) -> None:
    write_lif(tmp_path / "a.lif", [LeicaImage(pixels[..., 0].copy(), "YX", "", 8, um_per_px)])
    assert read(tmp_path / "a.lif").um_per_px is None


def test_each_image_is_a_field_and_stacks_are_passed_over(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    stack = np.stack([pixels[..., 0]] * 3)
    images = [
        LeicaImage(pixels, "YXS", "RGB", name="first"),
        LeicaImage(stack, "ZYX", "", name="stack"),
        LeicaImage(pixels[::-1].copy(), "YXS", "RGB", name="second"),
        LeicaImage(stack, "CYX", "GRR", name="fluorescence"),
    ]
    write_lif(tmp_path / "a.lif", images)
    plan = find_images([str(tmp_path)])
    assert [ref.image for ref in plan.refs] == ["a.lif#page=1", "a.lif#page=3"]
    np.testing.assert_array_equal(read_image(plan.refs[1], max_pixels=MAX).pixels, pixels[::-1])
    assert [(item.path.name, item.reason) for item in plan.passed_over] == [
        ("a.lif#page=2", "not a field: 3 planes in depth; export it in LAS X as TIFF (RGB, 8 bit)"),
        ("a.lif#page=4", "not a field: 3 channels; export it in LAS X as TIFF (RGB, 8 bit)"),
    ]


def test_images_beside_a_damaged_one_are_read(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    sound = stored(pixels, "BGR")  # all three have one name
    write_lif(tmp_path / "a.lif", [sound, LeicaImage(pixels, "YXS", "RGB", bits=99), sound])
    plan = find_images([str(tmp_path)])
    assert [ref.page for ref in plan.refs] == [0, 1, 2]
    for page in (0, 2):
        np.testing.assert_array_equal(read_image(plan.refs[page], max_pixels=MAX).pixels, pixels)
    with pytest.raises(ImageError, match="damaged LIF"):
        read_image(plan.refs[1], max_pixels=MAX)


def test_images_of_lifetimes_are_passed_over(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    lifetimes = '<Element Name="F"><Data><SingleMoleculeDetection IsImage="true"/></Data></Element>'
    write_lif(tmp_path / "a.lif", [stored(pixels, "BGR")], beside=lifetimes)
    plan = find_images([str(tmp_path)])
    assert [ref.image for ref in plan.refs] == ["a.lif"]
    (item,) = plan.passed_over
    assert item.path.name == "a.lif#page=2"
    assert "fluorescence lifetimes" in item.reason


def test_a_file_is_known_by_its_content(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    write_lif(tmp_path / "a.tif", [stored(pixels, "BGR")])
    (tmp_path / "b.lif").write_text("no LIF file")
    plan = find_images([str(tmp_path)])
    assert [ref.image for ref in plan.refs] == ["a.tif", "b.lif"]
    np.testing.assert_array_equal(read_image(plan.refs[0], max_pixels=MAX).pixels, pixels)
    with pytest.raises(ImageError, match="not an image"):
        read_image(plan.refs[1], max_pixels=MAX)


def test_without_liffile_the_reason_says_what_to_install(
    tmp_path: Path, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lif(tmp_path / "a.lif", [stored(pixels, "BGR")])
    write_lif(tmp_path / "named", [stored(pixels, "BGR")])
    for module in (lif_files, optional_formats):
        monkeypatch.setattr(module, "has_liffile", lambda: False)
    said = "read by liffile: pip install 'cellcount.cameras.', or export it in LAS X"
    for given in (tmp_path, tmp_path / "a.lif", tmp_path / "named"):
        plan = find_images([str(given)])
        assert plan.refs == ()
        assert any("pip install 'cellcount[cameras]'" in one.reason for one in plan.passed_over)
    with pytest.raises(ImageError, match=said):
        read(tmp_path / "a.lif")
    monkeypatch.setattr("cellcount.images.known_formats.has_liffile", lambda: False)
    assert read_formats()[2]["cameras"] == ["Leica LIF", "Leica LOF"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"claims": {"X": 4_000_000_000}, "samples": np.zeros((9, 9), np.uint8), "axes": "YX",
          "colours": ""}, "the limit is 1000000; raise --max-pixels"),
        ({"claims": {"X": 91}}, "damaged LIF|truncated LIF"),
        ({"claims": {"Y": -1}}, "it has no width and height"),
        ({"colours": "RGG"}, "3 channels that are not red, green and blue"),
        ({"samples": np.zeros((9, 9), np.float32), "axes": "YX", "colours": "", "bits": 32},
         "samples of 32 bits .float32.; export it in LAS X"),
        ({"samples": np.zeros((5, 9, 9), np.uint8), "axes": "TYX", "colours": ""},
         "5 points in time; export it in LAS X"),
        ({"samples": np.zeros((5, 9, 9), np.uint8), "axes": "MYX", "colours": ""}, "5 tiles"),
        ({"samples": np.zeros((9,), np.uint8), "axes": "X", "colours": ""}, "no width and height"),
        ({"bits": 99}, "damaged LIF: invalid resolution=99"),
    ],
)  # fmt: skip
def test_what_is_no_field_is_told_in_a_sentence(
    tmp_path: Path, pixels: NDArray[np.uint8], change: dict[str, Any], said: str
) -> None:
    given: dict[str, Any] = {"samples": pixels, "colours": "RGB"}
    write_lif(tmp_path / "a.lif", [LeicaImage(**(given | change))])
    with pytest.raises(ImageError, match=said) as error:
        read(tmp_path / "a.lif")
    assert "\n" not in str(error.value)


def test_a_file_cut_anywhere_is_refused_and_gives_no_black_field(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    path = tmp_path / "a.lif"
    write_lif(path, [stored(pixels, "BGR")])
    whole = path.read_bytes()
    for size in (4, 9, 12, 13, 500, len(whole) // 2, len(whole) - pixels.nbytes, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ImageError):
            read(path)


def test_damaged_files_are_read_or_refused_and_nothing_else(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    path, rng = tmp_path / "a.lif", np.random.default_rng(5)
    small = pixels[:20, :30]
    write_lif(path, [stored(small, "BGR"), LeicaImage(small[..., 0].copy(), "YX", "")])
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    behind_xml = len(whole) - small.nbytes - small[..., 0].nbytes - 200
    reasons: list[str] = []
    for _ in range(300):
        damaged = whole.copy()
        places = rng.integers(0, rng.choice([60, behind_xml, len(whole)]), rng.integers(1, 9))
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        for page in (0, 1):
            try:
                assert read(path, page).pixels.size <= 3 * MAX
            except ImageError as error:
                reasons.append(str(error))
    assert 100 < len(reasons) < 600
    assert not any("\n" in reason for reason in reasons)


def test_entities_are_not_unfolded_to_gigabytes(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "laughs">{levels}]>'
    write_lif(tmp_path / "a.lif", [], beside="<Element>&e11;</Element>", before=bomb)
    with pytest.raises(ImageError, match="damaged LIF"):
        read(tmp_path / "a.lif")


def test_no_other_file_is_opened_on_behalf_of_one(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    write_lif(tmp_path / "other.lif", [stored(pixels, "BGR")])
    write_lif(tmp_path / "a.lif", [], beside='<Reference File="other.lif"/>')
    with pytest.raises(ImageError, match="whose images lie in other files"):
        read(tmp_path / "a.lif")
    write_lif(tmp_path / "b.lif", [])
    with pytest.raises(ImageError, match="a LIF file without images"):
        read(tmp_path / "b.lif")


def test_a_field_counts_alike_as_lif_and_as_png(tmp_path: Path, repo_root: Path) -> None:
    field = render_field(FieldSpec(160, 120, 1, 24, 0.3, 2, 3, debris=0)).pixels
    (tmp_path / "slide").mkdir()
    Image.fromarray(field).save(tmp_path / "slide" / "a.png")
    write_lif(tmp_path / "slide" / "b.lif", [stored(field, "BGR"), stored(field[::-1], "RGB")])
    detector = repo_root / "tests" / "golden" / "tiny.safetensors"
    results = cellcount.analyze(
        tmp_path, detector=detector, classifier="none", um_per_px=RBC_DIAMETER_UM / 24
    )
    fields = results.fields.set_index("image")
    assert list(fields.index) == ["slide/a.png", "slide/b.lif#page=1", "slide/b.lif#page=2"]
    assert results.fields["n_rbc"].min() > 3
    columns = ["status", "width_px", "height_px", "focus", "cells", "n_rbc", "n_wbc"]
    png, lif = (fields.loc[name, columns] for name in list(fields.index)[:2])
    assert list(png) == list(lif)
    np.testing.assert_array_equal(results.pixels("slide/b.lif#page=2"), field[::-1])
