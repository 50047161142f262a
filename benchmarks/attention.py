"""Does attention refinement pay? From one checkpoint, equal training, three arms, several seeds.

    python benchmarks/attention.py DATA --start blood --out RUNS [--seeds 0 1 2] [--epochs 4]

With the trunk frozen, the heads go on from the same weights for the same number of steps:

    attention   the second look as it is meant
    mean        the same head, but every place it looks at counts alike
    none        no second look

So attention less mean tells what attention adds, and attention less none what the second look adds
in all. Trainings that are finished are not repeated. Figures are COCO's at 100 detections, as in
Wang et al. 2021, table 1; choose on ``--split val``, report ``--split test`` once.

Shapes: none; images as everywhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cellcount.data.dataset import read_pixels
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field import FieldDetector
from cellcount.evaluation.detector import evaluate_detector, field_factor
from cellcount.formats import blood_classes, read_annotations
from cellcount.formats.annotated import AnnotatedSet
from cellcount.models.weights import resolve
from cellcount.training.detector import WEIGHTS_FILE, train_detector
from cellcount.training.settings import TrainRun, from_recipe

ARMS: dict[str, dict[str, object]] = {
    "attention": {"refine_steps": 2, "refine_attention": "softmax"},
    "mean": {"refine_steps": 2, "refine_attention": "mean"},
    "none": {"refine_steps": 0},
}
COLUMNS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
_TIMED = 24


@dataclass(frozen=True)
class Result:
    """One trained arm: COCO's figures and milliseconds per field."""

    arm: str
    seed: int
    scores: dict[str, float]
    ms: float


def train_arm(arm: str, seed: int, data: list[AnnotatedSet], arguments: argparse.Namespace) -> Path:
    """The weights of one arm, trained unless they are there."""
    out = arguments.out / f"{arm}-{seed}"
    settings = from_recipe(
        "default",
        {
            "name": arm,
            "init": arguments.start,
            "learn": "heads",
            "split": "given",
            "epochs": arguments.epochs,
            "lr": arguments.lr,
            "settle": 0.5,
            "validate_every": arguments.epochs,
            "seed": seed,
            **ARMS[arm],
        },
    )
    weights: Path = out / WEIGHTS_FILE
    if not weights.exists():
        run = TrainRun(tuple(arguments.data), out, workers=1, device=arguments.device)
        train_detector(data, settings, run, print)
    return weights


def measure(
    arm: str, seed: int, weights: Path, data: list[AnnotatedSet], arguments: argparse.Namespace
) -> Result:
    """COCO's figures on the split, and the time of the detector alone."""
    images = [i for part in data for i in part.images if i.split == arguments.split]
    detector = FieldDetector(load_engine("torchvision", weights, EngineOptions(arguments.device)))
    card = detector.engine.card
    thresholds = {c.id: card.threshold_of(c.id) for c in card.classes}
    report = evaluate_detector(images, detector, thresholds=thresholds)
    scores = report.published.to_dict()
    timed = [read_pixels(image) for image in images[:_TIMED]]
    factors = [field_factor(detector, pixels, None) for pixels in timed]
    times = []
    for pixels, factor in zip(timed, factors, strict=True):
        started = time.perf_counter()
        detector.detect(pixels, factor)
        times.append(1000 * (time.perf_counter() - started))
    return Result(arm, seed, {k: float(scores[k] or 0) for k in COLUMNS}, statistics.median(times))


def spread(values: list[float]) -> str:
    """Mean and, in brackets, smallest and largest."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def show(results: list[Result], console: Console) -> None:
    """The paper's table, and the gains seed by seed."""
    table = Table(title="Heads trained on from one checkpoint, trunk frozen")
    for name in ("arm", "AP", "AP50", "AP75", "APs", "APm", "APl", "ms per field"):
        table.add_column(name)
    for arm in ARMS:
        own = [r for r in results if r.arm == arm]
        cells = [spread([r.scores[c] for r in own]) for c in COLUMNS]
        table.add_row(arm, *cells, f"{statistics.mean(r.ms for r in own):.0f}")
    console.print(table)
    ap = {(r.arm, r.seed): r.scores["ap"] for r in results}
    seeds = sorted({r.seed for r in results})
    for other in ("mean", "none"):
        gains = [ap["attention", seed] - ap[other, seed] for seed in seeds]
        console.print(f"AP gained by attention over {other}: {spread(gains)}")


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--start", default="blood", help="model that all arms start from")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--split", default="val")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    resolve(arguments.start)
    data = [blood_classes(read_annotations(path)) for path in arguments.data]
    results = []
    for seed in arguments.seeds:
        for arm in ARMS:
            weights = train_arm(arm, seed, data, arguments)
            results.append(measure(arm, seed, weights, data, arguments))
    show(results, Console())
    facts = [asdict(result) for result in results]
    (arguments.out / f"attention-{arguments.split}.json").write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
