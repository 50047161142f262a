"""Settings of a run: plain frozen dataclasses, no heavy imports.

What decides the result (``AnalyzeSettings.fingerprint_fields``) is kept apart from what only
decides how fast or where it is computed, so that a journal knows when it may be continued.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cellcount.errors import UsageError

EngineName = Literal["auto", "torchvision", "detectron2"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
EdgeRule = Literal["all", "two-sides"]
AnnotateRule = Literal["all", "flagged"]

DEFAULT_DETECTOR = "blood"
DEFAULT_MAX_PIXELS = 500_000_000


@dataclass(frozen=True, slots=True)
class AnalyzeSettings:
    """What decides the numbers of an ``analyze`` run.

    Attributes:
        detector: packaged name or folder/file of weights.
        engine: which engine runs the detector.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: arithmetic of the model; auto is fp32 on the CPU.
        um_per_px: scale of all images, or None (manifest, metadata, estimate).
        min_score: one threshold for all classes, or None for the card's per-class thresholds.
        edge_rule: ``all`` counts every cell; ``two-sides`` leaves out cells cut by the right and
            lower edge (the counting-chamber convention).
        batch_size: tiles per model call, 0 for the device's default.
        max_pixels: largest image that is decoded, in pixels.
        tile_px: side of a tile in pixels at the model's scale, 0 for the card's.
    """

    detector: str = DEFAULT_DETECTOR
    engine: EngineName = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    um_per_px: float | None = None
    min_score: float | None = None
    edge_rule: EdgeRule = "all"
    batch_size: int = 0
    max_pixels: int = DEFAULT_MAX_PIXELS
    tile_px: int = 0
    plugins: Path | None = None

    def __post_init__(self) -> None:
        if self.um_per_px is not None and not 0.005 <= self.um_per_px <= 10:
            raise UsageError(
                f"--um-per-px is {self.um_per_px}, expected micrometres per pixel between "
                "0.005 and 10 (a 100x objective gives about 0.06–0.12)"
            )
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise UsageError(f"--min-score is {self.min_score}, expected a number from 0 to 1")
        if self.batch_size < 0:
            raise UsageError(f"--batch-size is {self.batch_size}, expected 0 (automatic) or more")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels is {self.max_pixels}, expected 1 or more")
        if self.tile_px and (self.tile_px < 256 or self.tile_px % 32):
            raise UsageError(f"--tile-px is {self.tile_px}, expected a multiple of 32 from 256 on")

    def fingerprint_fields(self) -> dict[str, Any]:
        """The settings as JSON-ready values, for the journal and run.json."""
        values = dataclasses.asdict(self)
        values["plugins"] = None if self.plugins is None else str(self.plugins)
        return values


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Where the results go and in which form; never changes a number.

    Attributes:
        out: counts.csv, one row per image.
        cells: cells.csv, one row per cell, or None.
        annotated: folder of annotated images, or None.
        annotate: which images are drawn.
        coco: COCO file of all cells, or None.
        csv_separator: ``,`` or ``;``.
    """

    out: Path
    cells: Path | None = None
    annotated: Path | None = None
    annotate: AnnotateRule = "all"
    coco: Path | None = None
    csv_separator: Literal[",", ";"] = ","

    def __post_init__(self) -> None:
        named = {"--out": self.out, "--cells": self.cells, "--coco": self.coco}
        taken: dict[Path, str] = {}
        for option, path in named.items():
            if path is None:
                continue
            key = path.absolute()
            if key in taken:
                raise UsageError(f"{option} and {taken[key]} both name {path}; give each its own")
            taken[key] = option


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run behaves: never changes a number.

    Attributes:
        workers: threads that read, decode and draw beside the model, 0 for automatic.
        max_failure_rate: share of failed images above which the run stops with exit code 4.
        fresh: start over even when a journal is there.
    """

    workers: int = 0
    max_failure_rate: float = 1.0
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UsageError(f"--workers is {self.workers}, expected 0 (automatic) or more")
        if not 0 <= self.max_failure_rate <= 1:
            raise UsageError(
                f"--max-failure-rate is {self.max_failure_rate}, expected a share from 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class AnalyzeRequest:
    """One ``cellcount analyze`` call."""

    inputs: tuple[str, ...]
    analyze: AnalyzeSettings
    output: OutputSettings
    run: RunSettings = field(default_factory=RunSettings)
