"""The table of paper 001 once more, on cells that anyone can get, by one command.

    pip install ./plugins/cellcount-seeds
    python benchmarks/seeds_table.py DATA --out OUT            # DATA holds pbc and mll-marrow
    python benchmarks/seeds_table.py DATA --out OUT --expect   # how long would that take?

Each network is trained from nothing by ``cellcount models compare`` under the recipe of paper 001
(Adam, rate 0.001, cross-entropy, ImbalancedDatasetSampler), with the same cells, size of input,
number of epochs and seed, and scored on the cells of val. A budget of about an hour on two cores
allows pictures of 96 px, 100 cells a class and a dozen epochs; --px, --per-class and --epochs state
another one. What was trained before in the same folder is not trained again.

The last table puts the figures of the paper beside those computed here. They are not of the same
cells: the paper's are eight of LMU's types at 224 px after 200 epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

from cellcount.evaluation.cost import flops_of_module
from cellcount.models.classifier import Classifier, create_classifier
from cellcount.plugins import CLASSIFIERS, available

DATA_SETS = {"pbc": ("PBC, 8 types of blood", 8), "mll-marrow": ("MLL, 7 types of marrow", 7)}
BATCH = 16
HELD_OUT = 0.1
#: Reading and augmenting a cell, and validating now and then, in seconds per cell and epoch.
OVERHEAD_S = 0.006


@dataclass(frozen=True)
class Published:
    """Figures of tables 1 and 2 of paper 001: accuracy, FLOPs and parameters as words."""

    network: str
    accuracy: float
    flops: str
    parameters: str


PAPER = {
    "seed001-resnet50": Published("ResNet-50", 0.950, "8.219 G", "23.524 M"),
    "seed001-densenet121": Published("DenseNet-121", 0.942, "5.725 G", "6.962 M"),
    "seed001-mobilenetv2": Published("MobileNetV2", 0.940, "495.066 M", "2.234 M"),
    "seed001-mobilenetv3": Published("MobileNetV3", 0.937, "625.849 M", "4.304 M"),
    "seed001-mobilevit": Published("MobileViT", 0.964, "1.799 G", "1.998 M"),
}
#: Beside those, what two cores can afford.
AFFORDABLE = ("seed002-xception", "timm/mobilevit_xxs")


def size_option(name: str, px: int) -> dict[str, Any]:
    """Return the option that sets the side of a classifier's input."""
    return {"input_px" if name.startswith("timm/") else "image_size": px}


def seconds_per_cell(name: str, px: int) -> float:
    """Return the seconds per cell of one training step, after one that is not timed."""
    model = create_classifier(name, 8, **size_option(name, px)).train()
    optimizer = torch.optim.Adam(model.parameters())
    images, labels = torch.rand(BATCH, 3, px, px), torch.arange(BATCH) % 8
    started = 0.0
    for _ in range(2):
        started = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return (time.perf_counter() - started) / BATCH


def expected_minutes(names: list[str], given: argparse.Namespace, console: Console) -> float:
    """Prints what each network will take, judged by one step of each."""
    cells = sum(types for _, types in DATA_SETS.values()) * given.per_class * (1 - HELD_OUT)
    total = 0.0
    for name in names:
        minutes = cells * given.epochs * (seconds_per_cell(name, given.px) + OVERHEAD_S) / 60
        console.print(f"  {name:<24} {minutes:6.1f} min")
        total += minutes
    return total


def compare(name: str, names: list[str], given: argparse.Namespace) -> Path:
    """Runs ``cellcount models compare`` on one data set; returns its compare.json."""
    out: Path = given.out / name
    command = [sys.executable, "-m", "cellcount", "models", "compare", str(given.data / name)]
    command += ["--backbones", ",".join(names), "--out", str(out), "--recipe", "seed-001"]
    command += ["--split", "given", "--per-class", str(given.per_class)]
    command += ["--epochs", str(given.epochs), "--workers", str(given.workers)]
    for setting in (f"input_px={given.px}", f"batch_size={BATCH}", f"holdout={HELD_OUT}"):
        command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode not in (0, 1):  # 1: some failed, and the table says so
        sys.exit(done.returncode)
    return out / "compare.json"


def own_size(name: str) -> tuple[str, str]:
    """Operations at the network's own size of input, and parameters, for the paper's 8 classes."""
    model = create_classifier(name, 8)
    flops = flops_of_module(model, cast(Classifier, model).input_size)
    parameters = sum(p.numel() for p in model.parameters())
    return f"{flops / 1e9:.3f} G", f"{parameters / 1e6:.3f} M"


def beside_the_paper(results: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Rows of the last table: names, accuracies and places, operations and parameters."""
    rows = []
    for name, paper in PAPER.items():
        row = [paper.network, f"{paper.accuracy:.3f}"]
        for lines in results.values():
            (line,) = (one for one in lines if one["classifier"] == name)
            accuracy = line["accuracy"]
            place = sum(
                (one["accuracy"] or 0) > (accuracy or 0)
                for one in lines
                if one["classifier"] in PAPER
            )
            row.append("–" if accuracy is None else f"{accuracy:.3f} ({place + 1})")
        flops, parameters = own_size(name)
        rows.append([*row, paper.flops, flops, paper.parameters, parameters])
    return rows


def show(rows: list[list[str]], out: Path, console: Console) -> None:
    """The last table on the terminal and as Markdown."""
    sets = [f"{name.upper().partition('-')[0]}, here (place of 5)" for name in DATA_SETS]
    headings = ["network", "accuracy, paper (LMU)", *sets, "FLOPs, paper", "FLOPs, here",
                "parameters, paper", "parameters, here"]  # fmt: skip
    table = Table(title="Paper 001 and the same networks here", title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(
        "FLOPs and parameters at 8 classes and the network's own size of input; a multiply-add "
        "counts as two. The paper names neither its MobileNetV3 nor its MobileViT."
    )
    lines = ["| " + " | ".join(cells) + " |" for cells in (headings, *rows)]
    lines.insert(1, "|---|" + "---:|" * (len(headings) - 1))
    (out / "beside-the-paper.md").write_text("\n".join(lines) + "\n", "utf-8")


def options_of_this_run() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Paper 001's table on PBC and MLL.")
    parser.add_argument("data", type=Path, help="folder with pbc/ and mll-marrow/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--px", type=int, default=96, help="side of the input")
    parser.add_argument("--per-class", type=int, default=100, help="cells to learn from")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare cells")
    parser.add_argument("--also", default=",".join(AFFORDABLE), help="further classifiers, A,B,C")
    parser.add_argument("--expect", action="store_true", help="only say how long it would take")
    return parser.parse_args()


def main() -> None:
    """Says how long it will take, compares on both data sets, and prints the last table."""
    given, console = options_of_this_run(), Console(width=130)
    names = [*PAPER, *filter(None, given.also.split(","))]
    missing = [n for n in names if n.partition("/")[0] not in available(CLASSIFIERS)]
    if missing:
        sys.exit(f"{', '.join(missing)}: not installed; pip install ./plugins/cellcount-seeds")
    torch.set_num_threads(given.threads)
    console.print(f"expected, {given.epochs} epochs at {given.px} px, both data sets:")
    console.print(f"  in all {expected_minutes(names, given, console):.0f} min")
    if given.expect:
        return
    results = {}
    for name, (title, _) in DATA_SETS.items():
        console.rule(title)
        results[name] = json.loads(compare(name, names, given).read_text("utf-8"))["rows"]
    show(beside_the_paper(results), given.out, console)


if __name__ == "__main__":
    main()
