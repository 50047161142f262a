"""The folder of a training: one training per folder, its settings written once.

Shapes: none.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from cellcount.errors import UsageError
from cellcount.training import checkpoint
from cellcount.training.settings import TrainRun

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

WEIGHTS_FILE = "model.safetensors"
"""The trained weights, in the folder of a training."""


def claim_folder(settings: DataclassInstance, run: TrainRun) -> None:
    """Write the settings of a training into its folder, or compare them when it is resumed.

    A folder where no epoch was finished is free.

    Raises:
        UsageError: another training, or none, is there.
    """
    run.out.mkdir(parents=True, exist_ok=True)
    path = run.out / "settings.json"
    own = json.loads(json.dumps(dataclasses.asdict(settings)))
    begun = any(checkpoint.exists(f) for f in (run.out, *run.out.glob("*/")))
    if not run.resume:
        if begun:
            raise UsageError(
                f"{run.out} already holds a training; continue it with --resume or choose "
                "another --out"
            )
        path.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
        return
    if not begun or not path.is_file():
        raise UsageError(
            f"--resume: no epoch of a training was finished in {run.out}; start without --resume"
        )
    # A setting that an older version did not know has its default.
    stored = {**dataclasses.asdict(type(settings)()), **json.loads(path.read_text("utf-8"))}
    changed = [k for k in own if own[k] != stored.get(k)]
    if changed:
        raise UsageError(
            f"--resume: settings differ from those of {run.out}: "
            + ", ".join(f"{k} was {stored.get(k)!r}, is {own[k]!r}" for k in changed)
        )
