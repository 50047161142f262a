"""The card of a classifier: which types it knows, and how a cell becomes its input.

Like a detector's card it travels in the metadata of the safetensors file.

Shapes: none; plain data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from cellcount.core.blood import WBC
from cellcount.core.records import CellClass
from cellcount.errors import WeightsError
from cellcount.models.card import (
    SCHEMA,
    JsonCard,
    Rgb,
    check_identity,
    check_printable,
    check_range,
    check_statistics,
)
from cellcount.models.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class CropRule:
    """Part of a picture that the classifier looks at.

    A window of fixed physical size keeps the size of a cell visible, which is diagnostic; a window
    relative to its box would not.

    Attributes:
        window_rbc: side of the square window in red-cell diameters; 0 for the whole picture, which
            cells of a field do not have.
        rbc_px: red-cell diameter in the training pictures' own pixels, taken for single-cell
            pictures of unknown scale; None where the training data did not tell.
        contour: crop to the centre-most contour first, as seeds/002 does.
    """

    window_rbc: float = 3.2
    rbc_px: float | None = None
    contour: bool = False

    def __post_init__(self) -> None:
        check_range(self, ("window_rbc", 0, 50))
        if self.rbc_px is not None:
            check_range(self, ("rbc_px", 1, 4096))


@dataclass(frozen=True, slots=True)
class ClassifierArchitecture:
    """Name and options that the network is built from.

    Attributes:
        name: name for ``create_classifier``.
        options: keyword options of the classifier.
        scheme: ``softmax``, one network with an output per type; ``ovr``, a network with one
            output for each type against the rest.
    """

    name: str = "timm/mobilevit_xxs"
    options: dict[str, Any] = field(default_factory=dict)
    scheme: Literal["softmax", "ovr"] = "softmax"


@dataclass(frozen=True, slots=True)
class ClassifierPreprocessing:
    """Steps from a window to model input, in this order: white balance, size, mean and std.

    Attributes:
        input_px: height and width of the input.
        mean, std: RGB statistics for values in 0–1.
        interpolation: how windows are resized, always with antialiasing.
        white_balance: bring the background (``images.white_balance``) to a fixed white first.
    """

    input_px: tuple[int, int] = (160, 160)
    mean: Rgb = (0.485, 0.456, 0.406)
    std: Rgb = (0.229, 0.224, 0.225)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    white_balance: bool = True

    def __post_init__(self) -> None:
        if not all(8 <= side <= 2048 for side in self.input_px):
            raise WeightsError(f"input_px is {self.input_px}, expected sides of 8 to 2048")
        check_statistics(self.mean, self.std)


@dataclass(frozen=True, slots=True)
class ClassifierCard(JsonCard):
    """Card v1 of a classifier.

    Attributes:
        name, version: of the model.
        types: cell types in the order of the outputs.
        taxonomy: packaged taxonomy that the types are of, or "".
        license: licence of the weights.
        detector_classes: detector classes whose cells it types.
        temperature: logits are divided by it before the softmax; chosen on held-out cells.
        prior: type id → share of the cells that probabilities are stated at; empty: as trained.
        trained_prior: type id → share that the network takes for granted; empty: all alike.
        review_below: a cell whose best probability is lower stays unclassified.
        review_below_of: type id → such a probability of its own, of types that may only be counted
            when they are surer.
        data: data sets trained on: name, source, licence, split, images.
        training: settings of the training that made them.
        evaluations: every test evaluation ever made with these weights.
        notes: what the model cannot do, in plain words.
    """

    parts: ClassVar = {
        "architecture": ClassifierArchitecture,
        "crop": CropRule,
        "preprocessing": ClassifierPreprocessing,
    }
    listed: ClassVar = ("types", "type")

    name: str
    version: str
    types: tuple[CellClass, ...]
    taxonomy: str
    license: str
    detector_classes: tuple[str, ...] = (WBC,)
    architecture: ClassifierArchitecture = field(default_factory=ClassifierArchitecture)
    crop: CropRule = field(default_factory=CropRule)
    preprocessing: ClassifierPreprocessing = field(default_factory=ClassifierPreprocessing)
    temperature: float = 1.0
    prior: dict[str, float] = field(default_factory=dict)
    trained_prior: dict[str, float] = field(default_factory=dict)
    review_below: float = 0.5
    review_below_of: dict[str, float] = field(default_factory=dict)
    data: tuple[dict[str, Any], ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    evaluations: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    task: str = "classifier"
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        check_identity(self.name, self.license, self.schema)
        check_printable(self.name, self.version, self.license, classes=self.types)
        ids = [t.id for t in self.types]
        if len(ids) < 2 or len(set(ids)) != len(ids):
            raise WeightsError(
                f"card of {self.name!r} lists the types {ids}, expected two or more different ones"
            )
        check_range(self, ("temperature", 0.01, 100), ("review_below", 0, 1))
        for name in ("prior", "trained_prior"):
            shares: dict[str, float] = getattr(self, name)
            if shares and (set(shares) != set(ids) or min(shares.values()) <= 0):
                raise WeightsError(
                    f"card of {self.name!r}: {name} is {shares}, "
                    f"expected a share above 0 for each of {', '.join(ids)}"
                )
        of_types = self.review_below_of
        if not set(of_types) <= set(ids) or not all(0 <= p <= 1 for p in of_types.values()):
            raise WeightsError(
                f"card of {self.name!r}: review_below_of is {of_types}, "
                f"expected probabilities from 0 to 1 of some of {', '.join(ids)}"
            )

    @property
    def least_probs(self) -> tuple[float, ...]:
        """Least probability at which a cell is counted as each type, in their order."""
        return tuple(self.review_below_of.get(t.id, self.review_below) for t in self.types)

    @property
    def prior_ratios(self) -> tuple[float, ...]:
        """Share of each type at which probabilities are stated over that taken for granted."""
        if not self.prior:
            return (1.0,) * len(self.types)
        return tuple(self.prior[t.id] / self.trained_prior.get(t.id, 1.0) for t in self.types)


def types_of(taxonomy: Taxonomy) -> tuple[CellClass, ...]:
    """The types of a taxonomy as a card lists them."""
    return tuple(
        CellClass(t.id, t.name, t.plural, t.abbreviation, t.lineage) for t in taxonomy.types
    )
