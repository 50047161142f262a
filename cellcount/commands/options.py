"""Options that several commands share, worded once."""

from __future__ import annotations

from pathlib import Path

import click

from cellcount.settings import DEFAULT_DETECTOR

detector = click.option(
    "--detector",
    default=DEFAULT_DETECTOR,
    show_default=True,
    metavar="NAME|DIR",
    help="Packaged model, weight file or training run.",
)
engine = click.option(
    "--engine",
    type=click.Choice(["auto", "torchvision"]),
    default="auto",
    show_default=True,
    help="What runs the detector.",
)
device = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cpu, cuda, cuda:N or mps.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Arithmetic; auto is fp32 on the CPU.",
)
plugins = click.option(
    "--plugins",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with backbone plugins; their code is run.",
)
annotation_format = click.option(
    "--format", "format_", default="auto", show_default=True, help="Annotation format."
)
annotation_classes = click.option(
    "--classes",
    type=click.Choice(["blood", "as-is"]),
    default="blood",
    show_default=True,
    help="'blood' maps names to rbc, wbc, platelet; 'as-is' keeps the data's own.",
)
