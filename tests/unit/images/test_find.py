"""From INPUTs to fields: what is found, how it is called, what is passed over and why."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellcount.errors import UsageError
from cellcount.images.find import Plan, find_images

JPEG_HEAD = b"\xff\xd8\xff\xe0"


def tree(root: Path, *names: str) -> Path:
    """Files that look like JPEGs below ``root``."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG_HEAD + name.encode(errors="surrogateescape"))
    return root


def pages(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as tif:
        for _ in range(count):
            tif.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb")


def images(plan: Plan) -> list[str]:
    return [ref.image for ref in plan.refs]


def slides(plan: Plan) -> dict[str, str]:
    return {ref.image: ref.slide for ref in plan.refs}


def said(plan: Plan) -> dict[str, str]:
    return {item.path.name: item.reason for item in plan.passed_over}


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_folder_is_read_recursively_in_path_order(tmp_path: Path) -> None:
    tree(tmp_path / "slides", "b.jpg", "a.d/x.JPG", "a/z.Tiff", "a/y/1.png", "a.bmp", "a/y.webp")
    plan = find_images(["slides"])
    assert images(plan) == ["a/y/1.png", "a/y.webp", "a/z.Tiff", "a.bmp", "a.d/x.JPG", "b.jpg"]
    assert slides(plan) == {
        "a/y/1.png": "a/y", "a/y.webp": "a", "a/z.Tiff": "a", "a.bmp": "slides",
        "a.d/x.JPG": "a.d", "b.jpg": "slides",
    }  # fmt: skip
    assert plan.refs[0].path == Path("slides/a/y/1.png")
    assert plan.passed_over == ()


def test_what_gets_no_row_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "s", "a.jpg", "n.txt", "README", ".h.jpg", ".h/x.jpg", "dir.jpg/b.jpg")
    os.mkfifo(root / "pipe.jpg")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    (root / "zero.jpg").symlink_to("/dev/zero")
    plan = find_images(["s"])
    assert images(plan) == ["a.jpg", "dir.jpg/b.jpg"]
    assert said(plan) == {
        "n.txt": "not an image type (.txt)",
        "README": "not an image type",
        "dir.jpg": "a folder named like an image; the images in it are read",
        "pipe.jpg": "a pipe",
        "gone.jpg": "a link that leads nowhere",
        "loop.jpg": "a link that leads nowhere",
        "zero.jpg": "a device",
    }


def test_an_unreadable_folder_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "s", "a.jpg", "shut/b.jpg")
    (root / "shut").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # root may read everything
            tmp_path.chmod(0o755)
            os.seteuid(65534)
        plan = find_images(["s"])
    finally:
        os.seteuid(user)
        (root / "shut").chmod(0o755)
    assert images(plan) == ["a.jpg"]
    assert said(plan) == {"shut": "permission denied"}


def test_links_are_followed_once_and_the_real_name_wins(tmp_path: Path) -> None:
    root = tree(tmp_path / "s", "m/a.jpg", "z.jpg")
    tree(tmp_path / "elsewhere", "far.jpg")
    (root / "a_loop").symlink_to(root)
    (root / "b_again").symlink_to(root / "m")
    (root / "c_file.jpg").symlink_to(root / "z.jpg")
    (root / "d_far").symlink_to(tmp_path / "elsewhere")
    plan = find_images(["s"])
    assert images(plan) == ["d_far/far.jpg", "m/a.jpg", "z.jpg"]
    assert said(plan) == {
        "a_loop": "folder was read before as s",
        "b_again": "folder was read before as s/m",
        "c_file.jpg": "the same file as s/z.jpg, counted once",
    }


def test_a_file_with_several_names_is_counted_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "s", "b.jpg", "alone.jpg")
    for name in ("a.jpg", "c.jpg"):
        (root / name).hardlink_to(root / "b.jpg")
    tree(tmp_path / "s", "copy.jpg")  # another file, be it as like as can be
    plan = find_images(["s"])
    assert images(plan) == ["a.jpg", "alone.jpg", "copy.jpg"]
    once = "the same file as s/a.jpg, counted once"
    assert said(plan) == {"b.jpg": once, "c.jpg": once}


def test_several_inputs_are_told_apart_by_name(tmp_path: Path) -> None:
    for place in ("x", "y"):
        tree(tmp_path / place / "slides", "s1/a.jpg", "b.jpg")
    tree(tmp_path / "other", "c.jpg")
    plan = find_images(["x/slides", "y/slides/", "other"])
    assert slides(plan) == {
        "other/c.jpg": "other",
        "slides~x/b.jpg": "slides~x",
        "slides~x/s1/a.jpg": "slides~x/s1",
        "slides~y/b.jpg": "slides~y",
        "slides~y/s1/a.jpg": "slides~y/s1",
    }
    assert [r.path for r in plan.refs if r.image == "slides~y/b.jpg"] == [Path("y/slides/b.jpg")]


def test_single_files(tmp_path: Path) -> None:
    tree(tmp_path, "s1/a.jpg", "s2/a.jpg", "s2/b.jpg", "x/s1/c.jpg")
    assert slides(find_images(["s1/a.jpg"])) == {"a.jpg": "s1"}
    tree(tmp_path, "x/s1/a.jpg", "y/s1/d.jpg")
    assert slides(find_images(["s2/a.jpg", "x/s1/a.jpg", "s2/b.jpg", "y/s1/d.jpg"])) == {
        "a~s2.jpg": "s2", "a~s1.jpg": "s1~x", "b.jpg": "s2", "d.jpg": "s1~y",
    }  # fmt: skip


def test_a_file_given_by_name_is_known_by_its_content(tmp_path: Path) -> None:
    tree(tmp_path, "s/noname", "s/a.dat")
    (tmp_path / "s/notes.txt").write_text("hello")
    os.mkfifo(tmp_path / "s/pipe")
    plan = find_images(["s/noname", "s/a.dat", "s/notes.txt", "s/pipe"])
    assert images(plan) == ["a.dat", "noname"]
    assert said(plan) == {"notes.txt": "not an image type (.txt)", "pipe": "a pipe"}


def test_nothing_is_counted_twice(tmp_path: Path) -> None:
    tree(tmp_path / "s", "s1/a.jpg", "b.jpg")
    plan = find_images(["s", "s/", "./s/s1", "s/b.jpg"])
    assert images(plan) == ["s/b.jpg", "s/s1/a.jpg"]
    assert sorted(item.reason for item in plan.passed_over) == [
        "INPUT was named before",
        "folder was read before as s/s1",
        "the same file as s/b.jpg, counted once",
    ]


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "smear7", "a.jpg")
    monkeypatch.chdir(tmp_path / "smear7")
    assert slides(find_images(["."])) == {"a.jpg": "smear7"}


# --- patterns ---


def test_patterns_match_files_and_folders(tmp_path: Path) -> None:
    tree(tmp_path / "s", "s1/a.jpg", "s1/b.png", "s2/a.jpg", "t/a.jpg", "s1/n.txt")
    assert slides(find_images(["s/s*/a.*"])) == {"s1/a.jpg": "s1", "s2/a.jpg": "s2"}
    assert images(find_images(["s/s[12]"])) == ["s1/a.jpg", "s1/b.png", "s2/a.jpg"]
    whole = find_images(["s/**"])
    assert images(whole) == ["s1/a.jpg", "s1/b.png", "s2/a.jpg", "t/a.jpg"]
    assert said(whole) == {"n.txt": "not an image type (.txt)"}
    assert images(find_images(["s/**/b.png"])) == ["s1/b.png"]
    assert slides(find_images([f"{tmp_path}/s/s?/a.jpg"])) == {"s1/a.jpg": "s1", "s2/a.jpg": "s2"}


def test_a_literal_name_goes_before_a_pattern(tmp_path: Path) -> None:
    tree(tmp_path / "s", "a[1].jpg", "a1.jpg")
    assert images(find_images(["s/a[1].jpg"])) == ["a[1].jpg"]


def test_two_patterns_in_one_folder_share_its_name(tmp_path: Path) -> None:
    tree(tmp_path / "s", "a.jpg", "b.png")
    assert images(find_images(["s/*.jpg", "s/*.png"])) == ["s/a.jpg", "s/b.png"]


@pytest.mark.parametrize(
    ("given_input", "message"),
    [
        ("slidse", "INPUT slidse does not exist; did you mean slides?"),
        ("slides/s2/a.jpg", "slides/s2/a.jpg does not exist; did you mean slides/s1?"),
        ("slides/s1/aa.jpg", "did you mean slides/s1/a.jpg?"),
        ("zzz", "INPUT zzz does not exist$"),
        ("slides/*.gif", "INPUT slides/\\*.gif: no file matches this pattern"),
        ("", "INPUT '' is not a path"),
        ("a\0b", "is not a path"),
        ("dangling.jpg", "INPUT dangling.jpg cannot be read: a link that leads nowhere"),
    ],
)
def test_inputs_that_are_not_there(given_input: str, message: str, tmp_path: Path) -> None:
    tree(tmp_path / "slides", "s1/a.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    with pytest.raises(UsageError, match=message):
        find_images([given_input])


# --- manifests ---


def test_a_manifest_gives_identity_and_facts(tmp_path: Path) -> None:
    tree(tmp_path / "lab", "s1/a.jpg", "s1/b.jpg", "c.jpg", "not_listed.jpg")
    (tmp_path / "lab/list.CSV").write_text(
        "path,slide,specimen,stain,um_per_px,wbc_10e9_per_l\n"
        "s1/b.jpg,,P1,MGG,0.1,5.5\nc.jpg,X9,P2,,,\ns1/a.jpg,,,,,\nmissing.jpg,,,,,\n"
    )
    plan = find_images(["lab/list.CSV"])
    assert slides(plan) == {
        "c.jpg": "X9", "missing.jpg": "list", "s1/a.jpg": "s1", "s1/b.jpg": "s1",
    }  # fmt: skip
    last = plan.refs[-1]
    assert (last.specimen, last.stain, last.um_per_px, last.wbc_10e9_per_l) == (
        "P1", "MGG", 0.1, 5.5,
    )  # fmt: skip
    assert [r.um_per_px for r in find_images(["lab/list.CSV"], um_per_px=0.2).refs] == [0.2] * 4
    both = find_images(["lab/list.CSV", "lab/not_listed.jpg"])
    assert images(both)[0:2] == ["list/c.jpg", "list/missing.jpg"]
    assert "not_listed.jpg" in images(both)


def test_a_manifest_may_list_folders_duplicates_and_pipes(tmp_path: Path) -> None:
    tree(tmp_path / "lab", "s1/a.jpg", "s1/b.jpg")
    os.mkfifo(tmp_path / "lab/pipe.jpg")
    (tmp_path / "lab/l.csv").write_text("path;slide\ns1/a.jpg;A\ns1;B\ns1/a.jpg;C\npipe.jpg;D\n")
    plan = find_images(["lab/l.csv"])
    assert slides(plan) == {"s1/a.jpg": "A", "s1/b.jpg": "B"}
    assert said(plan)["pipe.jpg"] == "a pipe"
    assert [i.reason for i in plan.passed_over].count(
        "the same file as lab/s1/a.jpg, counted once"
    ) == 2


def test_a_manifest_of_images_elsewhere_never_climbs_out(tmp_path: Path) -> None:
    tree(tmp_path / "data", "s1/a.jpg", "s2/b.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/l.csv").write_text(f"path\n../data/s1/a.jpg\n{tmp_path}/data/s2/b.jpg\n")
    assert slides(find_images(["lists/l.csv"])) == {"s1/a.jpg": "s1", "s2/b.jpg": "s2"}


# --- pages and strange names ---


def test_pages_have_names_and_page_order(tmp_path: Path) -> None:
    pages(tmp_path / "s/m.tif", 11)
    pages(tmp_path / "s/one.tif", 1)
    tree(tmp_path / "s", "m.tif#page=2.jpg", "broken.tif")
    plan = find_images(["s"])
    assert images(plan) == [
        "broken.tif", *[f"m.tif#page={n}" for n in range(1, 12)], "m.tif#page=2.jpg", "one.tif",
    ]  # fmt: skip
    assert [ref.page for ref in plan.refs] == [0, *range(11), 0, 0]
    assert {ref.slide for ref in plan.refs} == {"s"}


def test_a_file_called_like_a_page_keeps_an_image_of_its_own(tmp_path: Path) -> None:
    pages(tmp_path / "s/m.tif", 2)
    tree(tmp_path / "s", "m.tif#page=2")
    plan = find_images(["s/m.tif", "s/m.tif#page=2"])
    assert len(set(images(plan))) == 3


def test_pages_are_found_by_content_and_gifs_have_one(tmp_path: Path) -> None:
    from PIL import Image

    pages(tmp_path / "s/really_a_tiff.jpg", 2)
    frames = [Image.new("L", (8, 8), v) for v in (0, 255)]
    frames[0].save(tmp_path / "s/b.gif", save_all=True, append_images=frames[1:])
    assert images(find_images(["s"])) == [
        "b.gif", "really_a_tiff.jpg#page=1", "really_a_tiff.jpg#page=2",
    ]  # fmt: skip


NAMES = ["é ü.jpg", "a,b;c.jpg", "two\nlines.jpg", "=1+1.jpg", "\udcff\udcfe.jpg", 'q"uote.jpg',
         " lead.jpg", "back\\slash.jpg", "*.jpg", "[x].jpg"]  # fmt: skip


def test_strange_names_survive(tmp_path: Path) -> None:
    tree(tmp_path / "s", *NAMES)
    plan = find_images(["s"])
    assert images(plan) == sorted(NAMES)
    assert all(ref.path.exists() for ref in plan.refs)
    for name in NAMES:
        assert images(find_images([f"s/{name}"])) == [name]


letters = st.text(st.sampled_from("ab.~"), min_size=1, max_size=3).filter(
    lambda name: not name.startswith(".")
)
paths = st.lists(letters, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + "_.jpg")


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(trees=st.lists(st.sets(paths, max_size=6), min_size=1, max_size=3))
def test_every_file_has_one_image_and_order_is_by_path(
    trees: list[set[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any trees, named alike: every file once, names unique, sorted, and below their INPUT."""
    base = tmp_path_factory.mktemp("any")
    roots = [base / str(number) / "slides" for number in range(len(trees))]
    written = set()
    for root, names in zip(roots, trees, strict=True):
        root.mkdir(parents=True)
        tree(root, *names)
        written |= {root / name for name in names}
    plan = find_images([str(root) for root in roots])
    assert {ref.path for ref in plan.refs} == written
    assert len(set(images(plan))) == len(written)
    assert images(plan) == sorted(images(plan), key=lambda image: image.split("/"))
    assert all(not ref.image.startswith(("/", "..")) and ref.slide for ref in plan.refs)
