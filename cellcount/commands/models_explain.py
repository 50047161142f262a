"""``cellcount models explain``: a picture of where a model looked for one cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

from cellcount.commands import options as shared
from cellcount.errors import UsageError


@cloup.command("explain")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--cell",
    required=True,
    type=int,
    metavar="N",
    help="Its number in cells.csv of an analyze of this image alone.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Picture to write (PNG).",
)
@shared.detector
@shared.refine_steps
@click.option(
    "--um-per-px",
    type=float,
    metavar="NUMBER",
    help="Micrometres per pixel of the image; else from the file, else estimated.",
)
@shared.engine
@shared.device
@shared.precision
@shared.plugins
def models_explain(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Draw where a detector with attention refinement looked for one cell.

    One panel per look: what was looked at, and how the box moved. Give --um-per-px, --refine-steps
    and the like as they were given to analyze, so that the cell has the same number.
    """
    from cellcount.explain.explain import explain
    from cellcount.explain.picture import write_attention
    from cellcount.settings import AnalyzeRequest, AnalyzeSettings, OutputSettings

    names = ("detector", "engine", "device", "precision", "um_per_px", "refine_steps", "plugins")
    settings = AnalyzeSettings(**{name: options[name] for name in names})
    image, picture = options["image"], options["out"]
    if Path(image).absolute() == picture.absolute():
        raise UsageError(f"{picture} is both an input and an output; give --out another name")
    # No table is written: the name of the picture stands for it, without its ending.
    request = AnalyzeRequest((str(image),), settings, OutputSettings(picture.with_suffix("")))
    explained = explain(request, options["cell"])
    write_attention(picture, explained.pixels, explained.trace, explained.title)
    click.echo(f"{explained.title}\nwrote {picture}")
