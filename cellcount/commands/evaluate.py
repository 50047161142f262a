"""``cellcount evaluate``: models against annotated images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellcount.commands import options as shared
from cellcount.commands.wording import number_of, shown

if TYPE_CHECKING:
    from cellcount.evaluation.detection import DetectionReport
    from cellcount.records import LabelledImage

_SHOWN = 10

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("detector")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@shared.detector
@click.option("--split", help="Evaluate these images alone: train, val or test.")
@shared.annotation_format
@shared.annotation_classes
@click.option(
    "--um-per-px",
    type=click.FloatRange(0.005, 10),
    help="Micrometres per pixel; else from the red cells.",
)
@click.option(
    "--min-score", type=click.FloatRange(0, 1), help="One working threshold for all classes."
)
@click.option(
    "--robustness",
    is_flag=True,
    help="Also with the images resized 0.4–2.5x and under the shift suite.",
)
@shared.engine
@shared.device
@shared.precision
@click.option("--json", "json_", type=_FILE, help="Write everything as JSON.")
@click.option("--csv", "csv_", type=_FILE, help="Write the class table as CSV.")
@shared.plugins
def evaluate_detector(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Measure a detector on annotated images.

    Prints COCO AP (with 100 detections per image, as published, and with 1,000, as crowded fields
    need), AP per class, precision and recall at the working thresholds, and counting error.
    Images pass through exactly the steps of analyze; each is scaled as a slide of its own.
    """
    from cellcount.engines.base import EngineOptions, load_engine
    from cellcount.engines.field import FieldDetector
    from cellcount.evaluation.detector import ORIGINAL, evaluate_detector, robustness_variants
    from cellcount.models.weights import resolve, sha256_of
    from cellcount.outputs.atomic import check_writable
    from cellcount.pipeline import thresholds_of

    for path in (options["csv_"], options["json_"]):
        if path is not None:
            check_writable(path)
    weights = resolve(options["detector"])
    engine = load_engine(
        options["engine"],
        weights,
        EngineOptions(options["device"], options["precision"], 0, options["plugins"]),
    )
    images = _images(options, [c.id for c in engine.card.classes])
    detector = FieldDetector(engine)
    thresholds = thresholds_of(engine.card, options["min_score"])
    variants = robustness_variants() if options["robustness"] else [ORIGINAL]
    reports = {}
    for variant in variants:
        with _counter(variant.name, len(images)) as tick:
            reports[variant.name] = evaluate_detector(
                images,
                detector,
                thresholds=thresholds,
                variant=variant,
                um_per_px=options["um_per_px"],
                on_image=tick,
            )
    _show(reports, {c.id: c.plural for c in engine.card.classes} | {"all": "all cells"})
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
            "thresholds": thresholds,
            "um_per_px": options["um_per_px"],
            "reports": {name: report.to_dict() for name, report in reports.items()},
        }
        _write_json(options["json_"], about)


def _images(options: dict[str, Any], classes: list[str]) -> Sequence[LabelledImage]:
    """The annotated images; what cannot be used of them is said."""
    from cellcount.errors import AnnotationError
    from cellcount.formats import blood_classes, read_annotations

    annotated = read_annotations(options["data"], format=options["format_"], split=options["split"])
    if options["classes"] == "blood":
        annotated = blood_classes(annotated)
    for problem in annotated.problems[:_SHOWN]:
        click.echo(f"warning: {shown(problem)}", err=True)
    if len(annotated.problems) > _SHOWN:
        click.echo(f"warning: {len(annotated.problems) - _SHOWN:,} more problems", err=True)
    labels = Counter(label for image in annotated.images for label in image.labels)
    strange = {label: count for label, count in labels.items() if label not in classes}
    if labels and len(strange) == len(labels):
        raise AnnotationError(
            f"{options['data']} has boxes of {', '.join(sorted(strange))}, the detector knows "
            f"{', '.join(classes)}: nothing can be compared; see --classes"
        )
    for label, count in sorted(strange.items()):
        boxes = number_of(count, "box", "boxes")
        click.echo(f"warning: {boxes} of {label!r} left out: no class of the detector", err=True)
    return annotated.images


@contextmanager
def _counter(name: str, total: int) -> Iterator[Callable[[], None]]:
    """Progress over images on stderr: a bar on a terminal, one line in a batch job."""
    import sys

    if not sys.stderr.isatty():
        click.echo(f"{name}: {number_of(total, 'image')}", err=True)
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)


def _show(reports: dict[str, DetectionReport], names: dict[str, str]) -> None:
    """The tables on stdout, 100 columns wide where that is no terminal."""
    import sys

    from rich.console import Console

    from cellcount.commands.report_tables import show_report, show_variants

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    show_report(console, next(iter(reports.values())), names)
    if len(reports) > 1:
        show_variants(console, reports, names)


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
