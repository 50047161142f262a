"""``cellcount models export``: a model in another program's form."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from cellcount.commands import options as shared


@cloup.command("export")
@click.argument("model", metavar="NAME|DIR|FILE")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["detectron2"]),
    required=True,
    help="The program that is to load it; it must be installed.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for config.yaml and model.pth.",
)
@shared.plugins
def models_export(model: str, format_: str, out: Path, plugins: Path | None) -> None:
    """Write a detector as config and checkpoint for Detectron2.

    The first lines of config.yaml say how to load both with Detectron2's DefaultPredictor. Images
    given to it must be at the model's scale, as analyze brings them there.
    """
    from cellcount.engines.base import engine_class
    from cellcount.models.weights import resolve

    engine_class(format_)  # says what is missing where it is not installed
    from cellcount.engines.detectron2.engine import export

    for path in export(resolve(model), out, plugins):
        click.echo(f"wrote {path}")
