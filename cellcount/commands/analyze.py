"""``cellcount analyze``: options become a request, one job runs, its summary is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from cellcount.commands import options as shared
from cellcount.files.text import duration, number_of
from cellcount.settings import AUTO_ADDRESS

if TYPE_CHECKING:
    from cellcount.analysis.job import Job
    from cellcount.settings import AnalyzeRequest

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@cloup.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@cloup.option_group(
    "Input",
    click.option(
        "--um-per-px",
        type=float,
        metavar="NUMBER",
        help="Micrometres per pixel of all images; else from manifest or file, else estimated.",
    ),
    shared.slide_from,
    shared.max_pixels,
)
@cloup.option_group(
    "Models",
    shared.detector,
    shared.classifier_or_none,
    shared.type_map,
    click.option(
        "--min-score",
        type=float,
        metavar="NUMBER",
        help="One threshold for all classes, from 0 to 1; else the model's own per class.",
    ),
    shared.model_input,
    shared.plugins,
)
@cloup.option_group(
    "What is counted",
    shared.profile,
    shared.force_profile,
    shared.keep_rejected,
    click.option(
        "--edge-rule",
        type=click.Choice(["all", "two-sides"]),
        default="all",
        show_default=True,
        help="Count all cells, or leave out those cut by the right and lower edge.",
    ),
    shared.limits,
    shared.adjust,
)
@cloup.option_group(
    "Outputs",
    shared.tables,
    click.option("--annotated", type=_FOLDER, help="Folder for pictures with the cells outlined."),
    click.option(
        "--annotate",
        type=click.Choice(["all", "flagged"]),
        default="all",
        show_default=True,
        help="Draw all images, or only those with a caution (column reason).",
    ),
    click.option(
        "--annotated-format",
        type=click.Choice(["png", "jpeg"]),
        default="png",
        show_default=True,
        help="Form of these pictures: png is exact, jpeg is drawn faster and takes less space.",
    ),
    shared.csv_form,
    click.option(
        "--pseudonymize",
        type=_FILE,
        metavar="KEYFILE",
        help="Replace names of images, slides and specimens by codes in all outputs. KEYFILE, "
        "written if it does not exist, turns codes back into names.",
    ),
)
@cloup.option_group("Exports", shared.exports)
@cloup.option_group(
    "Computing",
    shared.computing,
    click.option(
        "--batch-size", type=int, default=0, metavar="N", help="Tiles per model call; 0 chooses."
    ),
    click.option(
        "--tile-px",
        type=int,
        default=0,
        metavar="N",
        help="Largest tile at the model's scale; 0 chooses.",
    ),
    click.option(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="Threads that read and draw, with Ray actors; 0 chooses.",
    ),
)
@cloup.option_group(
    "Batch jobs",
    click.option("--dry-run", is_flag=True, help="Print the plan, with expected time and space."),
    click.option("--fresh", is_flag=True, help="Start over: forget an earlier run of this --out."),
    click.option(
        "--max-failure-rate",
        type=float,
        metavar="SHARE",
        default=1.0,
        show_default=True,
        help="Stop with exit code 4 when a larger share of the images fails.",
    ),
    click.option(
        "--shard",
        metavar="I/N|slurm",
        help="Take the I-th of N parts of the images; slurm takes I and N from the job array.",
    ),
    click.option(
        "--runner",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where images are analysed: in this process, or by actors of a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        default=AUTO_ADDRESS,
        show_default=True,
        metavar="ADDRESS",
        help="Of the cluster; auto is one that runs already, else this machine.",
    ),
)
def analyze(**options: Any) -> int:  # noqa: ANN401 -- click passes options by name
    """Count the cells of smear images.

    INPUT is an image, a folder (searched through), a glob pattern in quotes, or a manifest: a
    table (CSV or spreadsheet) with the column path and, where known, slide, specimen, accession,
    stain, um_per_px, wbc_10e9_per_l.

    An interrupted run goes on where it stopped when the same command is given again.

    \b
    Exit codes:
      0    all done
      1    some images failed; each has its row and reason
      2    wrong usage
      3    nothing could be done
      4    more images failed than --max-failure-rate allows
      130  interrupted (Ctrl-C); the images in hand were finished, everything is kept
      143  terminated; the images in hand were finished, everything is kept
    """
    request = _request(options)
    from cellcount.analysis.checked_request import CheckedRequest

    # Mistakes are told before torch is imported, which takes seconds.
    checked = CheckedRequest.of(request)
    from cellcount.analysis.job import Job
    from cellcount.commands.terminal.summary import say_counting, say_outcome, say_passed_over

    job = Job(checked)
    say_passed_over(job.plan)
    if options["dry_run"]:
        return _dry_run(job)
    from cellcount.analysis.shown_progress import progress

    with progress() as watcher:
        outcome = job.run(watcher)
    say_outcome(outcome, job.card.classes, job.types)
    say_counting(job)
    if outcome.interrupted is not None:
        raise outcome.interrupted
    return outcome.exit_code


def _request(options: dict[str, Any]) -> AnalyzeRequest:
    """The settings of the command line, validated."""
    import os

    from cellcount.analysis.request import analyze_request
    from cellcount.shards import shard_of

    if options["shard"] is not None:
        options["shard"] = shard_of(options["shard"], os.environ)
    return analyze_request(options["inputs"], options)


def _dry_run(job: Job) -> int:
    """Prints the plan, with time and space from a few fields that are really analysed."""
    from cellcount.analysis.dry_run import expect

    expected = expect(job)
    refs, card, engine = job.refs, job.card, job.detector.engine
    slides = number_of(len({ref.slide for ref in refs}), "slide")
    passed_over = len(job.plan.passed_over)
    click.echo(f"images       {len(refs):,} on {slides}" + f", {passed_over:,} passed over")
    click.echo(
        f"model        {card.name} {card.version} ({engine.name}, {engine.device}, "
        f"{engine.precision})"
    )
    if job.classifier is not None:
        typing = job.classifier.card
        click.echo(f"classifier   {typing.name} {typing.version}, {len(job.types)} types")
    click.echo(f"profile      {job.counting.label}")
    if expected is None:
        click.echo("time, space  unknown: none of the fields looked at could be read")
    else:
        click.echo(
            f"time         about {duration(expected.seconds)}, judged by "
            f"{number_of(expected.sampled, 'field')}"
        )
        click.echo(f"space        about {expected.megabytes:,.1f} MB")
    click.echo("dry run: nothing was written")
    return 0
