"""``cellcount evaluate counts`` and ``evaluate repeatability``: comparison of counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from cellcount.commands import options as shared
from cellcount.commands.terminal.reports import stdout_console, write_csv, write_json

if TYPE_CHECKING:
    from cellcount.comparison.compare import Comparison, Options
    from cellcount.settings import CsvForm

_TABLE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)

_values = click.option(
    "--values",
    type=click.Choice(["auto", "counts", "percent"]),
    default="auto",
    show_default=True,
    help="What a wide table holds; auto sees it from the sums of its rows.",
)
_outside = click.option(
    "--outside",
    multiple=True,
    metavar="CLASS",
    help="Column of a wide table that is no part of the denominator; again for more.",
)
_profile = click.option(
    "--profile",
    metavar="NAME|FILE",
    help="Profile whose synonyms for classes are known, too, besides the usual ones.",
)
_csv = click.option("--csv", "csv_", type=_FILE, help="Write a row per class as CSV.")
_json = click.option("--json", "json_", type=_FILE, help="Write everything as JSON.")


@cloup.command("counts")
@click.argument("predicted", type=_TABLE)
@click.argument("reference", type=_TABLE)
@cloup.option_group(
    "Input",
    click.option(
        "--level",
        type=click.Choice(["auto", "slide", "specimen"]),
        default="auto",
        show_default=True,
        help="Units that are compared; auto is slides, or specimens where the tables share no "
        "slide.",
    ),
    _values,
    _outside,
    _profile,
    click.option(
        "--pair",
        "pairs",
        multiple=True,
        metavar="OURS=THEIRS",
        help="Classes that mean the same under different names; again for more.",
    ),
)
@cloup.option_group(
    "Statistics",
    click.option(
        "--threshold",
        "thresholds",
        multiple=True,
        metavar="[CLASS=]PERCENT",
        help="Percentage at which agreement and kappa are judged, of all classes or of one; again "
        "for more.  [default: 5, 10, 20]",
    ),
    click.option(
        "--error-ratio",
        type=float,
        metavar="NUMBER",
        default=1.0,
        show_default=True,
        help="Deming's λ: variance of the reference's errors over that of the predicted counts'.",
    ),
)
@cloup.option_group(
    "Outputs",
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="DIR|FILE.html",
        help="Page with pictures; a folder also gets tables, JSON and the pictures.",
    ),
    _csv,
    shared.csv_form_of_table,
    _json,
)
def evaluate_counts(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Compare the differentials of two methods.

    PREDICTED and REFERENCE are slides.csv of analyze, or a sheet with a row per slide (column
    slide) or specimen and a column per class, with counts, or with percentages and their number of
    cells in the column n. Per class: bias and limits of agreement, Passing-Bablok and Deming lines,
    correlation, RMSE, ICC(2,1), agreement and kappa at thresholds, and how many slides lie within
    the counting error (Rümke, and the interval from both numbers of cells).
    """
    from cellcount.commands.terminal.tables_counts import show_comparison
    from cellcount.comparison.compare import compare
    from cellcount.comparison.count_tables import read_count_table
    from cellcount.comparison.result_rows import class_rows, to_document
    from cellcount.comparison.result_tables import overview

    wanted = _options(options)
    _check_places(options)
    predicted, reference = (
        read_count_table(
            options[name],
            values=options["values"],
            outside=options["outside"],
            names=wanted.names,
        )
        for name in ("predicted", "reference")
    )
    form = shared.csv_form_asked(options, predicted.form)
    comparison = compare(predicted, reference, wanted)
    show_comparison(stdout_console(), comparison, overview(comparison, comparison.classes))
    if options["csv_"]:
        write_csv(options["csv_"], class_rows(comparison), form=form)
    if options["json_"]:
        write_json(options["json_"], to_document(comparison))
    if options["out"]:
        _write_out(options["out"], comparison, form)


@cloup.command("repeatability")
@click.argument("table", type=_TABLE)
@_values
@_outside
@click.option("--out", type=_FILE, metavar="FILE.html", help="Page with the table.")
@_csv
@shared.csv_form_of_table
@_json
def evaluate_repeatability(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Variance components of repeated counts: within run, between runs, between days.

    TABLE is long or wide as for evaluate counts, with a row per repeated count and the columns
    run, day or both. Each class of each specimen is analysed by itself.
    """
    from cellcount.commands.terminal.tables_counts import show_tables
    from cellcount.comparison.comparison_page import write_repeatability_page
    from cellcount.comparison.count_tables import read_count_table
    from cellcount.comparison.repeatability import repeatability
    from cellcount.comparison.result_rows import repeatability_document, repeatability_rows
    from cellcount.comparison.result_tables import repeatability_table

    _check_places(options)
    table = read_count_table(options["table"], values=options["values"], outside=options["outside"])
    form = shared.csv_form_asked(options, table.form)
    found = repeatability(table)
    console = stdout_console()
    show_tables(console, [repeatability_table(found)])
    for note in dict.fromkeys([*table.notes, *(n for one in found for n in one.components.notes)]):
        console.print(note, markup=False)
    if options["csv_"]:
        write_csv(options["csv_"], repeatability_rows(found), form=form)
    if options["json_"]:
        document = {"table": options["table"].name, "components": repeatability_document(found)}
        write_json(options["json_"], document)
    if options["out"]:
        write_repeatability_page(options["out"], table, found)


def _options(options: dict[str, Any]) -> Options:
    """Return the options of a comparison, from the command line."""
    from cellcount.comparison.compare import THRESHOLDS, Options
    from cellcount.differential.profile import load_profile
    from cellcount.differential.row_names import RowNames
    from cellcount.errors import UsageError

    general: list[float] = []
    of_class: dict[str, tuple[float, ...]] = {}
    for text in options["thresholds"]:
        name, _, value = text.rpartition("=")
        try:
            percent = float(value.removesuffix("%"))
        except ValueError:
            raise UsageError(
                f"--threshold is {text!r}, expected a percentage, or CLASS=PERCENT"
            ) from None
        if name:
            of_class[name] = (*of_class.get(name, ()), percent)
        else:
            general.append(percent)
    pairs = {}
    for text in options["pairs"]:
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs):
            raise UsageError(
                f"--pair is {text!r}, expected OURS=THEIRS, the class as PREDICTED and as "
                "REFERENCE name it"
            )
        pairs[ours] = theirs
    return Options(
        error_ratio=options["error_ratio"],
        thresholds=tuple(general) or THRESHOLDS,
        class_thresholds=of_class,
        pairs=pairs,
        names=RowNames(load_profile(options["profile"]).synonyms if options["profile"] else None),
        level=None if options["level"] == "auto" else options["level"],
    )


def _check_places(options: dict[str, Any]) -> None:
    """Raise, before the work, if its results cannot be written."""
    from cellcount.files.atomic import check_folder_writable, check_writable

    for path in (options["csv_"], options["json_"]):
        if path is not None:
            check_writable(path)
    out = options["out"]
    if out is not None:
        (check_writable if _is_page(out) else check_folder_writable)(out)


def _is_page(out: Path) -> bool:
    return out.suffix.lower() in (".html", ".htm")


def _write_out(out: Path, comparison: Comparison, form: CsvForm) -> None:
    """Write the page alone, or a folder with it, tables, JSON and pictures."""
    from cellcount.comparison.agreement_charts import draw_png
    from cellcount.comparison.comparison_page import file_stem, pictures, write_comparison_page
    from cellcount.comparison.result_rows import agreement_rows, class_rows, pair_rows, to_document

    if _is_page(out):
        write_comparison_page(out, comparison)
        return
    write_comparison_page(out / "comparison.html", comparison)
    write_json(out / "comparison.json", to_document(comparison))
    tables = {
        "classes": class_rows(comparison),
        "agreement": agreement_rows(comparison),
        "pairs": pair_rows(comparison),
    }
    for name, rows in tables.items():
        if rows:
            write_csv(out / f"{name}.csv", rows, form=form)
    stems: list[str] = []
    for one in comparison.classes:
        stems.append(file_stem(one.id, stems))
        for name, (figure, _) in pictures(one).items():
            draw_png(figure, out / f"{stems[-1]}_{name}.png")
