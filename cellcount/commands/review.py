"""``cellcount review``: export cells for a person, apply corrections, open the review page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from cellcount.files.text import number_of, shown

if TYPE_CHECKING:
    from cellcount.analysis.stored_results import StoredResults
    from cellcount.differential.figures import Figure
    from cellcount.differential.rollup import Unit
    from cellcount.review.apply import Applied, Change
    from cellcount.review.page.classifier_job import Adaptation, OnCell

_RESULTS = click.argument(
    "results", metavar="RESULTS", type=click.Path(exists=True, path_type=Path)
)
_SHOWN = 10


@cloup.command("export")
@_RESULTS
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for corrections.csv and the pictures of the cells.",
)
@click.option("--all", "every", is_flag=True, help="All typed cells, also sure and reviewed ones.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The N least sure cells.")
@click.option(
    "--types",
    metavar="A,B",
    help="Cells of these types alone, and unclassified ones that are likeliest one of them.",
)
def review_export(
    results: Path, out: Path, every: bool, limit: int | None, types: str | None
) -> None:
    """Write pictures of the cells that need a look, and a table to fill in.

    RESULTS is the counts.csv of an analyze with a classifier. The least sure cell comes first.
    Fill in the column corrected_type of corrections.csv, also where the model is right, and give
    the table to cellcount review apply.
    """
    from cellcount.review.export import Selection, export_review

    names = tuple(name.strip() for name in (types or "").split(",") if name.strip())
    done = export_review(results, out, Selection(every, limit, names))
    of = "" if done.cells == done.in_all else f" of {done.in_all:,}"
    click.echo(f"{done.cells:,}{of} {'cells' if every else 'cells that need a look'}")
    if done.without_picture:
        first = ", ".join(shown(name) for name in done.without_picture[:_SHOWN])
        count = number_of(len(done.without_picture), "image")
        click.echo(f"no pictures of {count} that are gone or have changed: {first}", err=True)
    click.echo(f"written: {shown(done.table)}")
    if done.cells:
        click.echo(
            f"fill in corrected_type ({', '.join(done.types)}, another row of the profile, or "
            "not_a_cell), "
            f"then: cellcount review apply {shown(results)} {shown(done.table)} --reviewer NAME"
        )


@cloup.command("apply")
@_RESULTS
@click.argument(
    "table",
    metavar="[CORRECTIONS]",
    required=False,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--geojson",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of GeoJSON as QuPath wrote it after the cells were changed there.",
)
@click.option(
    "--rois",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of ROI sets as ImageJ wrote them after the cells were changed there.",
)
@click.option("--reviewer", required=True, metavar="NAME", help="Who looked at the cells.")
@click.option(
    "--all-changes",
    is_flag=True,
    help="Print also the shares and limits that moved since others were counted.",
)
def review_apply(
    results: Path,
    table: Path | None,
    geojson: Path | None,
    rois: Path | None,
    reviewer: str,
    all_changes: bool,
) -> None:
    """Count by the labels of a reviewer, and write every output of the run again.

    RESULTS is the counts.csv of the analyze; CORRECTIONS the table of review export, filled in.
    In its place may stand a folder of files from a program in which the cells were moved, added,
    deleted or given other names.
    The classifier's labels stay; reviewed ones have columns of their own in cells.csv. A later
    review of a cell goes before an earlier one, and all of them stay in the history beside
    counts.csv. The images are needed for pictures alone.
    """
    from cellcount.errors import UsageError
    from cellcount.review.apply import apply_drawn, apply_review

    drawn = {form: path for form, path in (("geojson", geojson), ("rois", rois)) if path}
    if (table is not None) + len(drawn) != 1:
        raise UsageError(
            "name one of CORRECTIONS, --geojson and --rois, which says what was corrected"
        )
    if table is not None:
        _say(apply_review(results, table, reviewer), all_changes=all_changes)
        return
    ((form, folder),) = drawn.items()
    done = apply_drawn(results, folder, form, reviewer)  # type: ignore[arg-type]  # one of both
    if done.written:
        _say(done, all_changes=all_changes)
    else:
        click.echo("the cells are as these results have them, so nothing was changed")


@cloup.command("open")
@_RESULTS
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Port on this machine; any that is free without it.",
)
@click.option("--no-browser", is_flag=True, help="Show the address, and open no browser.")
@click.option("--read-only", is_flag=True, help="Look at everything, change nothing.")
@click.option(
    "--behind-proxy",
    metavar="URL",
    default="",
    help="Address of your own proxy, by which other machines reach the page.",
)
def review_open(
    results: Path, port: int, no_browser: bool, read_only: bool, behind_proxy: str
) -> None:
    """Correct a finished run on a local web page.

    RESULTS is the counts.csv of the analyze. The page is served on this machine alone, at an
    address that nobody can guess. What people do there is in the journal at once; every output of
    the run is written again when the page is closed with Ctrl-C, when a slide is approved, and
    when the page is asked to.
    """
    from cellcount.review.page.server import serve

    def ready(address: str) -> None:
        click.echo(f"review page: {address}")
        click.echo("keep this window open; Ctrl-C ends the review and writes the tables")
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    written = serve(
        results,
        port=port,
        read_only=read_only,
        public=behind_proxy,
        ready=ready,
        adapter=_adapt_reviewed_run,
    )
    if written:
        click.echo("written: " + ", ".join(shown(path) for path in written))


def _adapt_reviewed_run(
    stored: StoredResults, lock: AbstractContextManager[Any], out: Path, on_cell: OnCell
) -> Adaptation:
    from cellcount.adapt.reviewed_run import adapt_reviewed_run  # loads torch: only when asked for

    return adapt_reviewed_run(stored, lock, out, on_cell)


def _say(done: Applied, *, all_changes: bool) -> None:
    rows = number_of(done.empty, "row")
    if not done.written:
        click.echo(f"nothing is filled in ({rows} left empty), so nothing was changed")
        return
    parts = [f"{number_of(len(done.relabelled), 'cell')} relabelled"]
    counts = {
        "confirmed": done.confirmed - done.left_open,
        "moved": done.moved,
        "added": done.added,
        "deleted": done.deleted,
    }
    drawn = bool(done.moved or done.added or done.deleted)
    always = () if drawn else ("confirmed",)
    parts += [f"{n:,} {what}" for what, n in counts.items() if n or what in always]
    if done.left_open:
        parts.append(f"{done.left_open:,} left unclassified by the reviewer")
    if done.already:
        parts.append(f"{done.already:,} as this reviewer said before")
    if done.empty:
        parts.append(f"{rows} left empty")
    click.echo(", ".join(parts))
    _say_labels(done.relabelled)
    rest = [change for change in done.changes if not change.counts]
    _say_changes([change for change in done.changes if change.counts])
    if rest and all_changes:
        click.echo("shares and limits that moved, since others were counted:")
        _say_changes(rest)
    elif rest:
        figures = number_of(len(rest), "figure")
        click.echo(f"{figures} moved in share or limits alone; --all-changes prints them")
    for note in done.notes:
        click.echo(f"note: {shown(note)}", err=True)
    if done.not_drawn:
        first = ", ".join(shown(name) for name in done.not_drawn[:_SHOWN])
        count = number_of(len(done.not_drawn), "annotated picture")
        click.echo(
            f"{count} not drawn again, which show the labels from before: the image is gone or "
            f"has changed ({first})",
            err=True,
        )
    click.echo("written: " + ", ".join(shown(path) for path in done.written))


def _say_labels(relabelled: Sequence[tuple[str, str]]) -> None:
    from collections import Counter

    for (old, new), count in Counter(relabelled).most_common():
        click.echo(f"  {old or 'not typed'} -> {_label(old, new)}  {count:,}")


def _label(old: str, new: str) -> str:
    """Put a new label into words: a cell may be left unclassified on purpose."""
    from cellcount.core.records import UNCLASSIFIED

    return f"{UNCLASSIFIED} by the reviewer" if new == UNCLASSIFIED != old else new


def _say_changes(changes: Sequence[Change]) -> None:
    """Print the changed figures of each slide and specimen, before and after."""
    last: Unit | None = None
    for change in changes:
        if last is None or _who(change.unit) != _who(last):
            click.echo(_title(change.unit))
            last = change.unit
        figure = change.after or change.before
        assert figure is not None, "a change is of a figure"
        name = f"{figure.name} ({figure.kind})" if figure.kind in ("group", "lineage") else ""
        was, now = _text(change.before), _text(change.after)
        click.echo(f"  {shown(name or figure.name)}: {was} -> {now}")


def _who(unit: Unit) -> tuple[str, str, str]:
    return unit.level, unit.specimen, unit.slide


def _title(unit: Unit) -> str:
    if unit.level == "specimen":
        return f"specimen {shown(unit.specimen)}"
    slide = f"slide {shown(unit.slide)}" if unit.slide else "slide without a name"
    return f"{slide}, specimen {shown(unit.specimen)}" if unit.specimen else slide


def _text(figure: Figure | None) -> str:
    """Put a figure into few words: 3 cells, 12.0 % (4.2–30.0)."""
    if figure is None:
        return "none"
    cells = "" if figure.n is None else number_of(figure.n, "cell")
    if figure.assessment != "assessed":
        return ", ".join(filter(None, (figure.assessment, cells, figure.note)))
    if figure.value is None:
        return cells or "none"
    text = f"{figure.value:.1f} {figure.unit}".rstrip()
    if figure.limits is not None:
        high = "" if figure.limits.high is None else f"{figure.limits.high:.1f}"
        text += f" ({figure.limits.low:.1f}–{high})"
    return f"{cells}, {text}" if cells else text
