"""``cellcount datasets``: make, look at and convert annotated images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from cellcount.commands import options as shared
from cellcount.commands.terminal.reports import (
    counter,
    say_problems,
    stdout_console,
    write_csv,
    write_json,
)
from cellcount.errors import UsageError
from cellcount.files.text import number_of

if TYPE_CHECKING:
    from cellcount.datasets.annotated import AnnotatedSet
    from cellcount.datasets.crop_set import CropSet

_DENSEST = 0.95
_FILE = click.Path(dir_okay=False, path_type=Path)


@cloup.command("render")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--fields",
    default=10,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of fields.",
)
@click.option("--size", default="640x480", show_default=True, help="WIDTHxHEIGHT in pixels.")
@click.option(
    "--density",
    default="0.03-0.85",
    show_default=True,
    help="Range of the area covered by red cells.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Seed of everything random.",
)
def datasets_render(out: Path, fields: int, size: str, density: str, seed: int) -> None:
    """Render smear fields with exact truth (COCO file truth.json beside images/).

    The look of every field (stain, light, focus, density, cell sizes) is drawn at random; seeds
    that sample_data uses are never drawn.
    """
    import numpy as np

    from cellcount.core.blood import BLOOD_CLASSES
    from cellcount.core.records import LabelledImage
    from cellcount.datasets.writers import write_coco
    from cellcount.rendering.field import random_spec, render_field

    try:
        width, height = (int(x) for x in size.lower().split("x"))
        low, high = (float(x) for x in density.split("-"))
        if min(width, height) < 1 or not 0 <= low <= high <= _DENSEST:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--size {size!r} --density {density!r}: expected forms are 640x480 and 0.03-0.85 "
            f"(shares up to {_DENSEST})"
        ) from None
    from PIL import Image

    rng = np.random.default_rng(seed)
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for number in range(fields):
        rendered = render_field(random_spec(rng, width, height, density=(low, high)))
        path = folder / f"field-{number:05d}.png"
        Image.fromarray(rendered.pixels).save(path)
        images.append(LabelledImage(path, rendered.boxes_xyxy, rendered.labels, width, height))
    write_coco(out / "truth.json", images, BLOOD_CLASSES)
    click.echo(f"{fields} fields and truth.json written to {out}")


@cloup.command("inspect")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@shared.data_format
@shared.fine
@click.option("--picture", type=_FILE, help="Write the cells per class as a chart (PNG).")
@click.option("--copies", type=_FILE, help="Write every pair of near-identical pictures as CSV.")
@click.option("--json", "json_", type=_FILE, help="Write everything as JSON.")
def datasets_inspect(**options: Any) -> int:  # noqa: ANN401 -- click passes options by name
    """Look at a data set before training on it.

    DATA are single cells (a folder per class, a table, LMU's or MLL's archive) or boxes in any
    format that train detector reads. Every picture is decoded once. Pictures that show the same,
    flipped and turned ones too, are found within and across splits: a copy of a training picture
    in the test split makes a model look better than it is.

    \b
    Exit codes:
      0  nothing is wrong
      1  something is broken or there more than once; it is listed
      3  nothing could be read
    """
    from cellcount.commands.terminal.tables_data import (
        COPY_COLUMNS,
        copy_rows,
        inspection_dict,
        show_inspection,
    )
    from cellcount.datasets.detect_format import read_data
    from cellcount.datasets.inspection import inspect_data, picture_count
    from cellcount.errors import EXIT_OK, EXIT_SOME_FAILED
    from cellcount.files.atomic import check_writable

    for path in (options["picture"], options["copies"], options["json_"]):
        if path is not None:
            check_writable(path)
    data = read_data(
        options["data"], format=options["format_"], labels="code" if options["fine"] else "class"
    )
    with counter("looking", picture_count(data)) as tick:
        found = inspect_data(data, on_picture=tick)
    show_inspection(stdout_console(), found, options["data"])
    if options["picture"]:
        from cellcount.outputs.charts import draw_counts

        draw_counts(options["picture"], found.counts, unit="cells", title=options["data"].name)
    if options["copies"]:
        write_csv(options["copies"], copy_rows(found), columns=COPY_COLUMNS)
    if options["json_"]:
        write_json(options["json_"], inspection_dict(found))
    return EXIT_OK if found.is_clean else EXIT_SOME_FAILED


@cloup.command("convert")
@click.argument("source", metavar="SRC", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["coco", "voc", "yolo", "folders"]),
    help="What to write; 'folders' is a folder per class of single cells.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder to write.")
@shared.data_format
@click.option("--split", help="Convert this split alone.")
@click.option(
    "--classes",
    type=click.Choice(["blood", "as-is"]),
    default="as-is",
    show_default=True,
    help="'blood' maps names to rbc, wbc, platelet; 'as-is' keeps the data's own.",
)
@click.option(
    "--window",
    default=3.2,
    show_default=True,
    type=click.FloatRange(0.1, 50),
    help="With folders: side of the cut window in red-cell diameters.",
)
@click.option(
    "--rbc-px",
    type=click.FloatRange(1, 4096),
    help="With folders: red-cell diameter in the fields' pixels; else from their red-cell boxes.",
)
@click.option(
    "--reviewed",
    type=click.Choice(["cells", "images"]),
    help="Of a run: the cells that people corrected or confirmed, or every cell of their images; "
    "by default cells for folders, else images.",
)
def datasets_convert(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Write a data set in another form.

    SRC is whatever datasets inspect reads. COCO is one file, annotations.json, which points at the
    pictures where they are; the other forms hold copies of them. With --to folders each box is cut
    out in a window of the same size for all cells of a field, because the size of a cell is
    diagnostic; splits.csv keeps splits, patients and slides.

    SRC may also be the counts.csv of a run that people reviewed: its fields become boxes with
    types (--classes blood leaves the classes alone), its cells a folder per type. A detector that
    learns from fields needs every cell of them, so look at all of them first.
    """
    from cellcount.datasets.annotated import AnnotatedSet
    from cellcount.datasets.classes import blood_classes
    from cellcount.datasets.convert import convert_data

    data = _data_of(options)
    say_problems(data.problems)
    if options["split"]:
        data = data.subset(options["split"])
    if options["classes"] == "blood" and isinstance(data, AnnotatedSet):
        data = blood_classes(data)
    cells = sum(len(i.labels) for i in data.images) if isinstance(data, AnnotatedSet) else len(data)
    with counter("writing", cells, "cell") as tick:
        problems = convert_data(
            data,
            options["target"],
            options["out"],
            window_rbc=options["window"],
            rbc_px=options["rbc_px"],
            on_cell=tick,
        )
    say_problems(problems)
    click.echo(f"{number_of(cells, 'cell')} written to {options['out']}")


def _data_of(options: Mapping[str, Any]) -> CropSet | AnnotatedSet:
    """The data set that is to be converted: as it lies on disk, or of a reviewed run."""
    from cellcount.analysis.stored_results import is_run, stored_results
    from cellcount.datasets.detect_format import read_data

    source, which = options["source"], options["reviewed"]
    if options["format_"] != "auto" or not is_run(source):
        if which is not None:
            raise UsageError(
                f"--reviewed {which} is of a run that people reviewed, but {source} is not read as "
                "one; name the counts.csv of cellcount analyze without --format, or leave out "
                "--reviewed"
            )
        return read_data(source, format=options["format_"])
    from cellcount.review.training_data import reviewed_cells, reviewed_fields

    with stored_results(source, work="cellcount datasets convert") as stored:
        if options["target"] == "folders":
            return reviewed_cells(stored, which or "cells")
        return reviewed_fields(stored, which or "images", typed=options["classes"] == "as-is")
