"""Does attention refinement pay? One checkpoint, its trunk frozen, equal training, three arms.

    python -m benchmarks.attention DATA --start blood --out RUNS --minutes 12 --seeds 0 1 2

All arms go on from the same heads, on the same crops in the same order, for the same number of
steps; the arms that look again start with one and the same second look, per seed.

    attention   (a) the second look as it is meant
    mean        (b) the same, but scores never weigh a place: the prior alone does
    none        (c) no second look
    again       (c), each box described once more where it was put, by the same heads: what looking
                twice gives without anything learned; not trained

a - b is what attention adds, a - c what the second look adds in all. Every image is evaluated
whole, by the engine that analyze uses, at the scale its labelled red cells give it, which is the
same for all arms. Figures are COCO's at 100 detections, as in Wang et al. 2021, table 1.
Milliseconds are measured in turn, field by field, once all arms are there: with other work on the
machine they mean nothing, and ``--again-timing`` measures them anew. Choose on ``--split val``,
report ``--split test`` once.

A frozen trunk gives the same maps for the same crop, so they are computed once, for ``--views``
crops of each training image (drawn as in the last epochs of a training), and kept: about 1.6 MB a
crop, in ``--maps``, which runs with other settings of the second look may share. A training is
then a matter of heads alone. ``--minutes`` is the time of one training of the slowest arm on this
machine; ``--iterations`` states the steps themselves. What is finished is not done again, and a
folder whose settings were others is refused.

Shapes: none; images as everywhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.frozen_trunk import Crops, Remembered, console, steps_of
from cellcount.core.records import Detections, LabelledImage
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.classes import blood_classes
from cellcount.datasets.pixels import read_pixels
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.engines.torchvision import FasterRCNN
from cellcount.errors import CellcountError, UsageError
from cellcount.evaluation.detection import evaluate_detections
from cellcount.evaluation.detector_run import truth_of
from cellcount.files.digest import sha256_of
from cellcount.models.detector_card import DetectorCard, Refinement
from cellcount.models.weights import read_weights, resolve, write_weights
from cellcount.training.detector.data import augment_settings, field_factors
from cellcount.training.detector.fields import FieldDataset
from cellcount.training.detector.settings import DetectorTraining, from_recipe
from cellcount.training.optim import AveragedModel

TRAINED = ("attention", "mean", "none")
ARMS = (*TRAINED, "again")
COLUMNS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
_TIMED_FIELDS, _TIMED_ROUNDS = 16, 3
_PROBED_STEPS = 10
_MEMORY = 0.99  # of the averaged weights


@dataclass(frozen=True)
class Plan:
    """Settings that the arms share; those that decide the figures are compared on continuing.

    Attributes:
        start: SHA-256 of the weights all arms start from.
        data: names of the data sets.
        split: images that are evaluated.
        limit: images of each split, 0 for all.
        views: crops of each training image.
        looks: the second look of arm (a).
        lr, batch: of the trainings.
        iterations: steps of each.
    """

    start: str
    data: list[str]
    split: str
    limit: int
    views: int
    looks: dict[str, Any]
    lr: float
    batch: int
    iterations: int = 0

    def refinement(self, arm: str) -> Refinement:
        """The second look of an arm."""
        if arm == "none":
            return Refinement()
        look = Refinement(**self.looks)
        return dataclasses.replace(look, attention="mean") if arm == "mean" else look


@dataclass(frozen=True)
class Fields:
    """Labelled images and the factor that brings each to the model's scale."""

    images: Sequence[LabelledImage]
    factors: Sequence[float]


def build(arm: str, seed: int, plan: Plan, start: Path) -> FasterRCNN:
    """The model of an arm before its training, its trunk replaced; the same heads for all."""
    card, state = read_weights(start)
    card = dataclasses.replace(card, name=arm, refinement=plan.refinement(arm))
    torch.manual_seed(seed)  # so that (a) and (b) begin with one and the same second look
    model = FasterRCNN(card)
    model.take_weights(state)
    model.trunk = Remembered(model.trunk)  # type: ignore[assignment]
    return model


def settings_of(plan: Plan, seed: int, card: DetectorCard) -> DetectorTraining:
    """Settings of one training and of the crops."""
    return from_recipe(
        "default",
        {
            "rbc_diameter_px": card.rbc_diameter_px,
            "lr": plan.lr,
            "batch_size": plan.batch,
            "iterations": max(1, plan.iterations),
            "seed": seed,
        },
    )


def train(arm: str, seed: int, plan: Plan, start: Path, arguments: argparse.Namespace) -> Path:
    """The weights of one arm, trained unless they are there."""
    out: Path = arguments.out
    path = out / f"{arm}-{seed}.safetensors"
    if path.exists():
        return path
    card, state = read_weights(start)
    trained = "none" if arm == "again" else arm
    model = build(arm, seed, plan, start)
    if arm == "again":
        done = read_weights(out / f"{trained}-{seed}.safetensors")[1]
        model.take_weights({k: v for k, v in done.items() if not k.startswith("trunk.")})
        heads = model.weights()
    else:
        crops = Crops(arguments.maps, plan.views)
        average = AveragedModel(model, _MEMORY)
        started = time.perf_counter()
        for step in steps_of(model, crops, settings_of(plan, seed, card), average):
            if step % max(1, plan.iterations // 5) == 0:
                took = time.perf_counter() - started
                console.print(f"{arm}, seed {seed}: step {step}/{plan.iterations}, {took:.0f} s")
        heads = average.shadow.weights()  # type: ignore[operator]
    trunk = {k: v for k, v in state.items() if k.startswith("trunk.")}
    write_weights(path, model.card, {**trunk, **heads})
    return path


def score(weights: Path, fields: Fields) -> dict[str, float]:
    """COCO's figures on whole fields."""
    detector = FieldDetector(load_engine("torchvision", weights, EngineOptions("cpu")))
    card = detector.engine.card
    classes = [c.id for c in card.classes]
    truths, found = [], list[Detections]()
    for image, factor in zip(fields.images, fields.factors, strict=True):
        pixels = read_pixels(image)
        truths.append(truth_of(image, classes, pixels.shape))
        found.append(detector.detect(pixels, factor).detections)
    thresholds = {c: card.threshold_of(c) for c in classes}
    report = evaluate_detections(truths, found, classes, thresholds=thresholds)
    values = report.published.to_dict()
    return {name: float("nan") if values[name] is None else values[name] for name in COLUMNS}


def milliseconds(files: dict[str, Path], fields: Fields) -> dict[str, list[float]]:
    """Per arm the time of each field: the least of a few rounds, the arms in turn."""
    options = EngineOptions("cpu")
    detectors = {a: FieldDetector(load_engine("torchvision", p, options)) for a, p in files.items()}
    times: dict[str, list[float]] = {arm: [] for arm in files}
    for image, factor in list(zip(fields.images, fields.factors, strict=True))[:_TIMED_FIELDS]:
        pixels = read_pixels(image)
        rounds: dict[str, list[float]] = {arm: [] for arm in files}
        for _ in range(_TIMED_ROUNDS):
            for arm, detector in detectors.items():
                started = time.perf_counter()
                detector.detect(pixels, factor)
                rounds[arm].append(1000 * (time.perf_counter() - started))
        for arm, own in rounds.items():
            times[arm].append(min(own))
    return times


def planned(arguments: argparse.Namespace, start: Path) -> Plan:
    """The plan of this call; that of an earlier call in the same folder must agree with it.

    Raises:
        UsageError: it does not, or the start looks again already.
    """
    card, _ = read_weights(start)
    if card.refinement.steps:
        raise UsageError(f"--start {card.name!r} looks again already, so (c) would too")
    looks: dict[str, Any] = {"steps": 2}
    for pair in arguments.set:
        key, _, text = pair.partition("=")
        looks[key] = int(text) if text.isdigit() else _number(text)
    plan = Plan(
        sha256_of(start), [path.name for path in arguments.data], arguments.split, arguments.limit,
        arguments.views, dataclasses.asdict(Refinement(**looks)), arguments.lr, arguments.batch,
    )  # fmt: skip
    path = arguments.out / "plan.json"
    if not path.exists():
        return dataclasses.replace(plan, iterations=arguments.iterations)
    earlier = Plan(**json.loads(path.read_text("utf-8")))
    asked = arguments.iterations or earlier.iterations
    if dataclasses.replace(plan, iterations=asked) != earlier:
        raise UsageError(f"{path} is of other settings; take another --out, or delete the folder")
    return earlier


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def prepared(
    plan: Plan, arguments: argparse.Namespace, start: Path, train_on: Fields, classes: Sequence[str]
) -> Plan:
    """Maps on disk, and the number of steps known; both are kept."""
    out: Path = arguments.out
    card, state = read_weights(start)
    settings = settings_of(plan, 0, card)
    dataset = FieldDataset(
        train_on.images, train_on.factors, classes, augment_settings(settings), seed=0,
        preprocessing=card.preprocessing,
    )  # fmt: skip
    model = FasterRCNN(card)
    model.take_file(state, start)
    model.eval()
    maps: Path = arguments.maps
    maps.mkdir(parents=True, exist_ok=True)
    about, owner = maps / "about.json", [plan.start, plan.data, plan.limit]
    if about.exists() and json.loads(about.read_text("utf-8")) != owner:
        raise UsageError(f"{maps} holds maps of other weights or images; take another --maps")
    about.write_text(json.dumps(owner), "utf-8")
    for view in range(plan.views):
        Crops.make(maps, view, model, dataset)
    if not plan.iterations:
        crops, slowest = Crops(maps, plan.views), build("attention", 0, plan, start)
        probe = dataclasses.replace(settings, iterations=_PROBED_STEPS + 2)
        times = []
        for _ in steps_of(slowest, crops, probe, AveragedModel(slowest, _MEMORY)):
            times.append(time.perf_counter())
        step_s = (times[-1] - times[1]) / (len(times) - 2)
        plan = dataclasses.replace(plan, iterations=max(1, round(60 * arguments.minutes / step_s)))
        console.print(f"{step_s:.2f} s a step, so {plan.iterations} steps in each training")
    (out / "plan.json").write_text(json.dumps(dataclasses.asdict(plan), indent=1), "utf-8")
    return plan


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, in brackets, smallest and largest."""
    mean, low, high = (f"{f(values):.{digits}f}" for f in (statistics.mean, min, max))
    return f"{mean} ({low} to {high})"


def show(
    results: dict[tuple[str, int], dict[str, float]],
    start: dict[str, float],
    times: dict[str, list[float]],
) -> None:
    """The paper's table, and the gains seed by seed."""
    seeds = sorted({seed for _, seed in results})
    table = Table(title=f"Heads trained on from one checkpoint, trunk frozen, {len(seeds)} seeds")
    for name in ("arm", "AP", "AP50", "AP75", "APs", "APm", "APl", "ms per field"):
        table.add_column(name)
    table.add_row("start", *(f"{start[c]:.3f}" for c in COLUMNS), "")
    for arm in ARMS:
        cells = [spread([results[arm, seed][c] for seed in seeds]) for c in COLUMNS]
        table.add_row(arm, *cells, f"{statistics.median(times[arm]):.0f}")
    console.print(table)
    for letter, other in (("b", "mean"), ("c", "none"), ("again", "again")):
        gains = [results["attention", s]["ap"] - results[other, s]["ap"] for s in seeds]
        deviation = f", standard deviation {statistics.stdev(gains):.4f}" if len(gains) > 1 else ""
        console.print(f"a - {letter}: AP {spread(gains, 4)}{deviation}")
    more = [a / c - 1 for a, c in zip(times["attention"], times["none"], strict=True)]
    console.print(f"time of (a) over (c): {statistics.median(more):+.0%} per field (median)")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--start", default="blood", help="model that all arms start from")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--maps", type=Path, help="folder of the maps, else in --out; to share them"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=12.0, help="of the slowest training")
    parser.add_argument("--iterations", type=int, default=0, help="instead of --minutes")
    parser.add_argument("--views", type=int, default=4, help="crops of each training image")
    parser.add_argument("--batch", type=int, default=4, help="crops per step")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--split", default="val", help="images that are evaluated")
    parser.add_argument("--limit", type=int, default=0, help="images of a split, for a first try")
    parser.add_argument(
        "--threads", type=int, default=0, help="of torch; 0 leaves them as they are"
    )
    parser.add_argument("--again-timing", action="store_true", help="measure milliseconds anew")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE",
        help="of the second look, as in the card's Refinement: steps=3 context=image enlarge=2.0",
    )  # fmt: skip
    arguments = parser.parse_args()
    arguments.maps = arguments.maps or arguments.out / "maps"
    return arguments


def fields_of(arguments: argparse.Namespace, card: DetectorCard, *splits: str) -> Fields:
    """Images of the splits, each scaled by its own red cells or those of images of its size."""
    sets = [blood_classes(read_annotations(path)) for path in arguments.data]
    images = [image for annotated in sets for image in annotated.images]
    factors = field_factors(
        images, from_recipe("default", {"rbc_diameter_px": card.rbc_diameter_px})
    )
    chosen = [(i, f) for i, f in zip(images, factors, strict=True) if i.split in splits]
    chosen = chosen[: arguments.limit or None]
    return Fields([i for i, _ in chosen], [f for _, f in chosen])


def main() -> None:
    """Everything that is not done yet, then the table."""
    arguments = parsed()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    start, out = resolve(arguments.start), arguments.out
    out.mkdir(parents=True, exist_ok=True)
    card, _ = read_weights(start)
    plan = planned(arguments, start)
    train_on = fields_of(arguments, card, "train", "")
    evaluated = fields_of(arguments, card, arguments.split)
    plan = prepared(plan, arguments, start, train_on, [c.id for c in card.classes])

    def scored(name: str, weights: Path) -> dict[str, float]:
        path = out / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(score(weights, evaluated), indent=1), "utf-8")
        values: dict[str, float] = json.loads(path.read_text("utf-8"))
        console.print(f"{name}: AP {values['ap']:.4f}")
        return values

    at_start = scored("start", start)
    results = {}
    for seed in arguments.seeds:
        for arm in ARMS:
            weights = train(arm, seed, plan, start, arguments)
            results[arm, seed] = scored(f"{arm}-{seed}", weights)
    timing = out / "ms.json"
    if arguments.again_timing or not timing.exists():
        files = {arm: out / f"{arm}-{arguments.seeds[0]}.safetensors" for arm in ARMS}
        timing.write_text(json.dumps(milliseconds(files, evaluated), indent=1), "utf-8")
    show(results, at_start, json.loads(timing.read_text("utf-8")))


if __name__ == "__main__":
    try:
        main()
    except CellcountError as error:
        sys.exit(f"Error: {error}")
