"""Checkpoints of our own trainings: written atomically, read without unpickling code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from cellcount.errors import UsageError

FILE_NAME = "last.checkpoint"


def exists(folder: Path) -> bool:
    """Return whether a training in that folder has finished an epoch."""
    return (folder / FILE_NAME).is_file()


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state beside the old one, then replaces it."""
    part = folder / (FILE_NAME + ".part")
    torch.save(state, part)
    part.replace(folder / FILE_NAME)


def load(folder: Path) -> dict[str, Any]:
    """Reads the state of an earlier run, tensors and plain values only.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise UsageError(f"--resume: {path} does not exist; start without --resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"--resume: {path} cannot be read ({reason}); delete it and start without --resume"
        ) from None
    return state
