"""Exports that cellcount wrote below a data set (W29): passed over there, read when named."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cellcount.datasets.annotated import AnnotatedSet
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.detect_format import read_data
from tests.counts import box_counts
from tests.faults.recipes import Fields, Run, write_coco, write_voc

CLASSES = "rbc\nwbc\nplatelet\n"


def make(form: str, fields: Fields) -> None:
    """A data set ``s`` of fields 0 and 1."""
    for i in range(2):
        fields.put(i, f"s/images/{i}.png")
    if form == "yolo":
        for i in range(2):
            fields.yolo(f"s/labels/{i}.txt", i)
        Path("s/classes.txt").write_text(CLASSES)
    elif form == "voc":
        for i in range(2):
            write_voc(f"s/Annotations/{i}.xml", f"{i}.png", fields.boxes(i))
    else:
        both = fields.annotations(0, 1) + fields.annotations(1, 2, 900)
        write_coco("s/x.json", [(1, "images/0.png"), (2, "images/1.png")], both)


@pytest.mark.parametrize(
    ("form", "to"),
    [*itertools.product(["yolo", "voc", "coco"], ["yolo", "voc", "coco"]), ("yolo", "folders")],
)
def test_a_conversion_below_its_source_is_no_part_of_it(
    fields: Fields, folder: Path, run: Run, form: str, to: str
) -> None:
    make(form, fields)
    before = read_annotations(Path("s"))
    code, _, err = run("datasets", "convert", "s", "--to", to, "--out", f"s/as_{to}")
    assert (code, "warning" in err) == (0, False)
    after = read_annotations(Path("s"))
    assert [i.path for i in after.images] == [i.path for i in before.images]
    assert box_counts(after) == box_counts(before)
    if form == "yolo" or to != "coco":  # one JSON is passed over without a picture to tell of
        (problem,) = after.problems
        assert problem.path == Path("s") / f"as_{to}"
        assert "was written by cellcount" in problem.what


@pytest.mark.parametrize("to", ["yolo", "voc", "coco", "folders"])
def test_a_conversion_is_read_where_it_is_named(
    fields: Fields, folder: Path, run: Run, to: str
) -> None:
    make("yolo", fields)
    run("datasets", "convert", "s", "--to", to, "--out", f"s/as_{to}")
    converted = read_data(Path(f"s/as_{to}"))
    count = len(fields.boxes(0)) + len(fields.boxes(1))
    if isinstance(converted, AnnotatedSet):
        assert sum(box_counts(converted).values()) == count
    else:
        assert len(converted) == count
    assert converted.problems == ()


def test_rendered_fields_are_pictures_and_no_export(fields: Fields, folder: Path) -> None:
    below = Path("set/rendered")
    below.parent.mkdir()
    below.symlink_to(fields.folder, target_is_directory=True)
    annotated = read_annotations(Path("set"))
    assert len(annotated.images) == 6
    assert annotated.problems == ()
