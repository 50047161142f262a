"""``cellcount datasets``: make and look at annotated images."""

from __future__ import annotations

from pathlib import Path

import click

_DENSEST = 0.95


@click.command("render")
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

    from cellcount.data.synthetic import random_spec, render_field
    from cellcount.errors import UsageError
    from cellcount.formats import BLOOD_CLASSES, write_coco
    from cellcount.records import LabelledImage

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
