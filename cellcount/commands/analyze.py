"""``cellcount analyze``: options to a request, one job, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellcount.settings import DEFAULT_DETECTOR, DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from cellcount.runners.job import Job, Outcome
    from cellcount.settings import AnalyzeRequest

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_SHOWN_FAILURES = 10


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", required=True, type=_FILE, help="Table with one row per image.")
@click.option("--cells", type=_FILE, help="Table with one row per cell.")
@click.option("--annotated", type=_FOLDER, help="Folder for copies of the images with cells drawn.")
@click.option("--annotate", type=click.Choice(["all", "flagged"]), default="all",
              show_default=True, help="Draw all images, or those with a caution.")
@click.option("--coco", type=_FILE, help="COCO file of all cells.")
@click.option("--detector", default=DEFAULT_DETECTOR, show_default=True, metavar="NAME|DIR",
              help="Packaged model, weight file or training run.")
@click.option("--engine", type=click.Choice(["auto", "torchvision"]), default="auto",
              show_default=True, help="What runs the detector.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto",
              show_default=True, help="Arithmetic; auto is fp32 on the CPU.")
@click.option("--um-per-px", type=float, help="Micrometres per pixel of all images.")
@click.option("--min-score", type=float, help="One threshold for all classes, from 0 to 1.")
@click.option("--edge-rule", type=click.Choice(["all", "two-sides"]), default="all",
              show_default=True, help="Count all cells, or leave out those cut right and below.")
@click.option("--batch-size", type=int, default=0, help="Tiles per model call; 0 chooses.")
@click.option("--tile-px", type=int, default=0, help="Largest tile at the model's scale; 0 chooses.")
@click.option("--workers", type=int, default=0, help="Threads that read and draw; 0 chooses.")
@click.option("--max-pixels", type=int, default=DEFAULT_MAX_PIXELS, show_default=True,
              help="Largest image that is opened.")
@click.option("--max-failure-rate", type=float, default=1.0, show_default=True,
              help="Share of failed images that ends the run with exit code 4.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@click.option("--fresh", is_flag=True, help="Forget what an earlier run of this output has done.")
@click.option("--csv-separator", type=click.Choice([",", ";"]), default=",", show_default=True,
              help="Separator of the tables.")
@click.option("--plugins", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder with backbone plugins (code!).")
def analyze(**options: Any) -> int:  # noqa: ANN401 -- click passes options by name
    """Count the cells of smear images.

    INPUT is an image, a folder (searched through), a glob pattern or a manifest CSV with the
    column path and, where known, slide, specimen, stain, um_per_px, wbc_10e9_per_l.

    An interrupted run goes on where it stopped when the same command is given again. Exit codes:
    0 all done, 1 some images failed, 2 wrong usage, 3 nothing could be done, 4 too many failed,
    130 or 143 interrupted with everything finished safe on disk.
    """
    request = _request(options)
    from cellcount.runners.job import Job

    job = Job(request)
    _say_passed_over(job)
    if options["dry_run"]:
        return _dry_run(job)
    if not job.plan.refs:
        from cellcount.errors import CellcountError

        raise CellcountError(
            f"no image found in {', '.join(request.inputs)}; JPEG, PNG, BMP, WebP and TIFF are read"
        )
    from cellcount.commands.progress import progress

    with progress() as watcher:
        outcome = job.run(watcher)
    _say_outcome(job, outcome)
    if outcome.interrupted is not None:
        raise outcome.interrupted
    return outcome.exit_code


def _request(options: dict[str, Any]) -> AnalyzeRequest:
    """The settings of the command line, validated."""
    import dataclasses

    from cellcount.settings import AnalyzeRequest, AnalyzeSettings, OutputSettings, RunSettings

    def pick(kind: type) -> dict[str, Any]:
        return {f.name: options[f.name] for f in dataclasses.fields(kind)}

    return AnalyzeRequest(
        inputs=tuple(options["inputs"]),
        analyze=AnalyzeSettings(**pick(AnalyzeSettings)),
        output=OutputSettings(**pick(OutputSettings)),
        run=RunSettings(**pick(RunSettings)),
    )


def _say_passed_over(job: Job) -> None:
    for item in job.plan.passed_over[:_SHOWN_FAILURES]:
        click.echo(f"passed over: {item.path}: {item.reason}", err=True)
    more = len(job.plan.passed_over) - _SHOWN_FAILURES
    if more > 0:
        click.echo(f"passed over: and {more} more, all in run.json", err=True)


def _dry_run(job: Job) -> int:
    """Prints the plan, with time and space from a few fields that are really analysed."""
    from cellcount.commands.progress import duration
    from cellcount.runners.dry_run import expect

    expected = expect(job)
    refs = job.plan.refs
    click.echo(f"images       {len(refs):,} on {len({r.slide for r in refs}):,} slides")
    click.echo(f"passed over  {len(job.plan.passed_over):,}")
    card, engine = job.card, job.detector.engine
    click.echo(f"model        {card.name} {card.version}, {engine.name}, {engine.device}, "
               f"{engine.precision}")
    if expected is None:
        click.echo("time, space  unknown: no sampled image could be read")
    else:
        click.echo(f"time         about {duration(expected.seconds)} "
                   f"({expected.sampled} sampled fields, no other load)")
        click.echo(f"space        about {expected.megabytes:,.1f} MB")
    click.echo("dry run: nothing was written")
    return 0


def _say_outcome(job: Job, outcome: Outcome) -> None:
    classes = job.card.classes
    counts = ", ".join(
        f"{outcome.counts[c.id]:,} {c.name if outcome.counts[c.id] == 1 else c.plural}"
        for c in classes
    )
    if outcome.analyzed_now and outcome.seconds:
        rate = f", {outcome.analyzed_now / outcome.seconds:.2f} images/s"
    else:
        rate = ""
    click.echo(f"{outcome.done:,} of {outcome.images:,} images done{rate}")
    click.echo(f"{outcome.cells:,} cells: {counts}")
    for note in (*outcome.not_done, *outcome.cautions)[:_SHOWN_FAILURES]:
        kind = note.status if note.status != "done" else "caution"
        click.echo(f"{kind}: {note.name}: {note.reason}")
    more = len(outcome.not_done) + len(outcome.cautions) - _SHOWN_FAILURES
    if more > 0:
        click.echo(f"and {more} more in {job.request.output.out} (columns status, reason)")
    click.echo("written: " + ", ".join(str(p) for p in outcome.outputs))
    if outcome.gave_up:
        click.echo("stopped: more images failed than --max-failure-rate allows", err=True)
    left = outcome.images - outcome.finished
    if left:
        click.echo(f"{left:,} images left; give the same command again to go on", err=True)
