"""Options that several commands share, worded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cellcount.errors import UsageError
from cellcount.outputs.forms import BUILT_IN, COUNTS, FORMS, OutputForm
from cellcount.plugins import OUTPUTS, available
from cellcount.settings import (
    AUTO_CLASSIFIER,
    DEFAULT_DETECTOR,
    DEFAULT_MAX_PIXELS,
    MAX_REFINE_STEPS,
    NO_STAIN_REFERENCE,
    PACKAGED_CLASSIFIER,
    CsvForm,
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

SEPARATORS = (",", ";", "tab")

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


def _together(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order in which they are named."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _option_of(form: OutputForm) -> Decorator:
    kind = _FILE if form.kind == "file" else _FOLDER
    return click.option(form.option, type=kind, help=form.help)


class _PluginForms(click.Option):
    """Lists in the help, without importing any, the forms that installed plugins offer."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        offered = ", ".join(f"{name} ({source})" for name, source in available(OUTPUTS).items())
        if record is None or not offered:
            return record
        return record[0], f"{record[1]}  Installed: {offered}."


def _named_paths(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> dict[str, Path]:
    """The paths of the forms of plugins, by name.

    Raises:
        UsageError: one is not NAME=PATH, is named twice, or has an option of its own.
    """
    named: dict[str, Path] = {}
    for text in values:
        name, _, path = text.partition("=")
        if not name or not path:
            raise UsageError(f"--output is {text!r}, expected NAME=PATH")
        if name in BUILT_IN:
            raise UsageError(f"--output {text}: this form has an option of its own, --{name} PATH")
        if name in named:
            raise UsageError(f"--output names {name} twice; give one path")
        named[name] = Path(path)
    return named


tables = _together(
    click.option(COUNTS.option, required=True, type=_FILE, help=COUNTS.help),
    *(_option_of(form) for form in FORMS if not form.for_programs),
)
exports = _together(
    *(_option_of(form) for form in FORMS if form.for_programs),
    click.option(
        "--output",
        "plugin_forms",
        cls=_PluginForms,
        multiple=True,
        metavar="NAME=PATH",
        callback=_named_paths,
        help="Also write the form NAME of an installed plugin; again for more.",
    ),
)
detector = click.option(
    "--detector",
    default=DEFAULT_DETECTOR,
    show_default=True,
    metavar="NAME|DIR",
    help="Packaged model, weight file or training run.",
)
classifier_or_none = click.option(
    "--classifier",
    default=AUTO_CLASSIFIER,
    show_default=True,
    metavar="NAME|DIR|none",
    help="Model that types the cells; auto is the packaged one that goes with the detector, "
    "none leaves cells untyped.",
)
classifier = click.option(
    "--classifier",
    default=PACKAGED_CLASSIFIER,
    show_default=True,
    metavar="NAME|DIR",
    help="Packaged model, weight file or training run.",
)
type_map = click.option(
    "--map",
    "type_map",
    metavar="SOURCE:TARGET",
    help="Report coarser types, for example mll-21:lineage-5.",
)
engine = click.option(
    "--engine",
    type=click.Choice(["auto", "torchvision", "detectron2", "openvino"]),
    default="auto",
    show_default=True,
    help="Library that runs the models; auto is Detectron2 where it is installed, else "
    "torchvision. openvino is for CPUs.",
)
training_engine = click.option(
    "--engine",
    type=click.Choice(["auto", "torchvision", "detectron2"]),
    default="auto",
    show_default=True,
    help="Library that trains the detector; auto is Detectron2 where it is installed.",
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
refine_steps = click.option(
    "--refine-steps",
    type=click.IntRange(0, MAX_REFINE_STEPS),
    metavar="N",
    help="Looks of attention refinement at every cell, 0 for none; else as the model learned.",
)
profile = click.option(
    "--profile",
    metavar="NAME|FILE.toml",
    help="Rules of counting: peripheral-blood, bone-marrow or your own file; else the profile "
    "of the smears that the models were trained on.",
)
force_profile = click.option(
    "--force-profile",
    is_flag=True,
    help="Use the profile although the models were trained on another kind of smear; outputs are "
    "marked.",
)
keep_rejected = click.option(
    "--keep-rejected",
    is_flag=True,
    help="Count detected white cells that are typed as none (platelets, artefacts, "
    "not_a_white_cell) as white cells all the same.",
)
limits = click.option(
    "--limits",
    type=click.Choice(["wilson", "clopper-pearson"]),
    default="wilson",
    show_default=True,
    help="Method of the 95 % limits of percentages.",
)
adjust = click.option(
    "--adjust",
    metavar="FILE.csv|card",
    help="Also give percentages corrected for the classifier's confusions, using the "
    "confusion.csv of evaluate classifier --out, or card for the classifier's own matrix.",
)
slide_from = click.option(
    "--slide-from",
    metavar="REGEX",
    help="Finds the slide in an image's path: the group named slide, or the first; and the "
    "specimen: the group of that name.",
)
stain_reference = click.option(
    "--stain-reference",
    default=NO_STAIN_REFERENCE,
    show_default=True,
    metavar="NAME|FILE|none",
    help="Make the stain of every field like that of bccd, pbc, a picture of your own, or a file.",
)
stain_for = click.option(
    "--stain-for",
    type=click.Choice(["all", "detector", "classifier"]),
    default="all",
    show_default=True,
    help="Which models see the fields with the stain of --stain-reference.",
)
#: How the models of a run look at its images.
model_input = _together(refine_steps, stain_reference, stain_for)
#: How the models of a run compute.
computing = _together(engine, device, precision)
max_pixels = click.option(
    "--max-pixels",
    type=int,
    metavar="N",
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Largest image, or window of a larger TIFF, that is decoded.",
)


def _separator(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """The separator that goes by this name."""
    return "\t" if name == "tab" else name


_bom = click.option(
    "--csv-bom", is_flag=True, help="Begin tables with a byte-order mark, for spreadsheets."
)
_decimal = click.option(
    "--csv-decimal",
    type=click.Choice(["point", "comma"]),
    help="Decimal sign of the tables; else a comma with --csv-separator ';', else a point.",
)
csv_form = _together(
    click.option(
        "--csv-separator",
        type=click.Choice(SEPARATORS),
        default=",",
        show_default=True,
        callback=_separator,
        help="Separator of the tables.",
    ),
    _bom,
    _decimal,
)
#: Of commands that make tables of a table: they are written as that one was, unless told otherwise.
csv_form_of_table = _together(
    click.option(
        "--csv-separator",
        type=click.Choice(SEPARATORS),
        callback=_separator,
        help="Separator of the tables written; else they are written as the table that is read.",
    ),
    _bom,
    _decimal,
)


def csv_form_asked(options: Mapping[str, Any], read: CsvForm | None = None) -> CsvForm:
    """Return the form of the tables of a command with `csv_form` or `csv_form_of_table`.

    Args:
        options: of the command.
        read: form of the table that was read, which holds where no separator is asked for.
    """
    separator, bom, decimal = (options[f"csv_{n}"] for n in ("separator", "bom", "decimal"))
    if separator is None:
        read = read or CsvForm()
        return CsvForm(read.separator, bom or read.bom, decimal or read.decimal)
    return CsvForm(separator, bom, decimal)


plugins = click.option(
    "--plugins",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with plugins; their code is run.",
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
data_format = click.option(
    "--format",
    "format_",
    default="auto",
    show_default=True,
    help="auto, table, lmu, folders, coco, voc, yolo, via, labelme or csv.",
)
fine = click.option("--fine", is_flag=True, help="Take the data's finer labels: PBC's codes.")
crop_format = click.option(
    "--format",
    "format_",
    type=click.Choice(["auto", "table", "lmu", "boxes", "folders"]),
    default="auto",
    show_default=True,
    help="How the labelled cells are stored.",
)
