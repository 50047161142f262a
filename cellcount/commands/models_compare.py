"""``cellcount models compare``: classifiers trained and scored alike, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from cellcount.commands import options as shared
from cellcount.commands.terminal.reports import say_problems, stdout_console, write_csv, write_json
from cellcount.commands.train import parse_assignments
from cellcount.files.text import duration, number_of

if TYPE_CHECKING:
    from rich.table import Table

    from cellcount.training.classifier.compare_models import Compared

_HEADINGS = (
    "classifier", "place", "accuracy", "95 % limits", "macro\nF1", "MCC", "million\nparam.",
    "as\nKeras", "GFLOP", "training", "ms per\ncell",
)  # fmt: skip
_NARROWEST = 114
_LONGEST_NAME = 24
_SETTINGS = (
    "epochs", "split", "type_map", "taxonomy", "fine", "rbc_px", "window_rbc",
)  # fmt: skip


@cloup.command("compare")
@click.argument("data", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@cloup.option_group(
    "Run",
    click.option(
        "--backbones",
        required=True,
        metavar="A,B,C",
        help="timm/NAME and plugins to train; run folders and weight files to load.",
    ),
    click.option(
        "--out",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the trainings and the tables.",
    ),
    shared.plugins,
)
@cloup.option_group(
    "Data",
    shared.crop_format,
    click.option("--taxonomy", metavar="NAME|FILE", help="Whose types the labels are."),
    click.option("--fine", is_flag=True, default=None, help="Learn the finer codes of the labels."),
    click.option("--map", "type_map", metavar="SOURCE:TARGET", help="Learn coarser types."),
    click.option("--split", help="given, or shares at random: 80/20, 90/10, …"),
    click.option(
        "--per-class", type=click.IntRange(min=1), help="Learn from N cells a class at most."
    ),
    click.option("--rbc-px", type=float, help="Red-cell diameter in the images' own pixels."),
    click.option(
        "--window",
        "window_rbc",
        type=float,
        help="Side of the window in red-cell diameters; 0: the whole picture.",
    ),
)
@cloup.option_group(
    "Training",
    click.option(
        "--recipe", default="default", show_default=True, help="Named preset of settings."
    ),
    click.option("--epochs", type=int, help="Passes over the training cells."),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Other setting; repeatable.",
    ),
)
@cloup.option_group(
    "Computing",
    shared.device,
    click.option("--workers", default=1, show_default=True, help="Processes that prepare cells."),
)
def models_compare(**options: Any) -> int:  # noqa: ANN401 -- click passes options by name
    """Compare classifiers on the same cells, trained under equal settings.

    Each backbone is trained as train classifier would, and scored on the cells of val: accuracy,
    macro F1, MCC, parameters, operations, training time and milliseconds per cell. A comparison
    that was interrupted goes on where it stopped. The folder gets compare.csv, compare.md and
    compare.json.

    \b
    Exit codes:
      0  all were compared
      1  some failed; the others stand in the table
      3  none could be compared
    """
    import torch

    from cellcount.errors import EXIT_NOTHING_DONE, EXIT_OK, EXIT_SOME_FAILED
    from cellcount.files.atomic import check_folder_writable
    from cellcount.training.classifier.compare_models import compare_models, thinned
    from cellcount.training.classifier.data import read_training_crops
    from cellcount.training.classifier.settings import classifier_recipe
    from cellcount.training.settings import TrainRun

    names = tuple(dict.fromkeys(n.strip() for n in options["backbones"].split(",") if n.strip()))
    overrides = {k: options[k] for k in _SETTINGS if options[k] is not None}
    overrides.update(parse_assignments(options["assignments"]))
    settings = classifier_recipe(options["recipe"], overrides)
    check_folder_writable(options["out"])
    crops = read_training_crops(options["data"], fine=settings.fine, format=options["format_"])
    say_problems(crops.problems)
    if options["per_class"]:
        crops = thinned(crops, options["per_class"], settings.seed)
    where = ("data", "out", "workers", "device", "plugins")
    run = TrainRun(**{k: options[k] for k in where})
    lines = compare_models(names, crops, settings, run, _say)
    rows = comparison_rows(lines)
    notes = _notes(lines, torch.get_num_threads())
    console = stdout_console()
    console.width = max(console.width, _NARROWEST)
    console.print(_table(rows))
    for note in notes:
        console.print(note, markup=False)
    write_csv(options["out"] / "compare.csv", rows)
    write_json(options["out"] / "compare.json", {"rows": rows, "notes": notes})
    (options["out"] / "compare.md").write_text(markdown(rows, notes), encoding="utf-8")
    failed = sum(bool(line.failure) for line in lines)
    if failed == len(lines):
        return EXIT_NOTHING_DONE
    return EXIT_SOME_FAILED if failed else EXIT_OK


def comparison_rows(lines: Sequence[Compared]) -> list[dict[str, Any]]:
    """Make one row per classifier, in the order asked for, with its place by accuracy."""
    rows = []
    for line in lines:
        report, cost = line.report, line.cost
        low, high = (report and report.accuracy_wilson) or (None, None)
        accuracy = report.strict.accuracy if report else None
        rows.append(
            {
                "classifier": line.name,
                "trained_here": line.trained,
                "cells": report.cells if report else None,
                "types": len(report.types) if report else None,
                "place": _place(line, lines),
                "accuracy": accuracy,
                "accuracy_low": low,
                "accuracy_high": high,
                "macro_f1": report.strict.macro_f1 if report else None,
                "mcc": report.strict.mcc if report else None,
                "parameters": cost.learned if cost else None,
                "parameters_keras": cost.keras if cost else None,
                "flops": cost.flops if cost else None,
                "input_height_px": cost.input_px[0] if cost else None,
                "input_width_px": cost.input_px[1] if cost else None,
                "training_s": line.training_s,
                "ms_per_cell": round(cost.ms_per_cell, 3) if cost else None,
                "batch_size": cost.batch_size if cost else None,
                "failure": line.failure,
            }
        )
    return rows


def _place(line: Compared, lines: Sequence[Compared]) -> int | None:
    """Rank a classifier by accuracy among those scored on the same, largest number of cells."""
    scored = [x.report for x in lines if x.report]
    most = max((report.cells for report in scored), default=0)
    if line.report is None or line.report.cells < most:
        return None
    own = line.report.strict.accuracy or 0.0
    rivals = [report.strict.accuracy or 0.0 for report in scored if report.cells == most]
    return 1 + sum(accuracy > own for accuracy in rivals)


def markdown(rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    """The table with its notes as Markdown."""
    lines = [
        "| " + " | ".join(h.replace("\n", " ") for h in _HEADINGS) + " |",
        "|---|" + "---:|" * (len(_HEADINGS) - 1),
        *("| " + " | ".join(_shown(row)) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _say(text: str) -> None:
    """Print the progress of the trainings on stderr, since the table goes to stdout."""
    click.echo(text, err=True)


def _notes(lines: Sequence[Compared], threads: int) -> list[str]:
    """Return the notes that the reader of the table needs."""
    scored = [(line.name, line.report, line.cost) for line in lines if line.report and line.cost]
    notes = []
    if scored:
        _, report, cost = max(scored, key=lambda entry: entry[1].cells)
        notes.append(
            f"Scores on {report.cells:,} cells of val, {len(report.types)} types; limits at 95 % "
            "(Wilson), cells taken as independent."
        )
        notes += [
            f"{name} was scored on {own.cells:,} of these cells alone: it reports no type for the "
            "others, so it has no place."
            for name, own, _ in scored
            if own.cells < report.cells
        ]
        notes.append(
            f"Times on this machine: {cost.device}, {number_of(threads, 'thread')}, batches of "
            f"{cost.batch_size}; training without validation."
        )
    notes.append(
        "Parameters as torch counts the learned ones; as Keras: with mean and variance of batch "
        "normalisation. FLOPs of one cell, a multiply-add counts as two, attention included."
    )
    notes += [f"{line.name} failed: {line.failure}" for line in lines if line.failure]
    return notes


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    longest = max((len(row["classifier"]) for row in rows), default=0)
    table.add_column(_HEADINGS[0], overflow="fold", min_width=min(longest, _LONGEST_NAME))
    for heading in _HEADINGS[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_shown(row))
    return table


def _shown(row: dict[str, Any]) -> list[str]:
    """A row as texts, in the order of the headings."""
    if row["failure"]:
        return [row["classifier"], *["–"] * (len(_HEADINGS) - 1)]
    low, high = row["accuracy_low"], row["accuracy_high"]
    return [
        row["classifier"],
        "–" if row["place"] is None else str(row["place"]),
        _share(row["accuracy"]),
        "–" if low is None else f"{low:.3f}–{high:.3f}",
        _share(row["macro_f1"]),
        _share(row["mcc"]),
        f"{row['parameters'] / 1e6:.3f}",
        f"{row['parameters_keras'] / 1e6:.3f}",
        f"{row['flops'] / 1e9:.2f}",
        "–" if row["training_s"] is None else duration(row["training_s"]),
        f"{row['ms_per_cell']:.1f}",
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
