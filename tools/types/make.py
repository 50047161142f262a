"""Makes the packaged classifiers of cell types.

    python -m tools.types.make DATA_FOLDER OUT_FOLDER [ONLY ...]

DATA_FOLDER holds the data sets; OUT_FOLDER takes windows, checkpoints, figures and the weights.
All trainings of ``settings.toml`` are made in their order; then ``package`` calibrates on the
cells of laboratories left out and writes the weight files. ONLY names some of these. A training
that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tools.types.augment import Augment
from tools.types.cells import Cell
from tools.types.evaluate import by_group, of_all, of_five
from tools.types.gather import gathered
from tools.types.network import build, served_logits
from tools.types.train import Training, train
from tools.types.windows import Windows

_LOG = logging.getLogger(__name__)


def settings() -> dict[str, Any]:
    """Settings in ``settings.toml``."""
    path = Path(__file__).with_name("settings.toml")
    return tomllib.loads(path.read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Run:
    """One training of ``settings.toml``.

    Attributes:
        name: of its folder.
        leave_out: laboratories of which it learns nothing.
        training, augment: what it does.
        teacher: training whose network is learned from, or "".
    """

    name: str
    leave_out: tuple[str, ...]
    training: Training
    augment: Augment
    teacher: str


def read_runs(told: dict[str, Any]) -> dict[str, Run]:
    """The trainings by name, in their order."""
    runs = {}
    for entry in told["run"]:
        changes = dict(entry)
        name, leave_out = changes.pop("name"), tuple(changes.pop("leave_out"))
        teacher = changes.pop("teacher", "")
        base = told[changes.pop("base", "train")]
        looks: dict[str, Any] = {**told["augment"], **changes.pop("augment", {})}
        looks = {k: tuple(v) if isinstance(v, list) else v for k, v in looks.items()}
        training = Training(**{**told["train"], **base, **changes})
        runs[name] = Run(name, leave_out, training, Augment(**looks), teacher)
    return runs


def unlearned(cells: Sequence[Cell], left_out: Sequence[str]) -> list[int]:
    """Rows of labelled cells that a training without these laboratories does not learn."""
    return [
        i
        for i, c in enumerate(cells)
        if c.label and (c.laboratory in left_out or c.split in ("val", "test"))
    ]


def perform(
    run: Run, windows: Windows, seed: int, out: Path, teacher: nn.Module | None = None
) -> nn.Module:
    """Trains a network and keeps its logits of the cells that it did not learn."""
    folder = out / run.name
    model = train(
        windows,
        run.training,
        run.augment,
        folder,
        left_out=run.leave_out,
        seed=seed,
        teacher=teacher,
    )
    kept = folder / windows.kept_name
    if not kept.exists():
        rows = unlearned(windows.cells, run.leave_out)
        values = served_logits(model, windows.served, rows)
        np.savez(kept, rows=np.asarray(rows), logits=values)
        _report(run.name, windows.cells, rows, values)
    return model


def trained(folder: Path, backbone: str, input_px: int) -> nn.Module:
    """The averaged network of a finished training."""
    model = build(backbone, input_px, imagenet=False)
    state = torch.load(folder / "last.checkpoint", map_location="cpu", weights_only=True)
    model.load_state_dict(state["averaged"])
    return model.eval()


def _report(name: str, cells: Sequence[Cell], rows: Sequence[int], values: Any) -> None:  # noqa: ANN401
    """One line per laboratory and split."""
    keys = sorted({(cells[i].laboratory, cells[i].split) for i in rows})
    for key in keys:
        chosen = [p for p, i in enumerate(rows) if (cells[i].laboratory, cells[i].split) == key]
        these = [cells[rows[p]] for p in chosen]
        logits = values[chosen]
        _LOG.info("%s %s: of five %s; of all %s", name, key, of_five(logits, these),
                  of_all(logits, these))  # fmt: skip
        groups = ", ".join(
            f"{k} {v.value:.2f} of {v.of}" for k, v in by_group(logits, these).items()
        )
        _LOG.info("    %s", groups)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("only", nargs="*", help="trainings by name, or package; all")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    told = settings()
    windows = gathered(
        options.data,
        options.out / "windows",
        told["seed"],
        told["input_px"],
        told["chula_rbc_px"],
    )
    runs = read_runs(told)
    for run in runs.values():
        if run.name in options.only or not options.only:
            teacher = None
            if run.teacher:
                backbone = runs[run.teacher].training.backbone
                teacher = trained(options.out / run.teacher, backbone, told["input_px"])
            perform(run, windows, told["seed"], options.out, teacher)
    if "package" in options.only or not options.only:
        from tools.types.package import package

        for name in told["package"]:
            package(windows, told, options.out, name)


if __name__ == "__main__":
    main()
