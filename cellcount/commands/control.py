"""``cellcount control``: daily check of a slide of known cells, and the history of the checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from cellcount.commands import options as shared
from cellcount.files.text import number_of, shown

if TYPE_CHECKING:
    from cellcount.control.drift import Watched
    from cellcount.control.run import ControlRun

_FILE = click.Path(dir_okay=False, path_type=Path)
_SHOWN = 10


@cloup.command("run")
@click.argument("inputs", nargs=-1, required=True, metavar="SLIDE...")
@cloup.option_group(
    "Control",
    click.option(
        "--expected",
        required=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Its known white cells: CSV with image, x and y or the corners of boxes, perhaps "
        "type.",
    ),
    click.option(
        "--log",
        type=_FILE,
        default="control.csv",
        show_default=True,
        help="Where the run is added; what stands there is never rewritten.",
    ),
    click.option(
        "--new-baseline",
        is_flag=True,
        help="Compare later runs with this one and those after it alone, as after a change.",
    ),
)
@cloup.option_group(
    "Input",
    click.option(
        "--um-per-px",
        type=float,
        metavar="NUMBER",
        help="Micrometres per pixel of the slide; else from the files, else estimated.",
    ),
)
@cloup.option_group(
    "Models",
    shared.detector,
    shared.classifier_or_none,
    shared.type_map,
    shared.model_input,
    shared.plugins,
)
@cloup.option_group("Computing", shared.computing)
def control_run(**options: Any) -> int:  # noqa: ANN401 -- click passes options by name
    """Check that the known white cells of a control slide are located.

    SLIDE is what analyze takes as INPUT. At least 95 % of the known cells must be located, every
    field must be analysed, and no value may have drifted from earlier runs by a Westgard rule that
    rejects. One row is added to the log; give the same options as for your slides.

    \b
    Exit codes:
      0    passed
      1    failed; the reasons are printed and logged
      2    wrong usage
      3    nothing could be analysed, or the log was changed
    """
    import dataclasses

    from cellcount.analysis.shown_progress import progress
    from cellcount.control.run import ControlRequest, run_control
    from cellcount.settings import AnalyzeSettings

    names = {field.name for field in dataclasses.fields(AnalyzeSettings)} & options.keys()
    given = {name: options[name] for name in names}
    request = ControlRequest(
        inputs=tuple(options["inputs"]),
        expected=options["expected"],
        log=options["log"],
        analyze=AnalyzeSettings(**given),
        new_baseline=options["new_baseline"],
    )
    with progress() as watcher:
        done = run_control(request, watcher)
    _say(done, request.log)
    return 0 if done.passed else 1


def _say(done: ControlRun, log: Path) -> None:
    row = done.row
    click.echo(f"{'PASS' if done.passed else 'FAIL'}  {shown(row['slide'])}")
    click.echo(f"  located  {_share(done, 'located', 'located', 'known')}")
    if done.passed_over:
        cells = number_of(done.passed_over, "cell")
        click.echo(f"  list     {cells} of other slides passed over")
    if row["typed"]:
        click.echo(f"  types    {_share(done, 'agreed', 'agreed', 'typed')}")
    click.echo(f"  counts   {row['counts']}")
    if row["types"]:
        click.echo(f"  by type  {row['types']}")
    for one in done.watched:
        if one.drift is not None:
            click.echo(f"  {_drift(one)}")
    if done.runs_needed:
        more = number_of(done.runs_needed, "more run that passes", "more runs that pass")
        click.echo(f"  drift    judged after {more}")
    for cell in done.missed[:_SHOWN]:
        place = ", ".join(f"{v:g}" for v in cell.place)
        click.echo(f"  missed   {shown(cell.image)} at {place} {shown(cell.type_name)}".rstrip())
    if len(done.missed) > _SHOWN:
        click.echo(f"  missed   {len(done.missed) - _SHOWN:,} more")
    if row["reasons"]:
        click.echo(f"  reasons  {shown(row['reasons'])}")
    click.echo(f"added to {shown(log)} as run {row['run']}, hash {done.sha256}")


def _share(done: ControlRun, name: str, count: str, total: str) -> str:
    row = done.row
    share = f"{row[count]} of {row[total]}, {row[f'{name}_percent']:.1f} %"
    return f"{share} ({row[f'{name}_low']:.1f}–{row[f'{name}_high']:.1f})"


def _drift(one: Watched) -> str:
    drift = one.drift
    assert drift is not None, "asked only where there is one"
    rules = f", breaks {', '.join(drift.rules)}" if drift.rules else ""
    return (
        f"drift    {one.name} {one.value:g}: {drift.z:+.1f} SD from {drift.mean:.4g} ± "
        f"{drift.sd:.2g}{rules}"
    )


@cloup.command("history")
@click.argument("log", metavar="LOG", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=_FILE, metavar="FILE.html|FILE.png", help="Draw the runs.")
def control_history(log: Path, out: Path | None) -> int:
    """List and draw the runs in a log, and verify that it was never changed.

    \b
    Exit codes:
      0  the log is as it was written
      1  its chain of hashes is broken; runs up to there are shown
      2  wrong usage
    """
    from rich.table import Table

    from cellcount.commands.terminal.reports import stdout_console
    from cellcount.control.control_log import read_control_log
    from cellcount.control.history import verdict, write_history

    found = read_control_log(log)
    table = Table(box=None, pad_edge=False)
    for name in ("run", "time", "result", "located", "reasons"):
        table.add_column(name, overflow="fold")
    for row in found.rows:
        located = f"{row['located']} of {row['known']}"
        table.add_row(
            *(shown(row[name]) for name in ("run", "time", "result")), located,
            shown(row["reasons"] or ""),
        )  # fmt: skip
    stdout_console().print(table, markup=False)
    click.echo(verdict(found))
    if out is not None:
        write_history(out, found, log.name)
        click.echo(f"written: {shown(out)}")
    return 1 if found.broken else 0
