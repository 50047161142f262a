"""``cellcount evaluate``: models against annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellcount.settings import DEFAULT_DETECTOR

if TYPE_CHECKING:
    from cellcount.evaluation.detection import DetectionReport

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("detector")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--detector",
    default=DEFAULT_DETECTOR,
    show_default=True,
    metavar="NAME|DIR",
    help="Packaged model, weight file or training run.",
)
@click.option("--split", help="Evaluate these images alone: train, val or test.")
@click.option("--format", "format_", default="auto", show_default=True, help="Annotation format.")
@click.option(
    "--classes",
    default="blood",
    show_default=True,
    help="'blood' maps names to rbc, wbc, platelet; 'as-is' keeps the data's own.",
)
@click.option("--um-per-px", type=float, help="Micrometres per pixel; else from the red cells.")
@click.option("--min-score", type=float, help="One working threshold for all classes.")
@click.option(
    "--robustness",
    is_flag=True,
    help="Also with the images resized 0.4–2.5x and under the shift suite.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "torchvision"]),
    default="auto",
    show_default=True,
    help="What runs the detector.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Arithmetic; auto is fp32 on the CPU.",
)
@click.option("--json", "json_", type=_FILE, help="Write everything as JSON.")
@click.option("--csv", "csv_", type=_FILE, help="Write the class table as CSV.")
@click.option(
    "--plugins",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with backbone plugins (code!).",
)
def evaluate_detector(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Measure a detector on annotated images.

    Prints COCO AP (with 100 detections per image, as published, and with 1,000, as crowded fields
    need), AP per class, precision and recall at the working thresholds, and counting error.
    Images pass through exactly the steps of analyze; each is scaled as a slide of its own.
    """
    from rich.console import Console

    from cellcount.engines.base import EngineOptions, load_engine
    from cellcount.engines.field import FieldDetector
    from cellcount.evaluation.detector import ORIGINAL, evaluate_detector, robustness_variants
    from cellcount.formats import blood_classes, read_annotations
    from cellcount.models.weights import resolve, sha256_of
    from cellcount.pipeline import thresholds_of

    annotated = read_annotations(options["data"], format=options["format_"], split=options["split"])
    if options["classes"] == "blood":
        annotated = blood_classes(annotated)
    for problem in annotated.problems[:10]:
        click.echo(f"warning: {problem}", err=True)
    weights = resolve(options["detector"])
    engine = load_engine(
        options["engine"],
        weights,
        EngineOptions(options["device"], options["precision"], 0, options["plugins"]),
    )
    detector = FieldDetector(engine)
    thresholds = thresholds_of(engine.card, options["min_score"])
    variants = robustness_variants() if options["robustness"] else [ORIGINAL]
    reports = {}
    for variant in variants:
        with _counter(variant.name, len(annotated.images)) as tick:
            reports[variant.name] = evaluate_detector(
                annotated.images,
                detector,
                thresholds=thresholds,
                variant=variant,
                um_per_px=options["um_per_px"],
                on_image=tick,
            )
    console = Console()
    _show(console, reports[ORIGINAL.name])
    if len(reports) > 1:
        _show_variants(console, reports)
    if options["csv_"]:
        _write_csv(options["csv_"], reports[ORIGINAL.name].rows())
    if options["json_"]:
        about = {
            "detector": engine.card.name,
            "detector_sha256": sha256_of(weights),
            "data": options["data"].name,
            "split": options["split"],
            "engine": engine.name,
            "device": engine.device,
            "precision": engine.precision,
            "reports": {name: report.to_dict() for name, report in reports.items()},
        }
        _write_json(options["json_"], about)


def _counter(name: str, total: int) -> Any:  # noqa: ANN401 -- a context manager giving a callable
    """Progress over images on stderr: a bar on a terminal, silence in a batch job."""
    from contextlib import contextmanager

    @contextmanager
    def counting() -> Any:  # noqa: ANN401
        import sys

        if not sys.stderr.isatty():
            click.echo(f"{name}: {total} images", err=True)
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=total)
            yield lambda: bar.advance(task)

    return counting()


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _show(console: Any, report: DetectionReport) -> None:  # noqa: ANN401
    from rich.table import Table

    summary = Table(title=f"COCO average precision, {report.images} images", title_justify="left")
    for column in ("metric", "IoU", "area", "detections", "value"):
        summary.add_column(column, justify="right" if column == "value" else "left")
    for row in report.coco_rows():
        summary.add_row(
            *(_text(row[k]) for k in ("metric", "iou", "area", "max_detections", "value"))
        )
    console.print(summary)
    rows = report.rows()
    table = Table(title="Per class, at the working threshold and IoU 0.5", title_justify="left")
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="left" if key == "class" else "right")
    for row in rows:
        table.add_row(*(_text(v) for v in row.values()))
    console.print(table)


def _show_variants(console: Any, reports: dict[str, DetectionReport]) -> None:  # noqa: ANN401
    from rich.table import Table

    table = Table(title="Robustness: changes of the same images", title_justify="left")
    table.add_column("images")
    first = next(iter(reports.values()))
    for key in ("AP", "AP50", "loss of AP50"):
        table.add_column(key, justify="right")
    for scores in first.classes:
        table.add_column(f"{scores.name} count error", justify="right")
    for name, report in reports.items():
        ap, ap50 = report.crowded.ap, report.crowded.ap50
        loss = None if ap50 is None else (first.crowded.ap50 or 0.0) - ap50
        errors = [row["count_relative_error"] for row in report.rows()[:-1]]
        shown = [f"{e:+.1%}" if isinstance(e, float) else "–" for e in errors]
        table.add_row(name, _text(ap), _text(ap50), _text(loss), *shown)
    console.print(table)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    import csv
    import io

    from cellcount.outputs.atomic import atomic_write

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _write_json(path: Path, document: dict[str, Any]) -> None:
    import json

    from cellcount.outputs.atomic import atomic_write

    with atomic_write(path) as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
