"""Card of a detector: architecture, preprocessing, classes and origin in one checked document.

A card travels in the metadata of its safetensors file, so weights can never be used with the
wrong preprocessing, class list or scale.

Shapes: none; plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, ClassVar, Literal, get_args

from cellcount.core.nms import ANY_CLASS_NMS_IOU, PROPOSAL_NMS_IOU, SAME_CLASS_NMS_IOU
from cellcount.core.records import CellClass
from cellcount.differential.rows import SmearKind
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
from cellcount.settings import MAX_REFINE_STEPS

#: The largest white cell of blood in diameters of a red cell: 20 µm. Cells of twice that are still
#: seen whole, for their centre lies in the core; with half of it scores would depend on the tiles.
_LARGEST_CELL = 8 / 3


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers from which a detector is assembled; nothing else decides its shape.

    Attributes:
        backbone: name for ``create_backbone``.
        backbone_options: keyword options of the backbone.
        strides: pyramid levels taken from the backbone, in input pixels.
        pyramid: ``none``, ``fpn`` or ``bottom-up``.
        pyramid_channels: channels of every pyramid level.
        anchor_sizes_px: per level, the side of the square anchors at the model's scale. With
            fewer entries than levels they belong to the coarsest ones: finer levels make no
            proposals, regions are only pooled from them.
        anchor_ratios: height / width of the anchors, the same on every level.
        pool_size: side of the pooled region (RoIAlign, ``aligned=True``).
        head_dim: width of the two fully connected layers of the box head.
    """

    backbone: str = "timm/cs3darknet_s"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    strides: tuple[int, ...] = (8, 16, 32)
    pyramid: str = "fpn"
    pyramid_channels: int = 96
    anchor_sizes_px: tuple[tuple[float, ...], ...] = ((18.0, 34.0), (60.0, 90.0), (135.0, 200.0))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    pool_size: int = 7
    head_dim: int = 512

    def __post_init__(self) -> None:
        levels = 1 if self.pyramid == "none" else len(self.strides)
        if not 1 <= len(self.anchor_sizes_px) <= levels:
            raise WeightsError(
                f"anchor_sizes_px has {len(self.anchor_sizes_px)} levels, expected 1 to {levels} "
                f"for pyramid {self.pyramid!r} over strides {self.strides}"
            )
        if len({len(sizes) for sizes in self.anchor_sizes_px}) != 1:
            raise WeightsError("anchor_sizes_px must have the same number of sizes on every level")
        if any(s < 1 or s & (s - 1) for s in self.strides) or list(self.strides) != sorted(
            set(self.strides)
        ):
            raise WeightsError(f"strides are {self.strides}, expected ascending powers of two")
        # Bounds, so that a card cannot ask for more memory than there is.
        check_range(self, ("pyramid_channels", 1, 4096), ("pool_size", 1, 64))
        check_range(self, ("head_dim", 1, 65536))


#: A region of 224 px is pooled from stride 2 ** 4 (Lin et al. 2017, equation 1).
CANONICAL_SIZE_PX, CANONICAL_LEVEL = 224.0, 4


def levels_read(kind: str, strides: Sequence[int]) -> tuple[int, ...]:
    """Return those of the strides that a pyramid of that kind reads.

    NOTE: without a pyramid it is the middle one (16 of 8, 16, 32), the level of the original
    Faster R-CNN.
    """
    return (strides[len(strides) // 2],) if kind == "none" else tuple(strides)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Steps from a field to model input, in this order: colours, scale, mean and std.

    Attributes:
        white_balance: bring the background to a fixed white (``images.white_balance``) first.
        red_cell_hue: bring the hue of red cells to that of a reference, too
            (``images.colour_balance``).
        mean, std: RGB statistics for values in 0–1.
        interpolation: how fields are resized.
        pad_multiple: tiles are padded with the mean colour, right and below, to this multiple.
    """

    white_balance: bool = True
    red_cell_hue: bool = False
    mean: Rgb = (0.485, 0.456, 0.406)
    std: Rgb = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear-antialias"
    pad_multiple: int = 32

    def __post_init__(self) -> None:
        check_range(self, ("pad_multiple", 1, 1024))
        if self.red_cell_hue and not self.white_balance:
            raise WeightsError("red_cell_hue is true without white_balance, which it goes on from")
        check_statistics(self.mean, self.std)


@dataclass(frozen=True, slots=True)
class Inference:
    """Fixed numbers of detection; thresholds for counting are in ``DetectorCard.thresholds``.

    Attributes:
        tile_px: side of the largest tile at the model's scale.
        margin_px: largest overlap between a tile's core and its border, of which the model's scale
            may need less (`DetectorCard.tile_margin_px`).
        rpn_pre_nms, rpn_post_nms: proposals per level before and per tile after suppression.
        rpn_score_floor: proposals with less objectness are not looked at again.
        rpn_nms_iou, nms_iou: overlap above which a proposal or a detection of one class is a twin.
        dedupe_iou: overlap above which detections of different classes are one cell.
        score_floor: detections below are never returned.
        max_detections: detections per tile; reaching it is warned about.
    """

    tile_px: int = 768
    margin_px: int = 256
    rpn_pre_nms: int = 600
    rpn_post_nms: int = 500
    rpn_score_floor: float = 0.0
    rpn_nms_iou: float = PROPOSAL_NMS_IOU
    nms_iou: float = SAME_CLASS_NMS_IOU
    dedupe_iou: float = ANY_CLASS_NMS_IOU
    score_floor: float = 0.01
    max_detections: int = 400

    def __post_init__(self) -> None:
        check_range(self, ("tile_px", 64, 8192), ("margin_px", 0, 4096))
        check_range(self, ("rpn_pre_nms", 1, 100_000), ("rpn_post_nms", 1, 100_000))
        check_range(self, ("max_detections", 1, 100_000))


@dataclass(frozen=True, slots=True)
class Refinement:
    """Settings of attention refinement (``models.attention``); off with no steps.

    Attributes:
        steps: looks at every region.
        context: ``window`` around the region, or the whole ``image``.
        state: recurrent state, ``gru`` or ``lstm``.
        attention: ``softmax`` with the box's prior added in log space, ``literal`` (equations 1-2
            of the paper as printed), or ``mean``, where the prior alone decides (for comparison).
        hidden, heads: width of the state, divided among so many attention heads.
        grid: places looked at along each side of the window.
        enlarge: side of the window over that of the region.
        beta: temperature of ``literal``.
        score: what the corrected score has learned to be: the ``iou`` that the moved box will have
            with the cell, or the probability of its ``class`` alone.
    """

    steps: int = 0
    context: Literal["window", "image"] = "window"
    state: Literal["gru", "lstm"] = "gru"
    attention: Literal["softmax", "literal", "mean"] = "softmax"
    hidden: int = 128
    heads: int = 8
    grid: int = 9
    enlarge: float = 1.5
    beta: float = 1.0
    score: Literal["iou", "class"] = "iou"

    def __post_init__(self) -> None:
        check_range(self, ("steps", 0, MAX_REFINE_STEPS), ("hidden", 1, 4096), ("heads", 1, 64))
        check_range(self, ("grid", 2, 64), ("enlarge", 1.0, 16.0))
        if self.hidden % self.heads:
            raise WeightsError(
                f"hidden is {self.hidden}, expected a multiple of heads {self.heads}"
            )


@dataclass(frozen=True, slots=True)
class DetectorCard(JsonCard):
    """Card v1 of a detector.

    Attributes:
        name, version: of the model.
        classes: detector classes in label order.
        thresholds: class id → score from which a detection is counted; chosen on validation.
        rbc_diameter_px: mean red-cell diameter at the model's scale.
        densest_field: most cells in one training field.
        classifier: packaged classifier that types its cells where none is named, "" for none.
        smear: kind of smear that it is for, like ``bone-marrow``; "" where its classes tell.
        experimental: why no count of it can be relied on yet, which every output says; "" for a
            model that was measured on real fields.
        data: data sets trained on: name, source, licence, split, images.
        license: licence of the weights.
        training: settings of the training that made them.
        evaluations: every test evaluation ever made with these weights.
        notes: what the model cannot do, in plain words.
    """

    parts: ClassVar = {
        "architecture": Architecture,
        "preprocessing": Preprocessing,
        "inference": Inference,
        "refinement": Refinement,
    }
    listed: ClassVar = ("classes", "class")

    name: str
    version: str
    classes: tuple[CellClass, ...]
    rbc_diameter_px: float
    license: str
    architecture: Architecture = field(default_factory=Architecture)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    inference: Inference = field(default_factory=Inference)
    refinement: Refinement = field(default_factory=Refinement)
    thresholds: dict[str, float] = field(default_factory=dict)
    densest_field: int = 0
    classifier: str = ""
    smear: str = ""
    experimental: str = ""
    data: tuple[dict[str, Any], ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    evaluations: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    task: str = "detector"
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        check_identity(self.name, self.license, self.schema)
        check_printable(
            self.name, self.version, self.license, self.experimental, classes=self.classes
        )
        if self.smear not in ("", *get_args(SmearKind)):
            raise WeightsError(
                f"card of {self.name!r}: smear is {self.smear!r}, expected one of "
                f"{', '.join(get_args(SmearKind))}, or nothing"
            )
        if not self.classes:
            raise WeightsError(f"card of {self.name!r} lists no classes")
        if not 8 <= self.rbc_diameter_px <= 512:
            raise WeightsError(
                f"card of {self.name!r}: rbc_diameter_px is {self.rbc_diameter_px}, "
                "expected 8 to 512 pixels"
            )
        ids = [c.id for c in self.classes]
        if len(set(ids)) != len(ids):
            raise WeightsError(f"card of {self.name!r} lists a class twice: {ids}")
        unknown = set(self.thresholds) - set(ids)
        if unknown:
            raise WeightsError(f"card thresholds name unknown classes: {sorted(unknown)}")
        if any(not 0 <= t <= 1 for t in self.thresholds.values()):
            raise WeightsError(f"card thresholds are {self.thresholds}, expected 0 to 1")

    @property
    def tile_margin_px(self) -> int:
        """The margin of tiles: as long as the largest cell at the model's scale.

        A margin by the pixel would grow on the slide where a model works at a smaller scale, and
        a slide's pixels would be computed many times.
        """
        return min(self.inference.margin_px, ceil(_LARGEST_CELL * self.rbc_diameter_px))

    def threshold_of(self, class_id: str) -> float:
        """The score from which ``class_id`` is counted (0.5 where the card states none)."""
        return self.thresholds.get(class_id, 0.5)
