"""``cellcount evaluate``: models against annotated images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
import cloup

from cellcount.commands import options as shared
from cellcount.commands.terminal.card_text import least_probability
from cellcount.commands.terminal.reports import (
    counter,
    say_problems,
    stdout_console,
    write_csv,
    write_json,
)
from cellcount.files.text import number_of, shown
from cellcount.settings import NO_STAIN_REFERENCE

if TYPE_CHECKING:
    from cellcount.core.records import LabelledImage
    from cellcount.datasets.annotated import AnnotatedSet
    from cellcount.datasets.crop_set import CropSet
    from cellcount.evaluation.classifier_run import ClassifierScores
    from cellcount.evaluation.detection import DetectionReport
    from cellcount.evaluation.true_types import TrueTypes
    from cellcount.models.classifier_card import ClassifierCard

Set = TypeVar("Set", "AnnotatedSet", "CropSet")
_FILE = click.Path(dir_okay=False, path_type=Path)
_stain_reference = click.option(
    "--stain-reference",
    default=NO_STAIN_REFERENCE,
    show_default=True,
    metavar="NAME|FILE|none",
    help="Also with the stain of every image made like this reference, as analyze does.",
)
_run = click.option(
    "--run",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take splits from this training, which knows files by their content; else the data's own, "
    "else those of the model's training.",
)
_json = click.option("--json", "json_", type=_FILE, help="Write everything as JSON.")


@cloup.command("detector")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@cloup.option_group(
    "Data",
    shared.annotation_format,
    shared.annotation_classes,
    click.option("--split", help="Evaluate these images alone: train, val or test."),
    _run,
    click.option(
        "--um-per-px",
        type=click.FloatRange(0.005, 10),
        help="Micrometres per pixel; else from the red cells.",
    ),
)
@cloup.option_group(
    "Model",
    shared.detector,
    click.option(
        "--min-score", type=click.FloatRange(0, 1), help="One working threshold for all classes."
    ),
    shared.refine_steps,
    shared.plugins,
)
@cloup.option_group(
    "Further measurements",
    click.option(
        "--robustness",
        is_flag=True,
        help="Also with the images resized 0.4–2.5x and under the shift suite.",
    ),
    _stain_reference,
)
@cloup.option_group(
    "Outputs",
    _json,
    click.option("--csv", "csv_", type=_FILE, help="Write the class table as CSV."),
    shared.csv_form,
)
@cloup.option_group("Computing", shared.computing)
def evaluate_detector(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Measure a detector on annotated images.

    Prints COCO AP (with 100 detections per image, as published, and with 1,000, as crowded fields
    need), AP per class, precision and recall at the working thresholds, and counting error.
    Images pass through exactly the steps of analyze; each is scaled as a slide of its own.
    """
    from cellcount.analysis.fingerprint import thresholds_of
    from cellcount.engines.base import EngineOptions, load_engine
    from cellcount.engines.field_detector import FieldDetector
    from cellcount.evaluation.detector_run import evaluate_detector, robustness_variants
    from cellcount.evaluation.perturbations import ORIGINAL, with_stain
    from cellcount.files.atomic import check_writable
    from cellcount.files.digest import sha256_of
    from cellcount.images.stain_reference import load_stain_reference
    from cellcount.models.weights import resolve

    form = shared.csv_form_asked(options)
    for path in (options["csv_"], options["json_"]):
        if path is not None:
            check_writable(path)
    weights = resolve(options["detector"])
    engine = load_engine(
        options["engine"],
        weights,
        EngineOptions(
            options["device"], options["precision"], 0, options["plugins"], options["refine_steps"]
        ),
    )
    images, learned = _images(options, [c.id for c in engine.card.classes], weights)
    detector = FieldDetector(engine)
    thresholds = thresholds_of(engine.card, options["min_score"])
    stain = load_stain_reference(options["stain_reference"])
    variants = with_stain(robustness_variants() if options["robustness"] else [ORIGINAL], stain)
    reports = {}
    for variant in variants:
        with counter(variant.name, len(images)) as tick:
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
        write_csv(options["csv_"], reports[ORIGINAL.name].rows(), form=form)
    if options["json_"]:
        about = {
            "detector": engine.card.name,
            "detector_sha256": sha256_of(weights),
            "data": options["data"].name,
            "split": options["split"],
            "learned_from": learned,
            "engine": engine.name,
            "device": engine.device,
            "precision": engine.precision,
            "refine_steps": engine.card.refinement.steps,
            "thresholds": thresholds,
            "um_per_px": options["um_per_px"],
            "stain_reference": None if stain is None else stain.facts(),
            "reports": {name: report.to_dict() for name, report in reports.items()},
        }
        write_json(options["json_"], about)


def _images(
    options: dict[str, Any], classes: list[str], weights: Path
) -> tuple[Sequence[LabelledImage], int | None]:
    """Read the annotated images, and count those that the model learned from; print problems."""
    from cellcount.datasets.annotations import read_annotations
    from cellcount.datasets.classes import blood_classes
    from cellcount.errors import AnnotationError

    annotated = read_annotations(options["data"], format=options["format_"])
    annotated, learned = _in_splits(annotated, "images", options, weights)
    if options["classes"] == "blood":
        annotated = blood_classes(annotated)
    say_problems(annotated.problems)
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
    return annotated.images, learned


def _show(reports: dict[str, DetectionReport], names: dict[str, str]) -> None:
    """Print the tables on stdout."""
    from cellcount.commands.terminal.tables_detector import show_report, show_variants

    console = stdout_console()
    show_report(console, next(iter(reports.values())), names)
    if len(reports) > 1:
        show_variants(console, reports, names)


@cloup.command("classifier")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@cloup.option_group(
    "Data",
    shared.crop_format,
    shared.fine,
    click.option("--split", help="Evaluate these cells alone: train, val or test."),
    _run,
    click.option(
        "--rbc-px",
        type=click.FloatRange(1, 4096),
        help="Red-cell diameter in the pictures' pixels; else the card's.",
    ),
)
@cloup.option_group(
    "Model",
    shared.classifier,
    shared.type_map,
    click.option(
        "--prior",
        type=click.Choice(["card", "uniform", "profile"]),
        default="card",
        show_default=True,
        help="Mixture of types that probabilities are stated at.",
    ),
    shared.plugins,
)
@cloup.option_group(
    "Further measurements",
    click.option(
        "--robustness",
        is_flag=True,
        help="Also with the pictures resized 0.5–2x and under the shift suite.",
    ),
    _stain_reference,
)
@cloup.option_group(
    "Outputs",
    click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for types.csv, confusion.csv and confusion.png.",
    ),
    _json,
    click.option("--csv", "csv_", type=_FILE, help="Write the scores as CSV."),
    shared.csv_form,
)
@cloup.option_group("Computing", shared.device, shared.precision)
def evaluate_classifier(**options: Any) -> None:  # noqa: ANN401 -- click passes options by name
    """Measure a classifier on labelled cells.

    DATA are single cells as for train classifier, or boxes with types. Prints accuracy, balanced
    accuracy, macro and weighted precision, recall and F1, MCC, kappa and calibration error, strict
    and with neighbours in maturation counted as right, each type and the confusion matrix. Limits
    take cells as independent: they are too narrow where patients have several cells each.
    """
    import numpy as np

    from cellcount.engines.base import EngineOptions
    from cellcount.engines.crop_classifier import load_classifier
    from cellcount.evaluation.classifier_run import RESIZES, score, type_labelled
    from cellcount.evaluation.perturbations import ORIGINAL, variants, with_stain
    from cellcount.evaluation.true_types import true_types
    from cellcount.files.digest import sha256_of
    from cellcount.images.stain_reference import load_stain_reference
    from cellcount.models.weights import resolve

    shared.csv_form_asked(options)  # refuses what cannot be written before the work
    _check_places(options)
    weights = resolve(options["classifier"])
    classifier = load_classifier(
        weights, EngineOptions(options["device"], options["precision"], 0, options["plugins"])
    )
    crops, learned = _crops(options, weights)
    truth = true_types(crops, classifier.card, options["type_map"])
    _say_left_out(truth.left_out)
    _say_merged(truth.merged)
    stain = load_stain_reference(options["stain_reference"])
    chosen = with_stain(variants(RESIZES) if options["robustness"] else [ORIGINAL], stain)
    with counter("typing", len(truth.items), "cell") as tick:
        typed = type_labelled(
            truth.items, classifier, variants=chosen, rbc_px=options["rbc_px"], on_cell=tick
        )
    say_problems(typed.problems)
    labels = np.asarray(truth.labels, np.int64)[typed.kept]
    prior = _prior(options["prior"], classifier.card)
    scores = {
        name: score(logits, labels, truth, classifier.card, prior)
        for name, logits in typed.logits.items()
    }
    _show_classifier(scores, truth, classifier.card, options)
    about = {
        "classifier": classifier.card.name,
        "classifier_version": classifier.card.version,
        "classifier_sha256": sha256_of(weights),
        "data": options["data"].name,
        "review_below": classifier.card.review_below,
        "review_below_of": classifier.card.review_below_of,
        "device": classifier.device,
        "precision": classifier.precision,
        "learned_from": learned,
        "left_out": dict(truth.left_out),
        "stain_reference": None if stain is None else stain.facts(),
        **{k: options[k] for k in ("split", "type_map", "fine", "rbc_px", "prior")},
    }
    _write_classifier(scores, truth, about, options)


def _check_places(options: dict[str, Any]) -> None:
    """Raise, before the work, if its results cannot be written."""
    from cellcount.files.atomic import check_folder_writable, check_writable

    for path in (options["csv_"], options["json_"]):
        if path is not None:
            check_writable(path)
    if options["out"] is not None:
        check_folder_writable(options["out"])


def _crops(options: dict[str, Any], weights: Path) -> tuple[CropSet, int | None]:
    """Read the labelled cells, and count those that the model learned from; print problems."""
    from cellcount.datasets.crops import read_crops

    labels: Literal["code", "class"] = "code" if options["fine"] else "class"
    crops = read_crops(options["data"], labels=labels, format=options["format_"])
    say_problems(crops.problems)
    crops, learned = _in_splits(crops, "items", options, weights)
    if learned is None and not options["split"] and "train" in crops.splits():
        click.echo(
            "warning: cells of the train split are among these; --split val leaves them out",
            err=True,
        )
    return crops, learned


def _in_splits(
    data: Set, items: str, options: dict[str, Any], weights: Path
) -> tuple[Set, int | None]:
    """The data in the splits that hold, and how many of it the model learned from.

    Args:
        data: the data set.
        items: its attribute with what has a split.
        options: ``split`` and ``run`` of the command line.
        weights: of the model, beside which its training may have left its splits.

    Returns:
        The split that is asked for, and how many the model learned from; None where nobody knows.
    """
    import dataclasses

    from cellcount.datasets.run_splits import RunSplits

    trained = RunSplits.beside(weights)
    chosen = trained if options["run"] is None else RunSplits.of_run(options["run"])
    if chosen is not None and (options["run"] is not None or set(data.splits()) == {""}):
        changes: dict[str, Any] = {items: chosen.given(getattr(data, items))}
        data = dataclasses.replace(data, **changes)
        if options["split"]:
            click.echo(f"splits are those of {shown(chosen.path)}", err=True)
    if options["split"]:
        data = data.subset(options["split"])
    if trained is None:
        return data, None
    learned = trained.learned_from(getattr(data, items))
    if learned:
        what = "cells" if items == "items" else "images"
        other = "" if options["split"] else "; --split test or val leaves them out"
        click.echo(
            f"warning: the model learned from {learned:,} of the {len(data):,} {what} that it is "
            f"judged on here (known by their content), which flatters it{other}",
            err=True,
        )
    return data, learned


def _say_merged(merged: Mapping[str, Sequence[str]]) -> None:
    for name, members in merged.items():
        click.echo(
            f"measured together as {shown(name)}, since labels do not tell them apart: "
            f"{', '.join(members)}",
            err=True,
        )


def _say_left_out(left_out: Counter[str]) -> None:
    for label, count in sorted(left_out.items()):
        cells = number_of(count, "cell")
        text = f"{cells} of {shown(label)!r} left out: no type that is reported"
        click.echo(f"warning: {text}", err=True)


def _prior(name: str, card: ClassifierCard) -> dict[str, float] | None:
    """Shares that probabilities are stated at; None for the card's own."""
    if name == "card":
        return None
    ids = [t.id for t in card.types]
    if name == "uniform":
        return dict.fromkeys(ids, 1 / len(ids))
    from cellcount.errors import UsageError
    from cellcount.models.taxonomy import load_taxonomy, taxonomies
    from cellcount.training.classifier.calibrate import profile_prior

    if card.taxonomy not in taxonomies():
        raise UsageError(
            f"--prior profile needs to know the types, but those of {card.name!r} are of no "
            "packaged taxonomy; use --prior uniform"
        )
    shares = profile_prior(load_taxonomy(card.taxonomy), ids)
    return dict(zip(ids, shares.tolist(), strict=True))


def _show_classifier(
    scores: dict[str, ClassifierScores],
    truth: TrueTypes,
    card: ClassifierCard,
    options: dict[str, Any],
) -> None:
    from cellcount.commands.terminal.tables_classifier import show_robustness, show_scores

    console = stdout_console()
    where = options["data"].name + (f", {options['split']}" if options["split"] else "")
    mapped = f", reported as {options['type_map']}" if options["type_map"] else ""
    console.print(f"{card.name} {card.version} on {where}{mapped}", markup=False)
    console.print()
    original = next(iter(scores.values()))
    show_scores(console, original, _short_names(truth, original), least_probability(card))
    if len(scores) > 1:
        show_robustness(console, scores)


def _short_names(truth: TrueTypes, scores: ClassifierScores) -> list[str]:
    """Abbreviations of the reported types, ids where there are none."""
    short = {t.id: t.abbreviation or t.id for t in truth.reported.types}
    return [short.get(name, name) for name in scores.report.types]


def _write_classifier(
    scores: dict[str, ClassifierScores],
    truth: TrueTypes,
    about: dict[str, Any],
    options: dict[str, Any],
) -> None:
    from cellcount.commands.terminal.tables_classifier import summary_csv_rows
    from cellcount.outputs.charts import draw_confusion

    original = next(iter(scores.values()))
    form = shared.csv_form_asked(options)
    if options["csv_"]:
        write_csv(options["csv_"], summary_csv_rows(scores), form=form)
    if options["json_"]:
        reports = {name: one.to_dict() for name, one in scores.items()}
        write_json(options["json_"], about | {"reports": reports})
    if options["out"]:
        report = original.report
        write_csv(options["out"] / "types.csv", report.type_rows(), form=form)
        write_csv(options["out"] / "confusion.csv", report.confusion_rows(), form=form)
        title = f"{about['classifier']} on {about['data']}, {report.cells:,} cells"
        names = _short_names(truth, original)
        draw_confusion(options["out"] / "confusion.png", names, report.confusion, title)
