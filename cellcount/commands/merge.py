"""``cellcount merge``: the outputs of all shards of a run, as one run would have written them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

from cellcount.commands import options as shared

_FILE = click.Path(dir_okay=False, path_type=Path)


@cloup.command()
@click.argument("shards", nargs=-1, required=True, metavar="SHARD...")
@cloup.option_group(
    "Outputs",
    shared.tables,
    shared.csv_form,
    click.option(
        "--pseudonymize",
        type=_FILE,
        metavar="KEYFILE",
        help="Codes instead of names of images, slides and specimens, as in analyze.",
    ),
)
@cloup.option_group("Exports", shared.exports)
def merge(shards: tuple[str, ...], **options: Any) -> int:  # noqa: ANN401 -- click passes options
    """Merge the shards of a run into the outputs of one run.

    SHARD is the --out table of an analyze --shard run, with its journal beside it, or a folder of
    such tables. All shards of the run are needed, each once and finished, with the same images,
    settings, weights and versions; the outputs are then the same bytes as those of one run.

    \b
    Exit codes:
      0    all images done
      1    some images failed; each has its row and reason
      2    wrong usage
      3    the shards do not belong together, or nothing was done in them
    """
    from cellcount.analysis.merge import MergeJob
    from cellcount.analysis.request import output_settings
    from cellcount.commands.terminal.summary import say_outcome

    job = MergeJob(shards, output_settings(options))
    outcome, types = job.run()
    say_outcome(outcome, job.classes, types)
    return outcome.exit_code
