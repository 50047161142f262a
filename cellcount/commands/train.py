"""``cellcount train``: options to settings, one call, one line of result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellcount.commands import options as shared

if TYPE_CHECKING:
    from cellcount.formats import AnnotatedSet

_SHOWN_PROBLEMS = 20


def parse_assignments(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``key=value`` texts as Python values: numbers, true, false, none, else text."""
    import json

    from cellcount.errors import UsageError

    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair!r}: expected KEY=VALUE, for example lr=0.0005")
        lowered = {"none": "null", "true": "true", "false": "false"}.get(text.lower(), text)
        try:
            values[key.strip().replace("-", "_")] = json.loads(lowered)
        except ValueError:
            values[key.strip().replace("-", "_")] = text
    return values


@click.command("detector")
@click.argument("data", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--recipe", default="default", show_default=True, help="Named preset of settings.")
@click.option("--init", metavar="NAME|DIR", help="Start from this model instead of random weights.")
@click.option("--backbone", help="timm/NAME, or the name of a plugin.")
@click.option("--pyramid", type=click.Choice(["none", "fpn", "bottom-up"]), help="Feature pyramid.")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--batch-size", type=int, help="Images per step (and process).")
@click.option("--lr", type=float, help="Largest learning rate.")
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option("--rbc-px", type=float, help="Red-cell diameter in the images' own pixels.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Other setting; repeatable."
)
@shared.annotation_format
@shared.annotation_classes
@click.option(
    "--pretrained",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Local timm .safetensors file for the backbone; nothing is downloaded.",
)
@shared.plugins
@shared.device
@click.option("--workers", default=1, show_default=True, help="Processes that prepare images.")
@click.option("--resume", is_flag=True, help="Continue after the last finished epoch.")
def train_detector(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Train a detector on annotated images.

    DATA are folders or files in COCO, Pascal VOC, YOLO, VIA, LabelMe or CSV form; several are
    joined. The run folder gets model.safetensors (what --detector takes), metrics.csv and
    curves.png. Start under torchrun to use several processes or GPUs.
    """
    from cellcount.formats import blood_classes, read_annotations
    from cellcount.training.detector import train_detector as train
    from cellcount.training.distributed import announced_ranks
    from cellcount.training.settings import TrainRun, from_recipe

    named = ("init", "backbone", "pyramid", "epochs", "batch_size", "lr", "seed", "rbc_px")
    overrides = {k: options[k] for k in named if options[k] is not None}
    overrides.update(parse_assignments(options["assignments"]))
    settings = from_recipe(options["recipe"], overrides)
    annotated = [read_annotations(p, format=options["format_"]) for p in options["data"]]
    if announced_ranks().is_first:
        for source in annotated:
            _say_problems(source)
    if options["classes"] == "blood":
        annotated = [blood_classes(a) for a in annotated]
    run = TrainRun(
        data=options["data"],
        out=options["out"],
        workers=options["workers"],
        device=options["device"],
        resume=options["resume"],
        pretrained=options["pretrained"],
        plugins=options["plugins"],
    )
    train(annotated, settings, run, click.echo)


def _say_problems(source: AnnotatedSet) -> None:
    for problem in source.problems[:_SHOWN_PROBLEMS]:
        click.echo(f"warning: {problem}", err=True)
    more = len(source.problems) - _SHOWN_PROBLEMS
    if more > 0:
        click.echo(f"warning: and {more} more problems", err=True)
