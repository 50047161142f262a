"""``cellcount classify``: pictures of single cells to a table of their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

from cellcount.commands import options as shared


@cloup.command()
@click.argument("inputs", nargs=-1, required=True, metavar="CROPS...")
@cloup.option_group(
    "Input",
    click.option(
        "--rbc-px",
        type=float,
        metavar="NUMBER",
        help="Diameter of a red cell in the pictures' pixels; else from their scale, else as in "
        "the classifier's training.",
    ),
    click.option(
        "--um-per-px",
        type=float,
        metavar="NUMBER",
        help="Micrometres per pixel of all pictures, instead of --rbc-px; else from manifest or "
        "file.",
    ),
    shared.max_pixels,
)
@cloup.option_group("Models", shared.classifier, shared.type_map, shared.plugins)
@cloup.option_group(
    "Outputs",
    click.option(
        "--out",
        required=True,
        type=click.Path(dir_okay=False, path_type=Path),
        help="Table with one row per picture (CSV, .xlsx or .parquet).",
    ),
    shared.csv_form,
)
@cloup.option_group(
    "Computing",
    click.option(
        "--engine",
        type=click.Choice(["auto", "openvino"]),
        default="auto",
        show_default=True,
        help="Library that runs the classifier; auto is torch, openvino is for CPUs.",
    ),
    shared.device,
    shared.precision,
    click.option(
        "--batch-size", type=int, default=0, metavar="N", help="Cells per model call; 0 chooses."
    ),
    click.option(
        "--workers", type=int, default=0, metavar="N", help="Threads that read; 0 chooses."
    ),
)
def classify(**options: Any) -> int:  # noqa: ANN401 -- click passes options by name
    """Type pictures of single cells, one cell in the middle of each.

    CROPS are pictures, folders (searched through), glob patterns in quotes, or manifests, as for
    cellcount analyze. A cell that the classifier is not sure enough of is unclassified, not
    guessed. The table is written at the end, whole or not at all.

    \b
    Exit codes:
      0    all done
      1    some pictures could not be read; each has its row and reason
      2    wrong usage
      3    nothing could be done
      130  interrupted (Ctrl-C); nothing was written
      143  terminated; nothing was written
    """
    from cellcount.settings import ClassifyRequest

    request = ClassifyRequest(**options)
    from cellcount.analysis.classify import ClassifyJob
    from cellcount.analysis.shown_progress import progress
    from cellcount.commands.terminal.summary import say_passed_over, say_typed

    job = ClassifyJob(request)
    say_passed_over(job.plan)
    with progress() as watcher:
        outcome = job.run(watcher)
    say_typed(outcome, job.loaded.types)
    return outcome.exit_code
