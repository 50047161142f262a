"""Settings of a run: plain frozen dataclasses, no heavy imports.

What decides the result (``AnalyzeSettings.fingerprint_fields``) is kept apart from what only
decides how fast or where it is computed, so that a journal knows when it may be continued.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cellcount.errors import UsageError
from cellcount.shards import Shard

EngineName = Literal["auto", "torchvision", "detectron2", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
EdgeRule = Literal["all", "two-sides"]
AnnotateRule = Literal["all", "flagged"]
PictureFormat = Literal["png", "jpeg"]
RunnerName = Literal["local", "ray"]
StainFor = Literal["all", "detector", "classifier"]
Separator = Literal[",", ";", "\t"]
DecimalSign = Literal["point", "comma"]

DEFAULT_DETECTOR = "blood"
AUTO_CLASSIFIER = "auto"
"""Value of ``--classifier`` that takes the one named by the detector's card, if any."""
PACKAGED_CLASSIFIER = "cell-types"
NO_CLASSIFIER = "none"
"""Value of ``--classifier`` that leaves cells untyped."""
NO_STAIN_REFERENCE = "none"
"""Value of ``--stain-reference`` that leaves the stain as it is."""
DEFAULT_MAX_PIXELS = 500_000_000
MAX_REFINE_STEPS = 32
AUTO_ADDRESS = "auto"
ADJUST_BY_CARD = "card"
"""Value of ``--adjust`` that takes the confusion matrix of the classifier's card."""


@dataclass(frozen=True, slots=True)
class AnalyzeSettings:
    """Settings that decide the numbers of an ``analyze`` run.

    Attributes:
        detector: packaged name or folder/file of weights.
        classifier: likewise, ``none``, or ``auto`` for the packaged one that the detector's card
            names.
        type_map: mapping of the classifier's types to coarser ones, ``SOURCE:TARGET``, or None.
        engine: which engine runs the models.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: arithmetic of the model; auto is fp32 on the CPU.
        um_per_px: scale of all images, or None (manifest, metadata, estimate).
        min_score: one threshold for all classes, or None for the card's per-class thresholds.
        edge_rule: ``all`` counts every cell; ``two-sides`` leaves out cells cut by the right and
            lower edge (the counting-chamber convention).
        batch_size: tiles per call of the detector, 0 for the device's default.
        max_pixels: largest image, or window of a larger TIFF, that is decoded, in pixels.
        tile_px: side of a tile in pixels at the model's scale, 0 for the card's.
        refine_steps: looks of attention refinement at every cell, 0 for none, None for the card's.
        stain_reference: packaged name, JSON file or picture that the dyes of every field are made
            like, or ``none``.
        stain_for: who sees the fields so: both models, or one of them.
    """

    detector: str = DEFAULT_DETECTOR
    classifier: str = AUTO_CLASSIFIER
    type_map: str | None = None
    engine: EngineName = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    um_per_px: float | None = None
    min_score: float | None = None
    edge_rule: EdgeRule = "all"
    batch_size: int = 0
    max_pixels: int = DEFAULT_MAX_PIXELS
    tile_px: int = 0
    refine_steps: int | None = None
    stain_reference: str = NO_STAIN_REFERENCE
    stain_for: StainFor = "all"
    plugins: Path | None = None

    def __post_init__(self) -> None:
        if self.stain_for != "all" and self.stain_reference == NO_STAIN_REFERENCE:
            raise UsageError(
                f"--stain-for {self.stain_for} says who sees a normalized stain, but none is "
                "asked for; name a --stain-reference"
            )
        if self.type_map is not None and self.classifier == NO_CLASSIFIER:
            raise UsageError(
                f"--map {self.type_map} translates types, but there is no classifier to give "
                "any; name one with --classifier, or leave out --map"
            )
        _check_um_per_px(self.um_per_px)
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise UsageError(f"--min-score is {self.min_score}, expected a number from 0 to 1")
        if self.batch_size < 0:
            raise UsageError(f"--batch-size is {self.batch_size}, expected 0 (automatic) or more")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels is {self.max_pixels}, expected 1 or more")
        if self.tile_px and (self.tile_px < 256 or self.tile_px % 32):
            raise UsageError(f"--tile-px is {self.tile_px}, expected a multiple of 32 from 256 on")
        if self.refine_steps is not None and not 0 <= self.refine_steps <= MAX_REFINE_STEPS:
            raise UsageError(
                f"--refine-steps is {self.refine_steps}, expected 0 (off) to {MAX_REFINE_STEPS}"
            )

    def fingerprint_fields(self) -> dict[str, Any]:
        """The settings as JSON-ready values, for the journal and run.json."""
        values = dataclasses.asdict(self)
        values["plugins"] = None if self.plugins is None else str(self.plugins)
        return values


def _check_um_per_px(um_per_px: float | None) -> None:
    if um_per_px is not None and not 0.005 <= um_per_px <= 10:
        raise UsageError(
            f"--um-per-px is {um_per_px}, expected micrometres per pixel between "
            "0.005 and 10 (a 100x objective gives about 0.06–0.12)"
        )


@dataclass(frozen=True, slots=True)
class CsvForm:
    """Form of the tables that are written as CSV.

    Attributes:
        separator: of the columns.
        bom: begin with a byte-order mark, for spreadsheets that look for it.
        decimal: sign before the decimals; None for that of the countries whose spreadsheets use
            this separator, which is a comma with semicolons.
    """

    separator: Separator = ","
    bom: bool = False
    decimal: DecimalSign | None = None

    def __post_init__(self) -> None:
        if self.separator == "," and self.decimal == "comma":
            raise UsageError(
                "--csv-decimal is comma, but a comma separates the columns, too; add "
                "--csv-separator ';' or --csv-separator tab"
            )

    @property
    def decimal_sign(self) -> DecimalSign:
        """The decimal sign, chosen by the separator where none was asked for."""
        return self.decimal or ("comma" if self.separator == ";" else "point")

    def number(self, text: str) -> str:
        """A number, given with a decimal point, as it stands in a table."""
        return text.replace(".", ",") if self.decimal_sign == "comma" else text


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Places and forms of the results; never changes a number.

    Attributes:
        out: counts.csv, one row per image.
        forms: name of a form of output (``cellcount.outputs.forms``, or of a plugin) → its path.
        annotated: folder of annotated images, or None.
        annotate: which images are drawn.
        annotated_format: form of the drawn images.
        csv_separator: comma, semicolon or tab.
        csv_bom: tables begin with a byte-order mark.
        csv_decimal: sign before the decimals, None for the one that goes with the separator.
        pseudonymize: key file of the codes that stand for names, or None for the names.
    """

    out: Path
    forms: Mapping[str, Path] = field(default_factory=dict)
    annotated: Path | None = None
    annotate: AnnotateRule = "all"
    annotated_format: PictureFormat = "png"
    csv_separator: Separator = ","
    csv_bom: bool = False
    csv_decimal: DecimalSign | None = None
    pseudonymize: Path | None = None

    def __post_init__(self) -> None:
        _ = self.csv  # refuses what cannot be written

    @property
    def csv(self) -> CsvForm:
        """Form of the tables as CSV."""
        return CsvForm(self.csv_separator, self.csv_bom, self.csv_decimal)


@dataclass(frozen=True, slots=True)
class DifferentialSettings:
    """Settings of the differential, which change no count, so another choice needs no new analysis.

    Attributes:
        profile: packaged name or TOML file; None for the kind of smear that the models know.
        force_profile: use it though the models are of another kind of smear; outputs are marked.
        limits: of percentages.
        adjust: confusion matrix (CSV) that percentages are corrected by, ``card`` for that of the
            classifier's card, None for no correction.
        keep_rejected: count detected white cells whatever their type, platelets, artefacts and
            false finds among them.
    """

    profile: str | None = None
    force_profile: bool = False
    keep_rejected: bool = False
    limits: Literal["wilson", "clopper-pearson"] = "wilson"
    adjust: str | None = None

    def __post_init__(self) -> None:
        if self.force_profile and self.profile is None:
            raise UsageError("--force-profile forces a profile; name it with --profile")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Behaviour of a run; never changes a number.

    Attributes:
        workers: threads that read, decode and draw beside the model, 0 for automatic.
        max_failure_rate: share of failed images above which the run stops with exit code 4.
        fresh: start over even when a journal is there.
        shard: the part of the images that this run takes, None for all.
        runner: where images are analysed: in this process, or by Ray actors.
        ray_address: of a Ray cluster; auto is one that runs already, else this machine.
    """

    workers: int = 0
    max_failure_rate: float = 1.0
    fresh: bool = False
    shard: Shard | None = None
    runner: RunnerName = "local"
    ray_address: str = AUTO_ADDRESS

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UsageError(f"--workers is {self.workers}, expected 0 (automatic) or more")
        if not 0 <= self.max_failure_rate <= 1:
            raise UsageError(
                f"--max-failure-rate is {self.max_failure_rate}, expected a share from 0 to 1"
            )
        if self.ray_address != AUTO_ADDRESS and self.runner != "ray":
            raise UsageError(
                f"--ray-address {self.ray_address} is where Ray actors run, but the runner is "
                f"{self.runner}; add --runner ray"
            )


@dataclass(frozen=True, slots=True)
class AnalyzeRequest:
    """Arguments of one ``cellcount analyze`` call.

    Attributes:
        inputs: files, folders, patterns or manifests.
        analyze: what decides the counts.
        output: where results go.
        run: how it behaves.
        differential: what becomes of the counts.
        slide_from: regular expression that finds the slide in an image's path, or None.
    """

    inputs: tuple[str, ...]
    analyze: AnalyzeSettings
    output: OutputSettings
    run: RunSettings = field(default_factory=RunSettings)
    differential: DifferentialSettings = field(default_factory=DifferentialSettings)
    slide_from: str | None = None


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """Arguments of one ``cellcount classify`` call: pictures of single cells.

    Attributes:
        inputs: files, folders, patterns or manifests.
        out: types.csv, one row per picture.
        classifier: packaged name or folder/file of weights.
        type_map: mapping of its types to coarser ones, ``SOURCE:TARGET``, or None.
        rbc_px: red-cell diameter in the pictures' own pixels, or None.
        um_per_px: their scale, or None (manifest, metadata, what the classifier's card assumes).
        engine: which engine runs the classifier: openvino, or torch for any other.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: arithmetic of the model; auto is fp32 on the CPU.
        batch_size: cells per model call, 0 for the device's default.
        max_pixels: largest picture that is decoded, in pixels.
        workers: threads that read, 0 for automatic.
        csv_separator: comma, semicolon or tab.
        csv_bom: the table begins with a byte-order mark.
        csv_decimal: sign before the decimals, None for the one that goes with the separator.
        plugins: folder of plugins that the user named.
    """

    inputs: tuple[str, ...]
    out: Path
    classifier: str = PACKAGED_CLASSIFIER
    type_map: str | None = None
    rbc_px: float | None = None
    um_per_px: float | None = None
    engine: EngineName = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int = 0
    max_pixels: int = DEFAULT_MAX_PIXELS
    workers: int = 0
    csv_separator: Separator = ","
    csv_bom: bool = False
    csv_decimal: DecimalSign | None = None
    plugins: Path | None = None

    @property
    def csv(self) -> CsvForm:
        """Form of the table as CSV."""
        return CsvForm(self.csv_separator, self.csv_bom, self.csv_decimal)

    def __post_init__(self) -> None:
        _ = self.csv  # refuses what cannot be written
        if self.classifier == NO_CLASSIFIER:
            raise UsageError(
                "--classifier is none, but this command does nothing else than classify; name a "
                "packaged classifier, a weight file or the folder of a training run"
            )
        _check_um_per_px(self.um_per_px)
        if self.rbc_px is not None and not 2 <= self.rbc_px <= 4096:
            raise UsageError(
                f"--rbc-px is {self.rbc_px}, expected the diameter of a red cell in the "
                "pictures' own pixels, from 2 to 4096"
            )
        if self.rbc_px is not None and self.um_per_px is not None:
            raise UsageError("--rbc-px and --um-per-px both state the scale; give one of them")
        for option, number in (("--batch-size", self.batch_size), ("--workers", self.workers)):
            if number < 0:
                raise UsageError(f"{option} is {number}, expected 0 (automatic) or more")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels is {self.max_pixels}, expected 1 or more")
