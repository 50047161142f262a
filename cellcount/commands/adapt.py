"""``cellcount adapt``: packaged models made to fit a laboratory's own slides."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from cellcount.commands import options as shared
from cellcount.commands.terminal.reports import counter, say_problems, stdout_console
from cellcount.files.text import number_of, shown

if TYPE_CHECKING:
    from cellcount.adapt.adapted_classifier import AdaptedClassifier
    from cellcount.adapt.adapted_detector import AdaptedDetector
    from cellcount.adapt.laboratory_cells import LaboratoryCells

_out = click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the adapted model and its figures.",
)
_name = click.option("--name", default="", help="Of the adapted model; else the base's, -adapted.")


@cloup.command("classifier")
@click.argument("cells", type=click.Path(exists=True, path_type=Path))
@shared.classifier
@_out
@_name
@click.option(
    "--rbc-px",
    type=click.FloatRange(2, 4096),
    metavar="NUMBER",
    help="Red-cell diameter in the pictures' pixels, where the data do not say it.",
)
@click.option(
    "--unlabelled",
    type=click.Path(exists=True, path_type=Path),
    metavar="RESULTS|DIR",
    help="Results of a run, or a folder of pictures of single cells, of the same laboratory: the "
    "network's statistics are re-estimated from these cells, once for all slides, where that "
    "helps.",
)
@shared.device
@shared.plugins
def adapt_classifier(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Fit a classifier to a laboratory's own labelled cells.

    CELLS is a folder per type, a table with the columns path, label and, where known, slide and
    rbc_px, boxes with types, or the counts.csv of a run to which review apply added types. Ten
    cells of one type are the least. The last layer is refitted, and types without a cell keep
    working. The gain is cross-validated slide by slide; where there is none, nothing is written
    and the command ends with exit code 3. DIR/adaptation.json has the figures that a laboratory
    files when it validates the classifier anew.
    """
    from cellcount.adapt.adapted_classifier import AdaptRequest, NotBetterError
    from cellcount.adapt.adapted_classifier import adapt_classifier as adapt

    request = AdaptRequest(**options)
    with ExitStack() as stack:

        def counted(total: int) -> Callable[[], None]:
            return stack.enter_context(counter("looking at", total, "cell"))

        try:
            adapted = adapt(request, counted)
        except NotBetterError as refused:
            from cellcount.commands.terminal.tables_adapt import show_figures

            _say_left_out(refused.cells)
            show_figures(stdout_console(), refused.figures)
            raise
    _say(adapted)


def _say_left_out(cells: LaboratoryCells) -> None:
    """Print the problems of the data, and the cells of no type of the classifier, on stderr."""
    say_problems(cells.problems)
    for label, count in sorted(cells.left_out.items()):
        what = f"{number_of(count, 'cell')} of {shown(label)!r} left out"
        click.echo(f"warning: {what}: no type of the classifier", err=True)


def _say(adapted: AdaptedClassifier) -> None:
    from cellcount.adapt.adapted_classifier import CELLS_FILE
    from cellcount.adapt.result_folder import FIGURES_FILE
    from cellcount.commands.terminal.tables_adapt import show_figures

    _say_left_out(adapted.cells)
    if not adapted.figures.slides:
        click.echo(
            "note: no slide is named, so cells of one slide may judge each other, which flatters; "
            "a table with a column slide avoids that",
            err=True,
        )
    console = stdout_console()
    base, cells = adapted.base, number_of(len(adapted.cells.items), "labelled cell")
    slides = adapted.figures.slides
    where = f" on {number_of(slides, 'slide')}" if slides else ""
    console.print(f"{adapted.card.name}, of {base.name} {base.version} and {cells}{where}")
    console.print()
    show_figures(console, adapted.figures)
    if adapted.unseen:
        stood = "cells of the base's training stood for them"
        how = stood if adapted.kept else "the base keeps no cells that could stand for them"
        console.print(f"types without a cell here: {', '.join(adapted.unseen)}; {how}")
    folder = adapted.weights.parent
    console.print(
        f"written: {shown(adapted.weights)}, {shown(folder / FIGURES_FILE)}, "
        f"{shown(folder / CELLS_FILE)}; use it with --classifier {shown(folder)}"
    )


@cloup.command("detector")
@click.argument("fields", type=click.Path(exists=True, path_type=Path))
@shared.detector
@_out
@_name
@shared.engine
@shared.device
@shared.plugins
def adapt_detector(
    fields: Path,
    detector: str,
    out: Path,
    name: str,
    engine: str,
    device: str,
    plugins: Path | None,
) -> None:
    """Fit a detector's thresholds and scale to a laboratory's own labelled fields.

    FIELDS are annotated fields in any form that train detector reads, such as those that datasets
    convert writes of a reviewed run. Five fields are the least; a class without a labelled cell
    keeps its threshold. Weights stay as they are. The gain is cross-validated slide by slide,
    where folders are slides; where there is none, nothing is written and the command ends with
    exit code 3. DIR/adaptation.json has the figures that a laboratory files.
    """
    from cellcount.adapt.adapted_detector import AdaptDetectorRequest, NoBetterCountsError
    from cellcount.adapt.adapted_detector import adapt_detector as adapt

    request = AdaptDetectorRequest(fields, detector, out, name, engine, device, plugins)
    with ExitStack() as stack:

        def counted(total: int) -> Callable[[], None]:
            return stack.enter_context(counter("looking at fields", total, "time"))

        try:
            adapted = adapt(request, counted)
        except NoBetterCountsError as refused:
            from cellcount.commands.terminal.tables_adapt import show_count_errors

            show_count_errors(stdout_console(), refused.figures)
            raise
    _say_detector(adapted)


def _say_detector(adapted: AdaptedDetector) -> None:
    from cellcount.adapt.adapted_detector import FIELDS_FILE
    from cellcount.adapt.result_folder import FIGURES_FILE
    from cellcount.commands.terminal.tables_adapt import show_count_errors

    say_problems(adapted.problems)
    if not adapted.slides:
        click.echo(
            "note: fields are held out one by one, which flatters where several are of one slide; "
            "a folder for each of five slides or more avoids that",
            err=True,
        )
    console = stdout_console()
    base, fields = adapted.base, number_of(adapted.fields, "labelled field")
    where = f" on {number_of(adapted.slides, 'slide')}" if adapted.slides else ""
    console.print(f"{adapted.card.name}, of {base.name} {base.version} and {fields}{where}")
    console.print()
    show_count_errors(console, adapted.figures)
    px = f"{base.rbc_diameter_px:g} px before, {adapted.card.rbc_diameter_px:g} px after"
    console.print(f"size of red cells for the detector: {px}")
    folder = adapted.weights.parent
    console.print(
        f"written: {shown(adapted.weights)}, {shown(folder / FIGURES_FILE)}, "
        f"{shown(folder / FIELDS_FILE)}; use it with --detector {shown(folder)}"
    )
