"""Settings of trainings, and the named recipes that preset a detector's. No heavy imports."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cellcount.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class LoopSettings(Protocol):
    """Settings of any training that the loop and its optimizer read."""

    @property
    def epochs(self) -> int: ...  # noqa: D102 -- the settings classes say what each one is
    @property
    def iterations(self) -> int: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def optimizer(self) -> str: ...  # noqa: D102
    @property
    def lr(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def momentum(self) -> float: ...  # noqa: D102
    @property
    def schedule(self) -> str: ...  # noqa: D102
    @property
    def warmup(self) -> float: ...  # noqa: D102
    @property
    def clip_norm(self) -> float: ...  # noqa: D102
    @property
    def ema_decay(self) -> float: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def validate_every(self) -> int: ...  # noqa: D102


Settings = TypeVar("Settings", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class TrainRun:
    """Places, device and processes of a training; never changes its outcome.

    Attributes:
        data: where the annotated data sets lie; their names are for the card.
        out: folder of the run.
        workers: processes that prepare crops.
        device: auto, cpu, cuda, cuda:N.
        resume: continue from the last checkpoint of ``out``.
        pretrained: local timm safetensors file for the backbone, or None.
        plugins: folder of backbone plugins, or None.
        engine: what a detector is built from.
    """

    data: tuple[Path, ...]
    out: Path
    workers: int = 1
    device: str = "auto"
    resume: bool = False
    pretrained: Path | None = None
    plugins: Path | None = None
    engine: str = "auto"


def build_settings(
    kind: type[Settings],
    recipes: Mapping[str, Mapping[str, Any]],
    recipe: str,
    overrides: Mapping[str, Any],
) -> Settings:
    """Settings of ``kind``: its defaults, the recipe over them, single values over that.

    Raises:
        UsageError: unknown recipe or key, with the nearest known name.
    """
    if recipe not in recipes:
        raise UsageError(f"--recipe is {recipe!r}, expected one of {', '.join(recipes)}")
    known = [f.name for f in dataclasses.fields(kind)]
    for key in overrides:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise UsageError(f"unknown training setting {key!r}{hint}")
    return kind(**{**recipes[recipe], **overrides})
