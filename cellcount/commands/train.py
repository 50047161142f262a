"""``cellcount train``: options to settings, one call, one line of result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

from cellcount.commands import options as shared
from cellcount.commands.terminal.reports import say_problems


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


_split = click.option(
    "--split",
    help="given (the data's own; where it has none, 64/16/20 is made), all, or shares at random: "
    "64/16/20, 90/10, 80/20, 70/15/15, …",
)
_rbc_px = click.option("--rbc-px", type=float, help="Red-cell diameter in the images' own pixels.")
_recipe = click.option(
    "--recipe", default="default", show_default=True, help="Named preset of settings."
)
_init = click.option(
    "--init", metavar="NAME|DIR", help="Start from this model instead of random weights."
)
_backbone = click.option("--backbone", help="timm/NAME, or the name of a plugin.")
_pretrained = click.option(
    "--pretrained",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Local timm .safetensors file for the backbone; nothing is downloaded.",
)
_epochs = click.option("--epochs", type=int, help="Passes over the training data.")
_workers = click.option(
    "--workers", default=1, show_default=True, help="Processes that prepare the training data."
)
_lr = click.option("--lr", type=float, help="Largest learning rate.")
_seed = click.option("--seed", type=int, help="Seed of everything random.")
_set = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Other setting; repeatable."
)
_run = cloup.option_group(
    "Run",
    click.option(
        "--out", required=True, type=click.Path(path_type=Path), help="Folder of the run."
    ),
    click.option("--resume", is_flag=True, help="Continue after the last finished epoch."),
)


@cloup.command("detector")
@click.argument("data", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_run
@cloup.option_group("Data", shared.annotation_format, shared.annotation_classes, _split, _rbc_px)
@cloup.option_group(
    "Model",
    _recipe,
    _init,
    _backbone,
    click.option(
        "--pyramid", type=click.Choice(["none", "fpn", "bottom-up"]), help="Feature pyramid."
    ),
    click.option("--refine-steps", type=int, metavar="N", help="Looks of attention refinement."),
    _pretrained,
    shared.plugins,
)
@cloup.option_group(
    "Training",
    _epochs,
    click.option("--batch-size", type=int, help="Images per step (and process)."),
    _lr,
    click.option(
        "--refine-objective",
        type=click.Choice(["supervised", "actor-critic"]),
        help="Objective of the looks; actor-critic goes on from a supervised --init.",
    ),
    _seed,
    _set,
)
@cloup.option_group(
    "Computing",
    shared.training_engine,
    shared.device,
    _workers,
)
def train_detector(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Train a detector on annotated images.

    DATA are folders or files in COCO, Pascal VOC, YOLO, VIA, LabelMe or CSV form; several are
    joined. The run folder gets model.safetensors (what --detector takes), metrics.csv and
    curves.png. Start under torchrun to use several processes or GPUs.
    """
    from cellcount.datasets.annotations import read_annotations
    from cellcount.datasets.classes import blood_classes
    from cellcount.training.detector.start import settings_of
    from cellcount.training.detector.train import train_detector as train
    from cellcount.training.distributed import announced_ranks
    from cellcount.training.settings import TrainRun

    overrides = {k: options[k] for k in _DETECTOR_SETTINGS if options[k] is not None}
    overrides.update(parse_assignments(options["assignments"]))
    settings = settings_of(options["recipe"], overrides)
    annotated = [read_annotations(p, format=options["format_"]) for p in options["data"]]
    if announced_ranks().is_first:
        for source in annotated:
            say_problems(source.problems)
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
        engine=options["engine"],
    )
    train(annotated, settings, run, click.echo)


@cloup.command("classifier")
@click.argument("data", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_run
@cloup.option_group(
    "Data",
    shared.crop_format,
    click.option("--taxonomy", metavar="NAME|FILE", help="Whose types the labels are."),
    shared.fine,
    click.option("--map", "type_map", metavar="SOURCE:TARGET", help="Learn coarser types."),
    _split,
    click.option(
        "--group", type=click.Choice(["patient"]), help="Keep the cells of a patient together."
    ),
    _rbc_px,
    click.option(
        "--window",
        "window_rbc",
        type=float,
        help="Side of the window in red-cell diameters; 0: the whole picture.",
    ),
    click.option("--contour", is_flag=True, help="Crop to the centre-most contour first."),
)
@cloup.option_group(
    "Model",
    _recipe,
    _init,
    _backbone,
    click.option(
        "--scheme",
        type=click.Choice(["softmax", "ovr"]),
        help="One network, or one per type against the rest.",
    ),
    click.option(
        "--prior",
        type=click.Choice(["uniform", "profile"]),
        help="Mixture of types that probabilities are stated at.",
    ),
    _pretrained,
    shared.plugins,
)
@cloup.option_group(
    "Training",
    _epochs,
    click.option("--batch-size", type=int, help="Cells per step (and process)."),
    _lr,
    click.option(
        "--balance",
        metavar="KIND",
        help="imbalanced-sampler, resample:N, class-weights or none.",
    ),
    _seed,
    _set,
)
@cloup.option_group(
    "Computing",
    shared.device,
    _workers,
)
def train_classifier(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Train a classifier on labelled cells.

    DATA are folders with one folder per class, tables (path,label[,split,patient,rbc_px]), the
    LMU and MLL archives as they unpack, or boxes with types; several are joined. The run folder
    gets model.safetensors (what --classifier takes), metrics.csv, curves.png and confusion.png.
    """
    from cellcount.training.classifier.data import read_training_crops
    from cellcount.training.classifier.settings import classifier_recipe
    from cellcount.training.classifier.start import settings_of
    from cellcount.training.classifier.train import train_classifier as train
    from cellcount.training.distributed import announced_ranks
    from cellcount.training.settings import TrainRun

    overrides = {k: options[k] for k in _CLASSIFIER_SETTINGS if options[k] not in (None, False)}
    overrides.update(parse_assignments(options["assignments"]))
    if init := overrides.get("init"):
        overrides = settings_of(init, options["recipe"]) | overrides
    settings = classifier_recipe(options["recipe"], overrides)
    crops = read_training_crops(options["data"], fine=settings.fine, format=options["format_"])
    if announced_ranks().is_first:
        say_problems(crops.problems)
    where = ("data", "out", "workers", "device", "resume", "pretrained", "plugins")
    train(crops, settings, TrainRun(**{k: options[k] for k in where}), click.echo)


_DETECTOR_SETTINGS = (
    "init", "backbone", "pyramid", "refine_steps", "refine_objective", "epochs", "batch_size", "lr",
    "seed", "rbc_px", "split",
)  # fmt: skip
_CLASSIFIER_SETTINGS = (
    "init", "backbone", "scheme", "balance", "split", "group", "type_map", "taxonomy", "fine",
    "rbc_px", "window_rbc", "contour", "prior", "epochs", "batch_size", "lr", "seed",
)  # fmt: skip
