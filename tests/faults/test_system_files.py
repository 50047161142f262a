"""Thumbnails and bins of NAS devices, viewers and operating systems (W28): left out, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount.images.find import find_images
from tests.faults.counting import count, is_near
from tests.faults.recipes import Fields, Run

FOLDERS = [
    "@eaDir/f0.jpg", ".@__thumb", "#recycle", "@Recycle", "@Recently-Snapshot", "$RECYCLE.BIN",
    "System Volume Information", "lost+found", "__MACOSX", ".AppleDouble", ".thumbnails", "Thumbs",
    "thumbnails", "_thumb", ".Trash-1000", "Network Trash Folder", "Previews.lrdata",
]  # fmt: skip


def test_thumbnails_of_a_synology_are_not_counted(fields: Fields, folder: Path, run: Run) -> None:
    fields.image(0).save("f0.jpg", quality=95)
    Path("@eaDir/f0.jpg").mkdir(parents=True)
    fields.image(0).resize((320, 240)).save("@eaDir/f0.jpg/SYNOPHOTO_THUMB_M.jpg")
    counted = count(run, ".")
    assert list(counted.rows) == ["f0.jpg"]
    assert is_near(counted.rows["f0.jpg"].cells, (46, 7, 3))
    assert "thumbnails and bin of a NAS" in counted.passed_over["@eaDir"]


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_by_their_names(name: str, fields: Fields, folder: Path) -> None:
    fields.put(0, "s/a.png")
    fields.put(1, f"s/below/{name}/a.png")
    plan = find_images(["s"])
    assert [ref.image for ref in plan.refs] == ["a.png"]
    assert [str(item.path) for item in plan.passed_over] == [f"s/below/{name.split('/')[0]}"]


@pytest.mark.parametrize("pattern", ["s/**/*.png", "s/*/*.png", "s/*"])
def test_a_pattern_does_not_reach_into_them(pattern: str, fields: Fields, folder: Path) -> None:
    fields.put(0, "s/x/a.png")
    fields.put(1, "s/@eaDir/a.png")
    plan = find_images([pattern])
    assert [ref.image for ref in plan.refs] == ["x/a.png"]
    assert "s/@eaDir" in [str(item.path) for item in plan.passed_over]


@pytest.mark.parametrize(
    "name", ["SYNOFILE_THUMB_XL.png", "f_thumb.png", "thumb_f.png", "f-thumbnail.png", "tn_f.png"]
)
def test_thumbnails_beside_their_pictures(name: str, fields: Fields, folder: Path) -> None:
    fields.put(0, "s/f.png")
    fields.put(1, f"s/{name}")
    plan = find_images(["s"])
    assert [ref.image for ref in plan.refs] == ["f.png"]
    assert "thumbnail" in plan.passed_over[0].reason


def test_apple_doubles_are_said_by_their_number(fields: Fields, folder: Path) -> None:
    for i in range(3):
        fields.put(i, f"s/{i}.png")
        Path(f"s/._{i}.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    plan = find_images(["s"])
    assert len(plan.refs) == 3
    (said,) = plan.passed_over
    assert (said.path.name, said.reason) == ("._*", "3 AppleDouble files of a Mac")


def test_what_only_looks_like_one_is_counted(fields: Fields, folder: Path) -> None:
    for name in ("recycled slides/a.png", "thumbprint/b.png", "left_thumb.png", "eaDir/c.png"):
        fields.put(0, f"s/{name}")
    plan = find_images(["s"])
    assert len(plan.refs) == 4
    assert plan.passed_over == ()


def test_who_names_the_folder_gets_it_counted(fields: Fields, folder: Path) -> None:
    fields.put(0, "s/thumbnails/a.png")
    fields.put(1, "s/@eaDir/b.png")
    assert [ref.image for ref in find_images(["s/thumbnails"]).refs] == ["a.png"]
    Path("m.csv").write_text("path\ns/@eaDir/b.png\n")
    assert len(find_images(["m.csv"]).refs) == 1
