"""Folder of an adaptation: the adapted weight file and the figures that a laboratory files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellcount.errors import UsageError
from cellcount.files.atomic import atomic_write, check_folder_writable
from cellcount.files.digest import sha256_of
from cellcount.models.weights import AnyCard
from cellcount.training.run_folder import WEIGHTS_FILE

FIGURES_FILE = "adaptation.json"


def new_weights_path(out: Path) -> Path:
    """Return where the adapted weights go, in a folder that is made if need be.

    Raises:
        UsageError: an adaptation lies there already; none is overwritten.
        OutputError: the folder cannot be written.
    """
    target = out / WEIGHTS_FILE
    if target.exists():
        raise UsageError(f"{target} is there already; choose another --out")
    check_folder_writable(out)
    return target


def base_facts(card: AnyCard, weights: Path) -> dict[str, str]:
    """Name the model that was adapted: its name, version and the digest of its file."""
    return {"name": card.name, "version": card.version, "sha256": sha256_of(weights)}


def write_figures(out: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures before and after as JSON.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    with atomic_write(out / FIGURES_FILE) as file:
        file.write(json.dumps(figures, indent=1, ensure_ascii=False).encode() + b"\n")
