"""World in which faults are tried: fields, models, a quiet run, and the comparison with it.

A fork of this process has torch imported already, so that a kill costs a second, not ten.
"""

from __future__ import annotations

import csv
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from PIL import Image

from cellcount import cli
from cellcount.engines.base import EngineOptions, choose_engine, load_engine
from cellcount.models.classifier import create_classifier
from cellcount.models.classifier_card import (
    ClassifierArchitecture,
    ClassifierCard,
    ClassifierPreprocessing,
    CropRule,
    types_of,
)
from cellcount.models.taxonomy import load_taxonomy
from cellcount.models.weights import write_weights
from cellcount.rendering.field import FieldSpec, render_field

ROOT = Path(__file__).resolve().parent.parent
DETECTOR = ROOT / "tests" / "golden" / "tiny.safetensors"
TABLES = ("counts.csv", "cells.csv", "slides.csv", "coco.json")
SLIDES, FIELDS = 3, 4
FAULT = "CELLCOUNT_BENCHMARK_FAULT"
# A classifier that misbehaves where it is told to: by an exception, or by ending its process.
PLUGIN = """
import os, random
import torch
from torch import nn

class Flaky(nn.Module):
    input_size, interpolation = (16, 16), "bilinear"
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, num_classes):
        super().__init__()
        self.last = nn.Linear(3, num_classes)

    def forward(self, images):
        fault = os.environ.get("CELLCOUNT_BENCHMARK_FAULT")
        if fault and random.random() < 0.02:
            if fault == "exit":
                os._exit(9)
            raise RuntimeError("the plugin has failed")
        return self.last(images.mean(dim=(2, 3)))

def build_classifier(num_classes):
    return Flaky(num_classes)
"""


@dataclass
class Verdict:
    """Result of the trials of one fault.

    Attributes:
        times: how often it struck.
        lost, doubled: images missing or repeated at the end.
        different: trials that ended with other bytes than a quiet run.
        wrong: what else was not as it should be.
    """

    times: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Nothing at all went wrong."""
        return not (self.lost or self.doubled or self.different or self.wrong)


def _import_what_runs_need() -> None:
    """Import here what each run would import after its fork, which takes half of its time."""
    for name in ("cellcount.commands.analyze", "cellcount.analysis.job"):
        import_module(name)
    load_engine(choose_engine("auto"), DETECTOR, EngineOptions("cpu", "fp32"))


class World:
    """Fields, models and the outputs of a quiet run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slides = folder / "slides"
        for number in range(SLIDES * FIELDS):
            spec = FieldSpec(160, 120, number + 1, 24, 0.3, 2, 3, debris=0)
            path = self.slides / f"s{number % SLIDES}" / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render_field(spec).pixels).save(path)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "flaky.py").write_text(PLUGIN)
        self._write_classifier()
        _import_what_runs_need()
        started = time.perf_counter()
        self.run(folder / "quiet")
        self.run(folder / "quiet", ["--fresh"])  # the first one imports and caches
        self.seconds = (time.perf_counter() - started) / 2
        self.quiet = outputs(folder / "quiet")

    def _write_classifier(self) -> None:
        plugins = self.folder / "plugins"
        known = {t.id: t for t in types_of(load_taxonomy("pbc-8"))}
        card = ClassifierCard(
            name="flaky",
            version="1",
            types=tuple(known[i] for i in ("neutrophil", "lymphocyte")),
            taxonomy="pbc-8",
            license="Apache-2.0",
            detector_classes=("rbc", "wbc"),
            architecture=ClassifierArchitecture("flaky"),
            crop=CropRule(window_rbc=1.0),
            preprocessing=ClassifierPreprocessing((16, 16), (0.0,) * 3, (1.0,) * 3),
        )
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = create_classifier("flaky", 2, plugin_folder=plugins)
        write_weights(self.folder / "flaky.safetensors", card, model.state_dict())

    def start(
        self, out: Path, options: Sequence[str] = (), before: Callable[[], None] = lambda: None
    ) -> int:
        """Begins a run in a process of its own, and gives its number."""
        arguments = ["analyze", str(self.slides), "--detector", str(DETECTOR)]
        arguments += ["--classifier", str(self.folder / "flaky.safetensors")]
        arguments += ["--plugins", str(self.folder / "plugins"), "--device", "cpu"]
        named = {"--out": 0, "--cells": 1, "--slides": 2, "--coco": 3}
        for option, place in named.items():
            arguments += [option, str(out / TABLES[place])]
        arguments += ["--annotated", str(out / "drawn"), "--workers", "2", *options]
        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            with open(self.folder / "log.txt", "w") as log:
                for stream in (1, 2):
                    os.dup2(log.fileno(), stream)
            random.seed(os.getpid())
            before()
            code = cli.main(arguments)
        finally:
            os._exit(code)

    def run(
        self, out: Path, options: Sequence[str] = (), before: Callable[[], None] = lambda: None
    ) -> int:
        """A whole run; its exit code."""
        return ended(self.start(out, options, before))

    @property
    def said(self) -> str:
        """Messages of the last run."""
        return (self.folder / "log.txt").read_text(errors="replace")


def ended(pid: int) -> int:
    """The exit code of a process that ends, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def outputs(folder: Path) -> dict[str, bytes]:
    """Every output but run.json, which holds times."""
    files = [folder / name for name in TABLES]
    files += sorted(folder.glob("drawn/**/*.png"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.exists()}


def images_of(folder: Path) -> list[str]:
    """The images in the rows of a counts.csv, [] where there is none."""
    path = folder / TABLES[0]
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def judge(world: World, out: Path, verdict: Verdict, *, same_bytes: bool = True) -> None:
    """Compares what is there at the end of a trial with the quiet run."""
    expected, found = images_of(world.folder / "quiet"), Counter(images_of(out))
    verdict.lost += sum(image not in found for image in expected)
    verdict.doubled += sum(found.values()) - len(found)
    if same_bytes:
        now = outputs(out)
        verdict.different += now != world.quiet
        if now != world.quiet:
            names = sorted(k for k in now.keys() | world.quiet if now.get(k) != world.quiet.get(k))
            verdict.wrong.append(f"differ: {', '.join(names)}")
    left = sorted(p.name for form in ("*.tmp", "*.lock") for p in out.rglob(form))
    if left:
        verdict.wrong.append(f"left behind: {', '.join(left)}")


def finish(world: World, out: Path, verdict: Verdict, expected: int = 0) -> None:
    """Gives the command again until it ends by itself."""
    code = world.run(out)
    if code != expected:
        verdict.wrong.append(f"ended with {code}, expected {expected}: {world.said[-300:]}")


def expect(verdict: Verdict, code: int, codes: set[int], world: World) -> None:
    """Notes an exit code that should not be."""
    if code not in codes:
        verdict.wrong.append(f"exit code {code}, expected {sorted(codes)}: {world.said[-300:]}")
