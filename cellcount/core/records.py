"""Records that pass between stages: frozen, validated when made, empty sets allowed.

Shapes: N cells, H image height, W image width.
Boxes are float32 ``(N, 4)`` xyxy in pixels of the whole original image everywhere except inside
an engine, where they are in pixels of the tile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["done", "failed", "excluded", "outstanding"]
BoxChange = Literal["added", "moved", "not_a_cell", "deleted"]

UNCLASSIFIED = "unclassified"
"""Type of a cell of which the classifier was not sure enough."""

NOT_A_CELL = "not_a_cell"
"""Type of an object that a person called no cell."""

REJECTED = "rejected"
"""Name of the count of cells that were detected as white cells and typed as none."""

TAKEN_OUT = (NOT_A_CELL, "deleted")
"""Type of cells that a person removed."""

_PAGE = re.compile(r"(.*)#page=(\d{1,9})", re.DOTALL)


def path_order(image: str) -> tuple[tuple[str, ...], int, str]:
    """Sorting key of every plan and table: folder by folder, pages by number (2 before 10).

    Args:
        image: identity of an image, as in ``ImageRef.image``.
    """
    match = _PAGE.fullmatch(image)
    path, page = (match[1], int(match[2])) if match else (image, -1)
    return PurePosixPath(path).parts, page, image


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One field to analyse: its path and its identity.

    Attributes:
        path: file on disk.
        image: identity in every table: POSIX path relative to its INPUT, ``#page=2`` for pages.
        slide: the slide the field belongs to.
        specimen: the specimen (one patient, one draw) the slide belongs to, or "".
        stain: stain named in the manifest, or "".
        um_per_px: scale given for this field (manifest or option), or None.
        wbc_10e9_per_l: the analyzer's white cell count of the specimen, or None.
        page: page of a multi-page file, counted from 0.
        caution: what a person should know of the file among the others of a run, or "".
        accession: number of the order that the specimen belongs to, or "".
    """

    path: Path
    image: str
    slide: str
    specimen: str = ""
    stain: str = ""
    um_per_px: float | None = None
    wbc_10e9_per_l: float | None = None
    page: int = 0
    caution: str = ""
    accession: str = ""

    def facts(self) -> dict[str, Any]:
        """Return all attributes, JSON-ready; a caution or an accession number only where set."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)} | {"path": str(self.path)}
        for name in ("caution", "accession"):
            if not facts[name]:
                del facts[name]
        return facts


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """Decoded pixels of one field.

    Attributes:
        pixels: uint8 ``(H, W, 3)`` RGB.
        um_per_px: scale found in the file's own metadata, or None.
        cautions: sentences about the file that a person should read before believing the counts.
    """

    pixels: NDArray[np.uint8]
    um_per_px: float | None = None
    cautions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if self.pixels.ndim != 3 or shape[2] != 3 or dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (H, W, 3), got {dtype} {shape}")

    @property
    def height_px(self) -> int:
        """Height of the field."""
        return int(self.pixels.shape[0])

    @property
    def width_px(self) -> int:
        """Width of the field."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, eq=False, slots=True)
class Detections:
    """Boxes, scores and labels of the cells that a detector found.

    Attributes:
        boxes_xyxy: float32 ``(N, 4)``, ``x_min <= x_max`` and ``y_min <= y_max``.
        scores: float32 ``(N,)`` in 0–1.
        labels: int64 ``(N,)``, index into the detector's classes (no background class).
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.boxes_xyxy)
        expected = (("boxes_xyxy", (n, 4)), ("scores", (n,)), ("labels", (n,)))
        for name, shape in expected:
            actual = getattr(self, name).shape
            if actual != shape:
                raise ValueError(f"{name} must have shape {shape}, got {actual}")

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Detections:
        """A subset by mask, index array or slice."""
        return Detections(self.boxes_xyxy[index], self.scores[index], self.labels[index])

    @classmethod
    def empty(cls) -> Detections:
        """Make a set without detections."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Join the detections of several sets, in their order."""
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([p.boxes_xyxy for p in parts]).astype(np.float32, copy=False),
            np.concatenate([p.scores for p in parts]).astype(np.float32, copy=False),
            np.concatenate([p.labels for p in parts]).astype(np.int64, copy=False),
        )


@dataclass(frozen=True, eq=False, slots=True)
class CellTypes:
    """Types of N cells by a classifier; cells that it did not look at are untyped.

    Attributes:
        best: int64 ``(N,)``, index of the likeliest type, -1 for an untyped cell.
        prob: float32 ``(N,)``, probability of that type; NaN where a reviewer gave it, and of no
            meaning for an untyped cell.
        second: int64 ``(N,)``, index of the next likely type, -1 where there is none.
        second_prob: float32 ``(N,)``, probability of that one.
        accepted: bool ``(N,)``, sure enough to count; a typed cell that is not is unclassified.
    """

    best: NDArray[np.int64]
    prob: NDArray[np.float32]
    second: NDArray[np.int64]
    second_prob: NDArray[np.float32]
    accepted: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = (len(self.best),)
        for name in ("best", "prob", "second", "second_prob", "accepted"):
            if (actual := getattr(self, name).shape) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {actual}")
        for name in ("best", "second"):
            values = getattr(self, name)
            if len(values) and values.min() < -1:
                raise ValueError(f"{name} is {values.min()}, expected -1 or an index of a type")
        if (self.accepted & (self.best < 0)).any():
            raise ValueError("a cell is accepted without a type")

    def __len__(self) -> int:
        return len(self.best)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> CellTypes:
        """A subset by mask, index array or slice."""
        return CellTypes(
            self.best[index],
            self.prob[index],
            self.second[index],
            self.second_prob[index],
            self.accepted[index],
        )

    @classmethod
    def untyped(cls, count: int) -> CellTypes:
        """Make ``count`` cells that no classifier typed."""
        nothing, zeros = np.full(count, -1, np.int64), np.zeros(count, np.float32)
        return cls(nothing, zeros, nothing, zeros, np.zeros(count, np.bool_))


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """The cells of one image, ranked by (y, x) of their upper left corner; added ones come last.

    Attributes:
        detections: boxes in pixels of the original image.
        edge: bool ``(N,)``, the cell is cut by the image's edge.
        types: what a classifier said of the N cells, None where none was asked.
        numbers: int64 ``(N,)``, rank of each cell from 1 in the tables, None where it is its
            place: cells that a person removed leave a gap, and those added come last.
        rejected: bool ``(N,)``, detected as a white cell, but of a type that is none: in no count
            of a class; None where no type was held against its class.
    """

    detections: Detections
    edge: NDArray[np.bool_]
    types: CellTypes | None = None
    numbers: NDArray[np.int64] | None = None
    rejected: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.edge.shape != (len(self.detections),):
            raise ValueError(
                f"edge must have shape ({len(self.detections)},), got {self.edge.shape}"
            )
        if self.types is not None and len(self.types) != len(self.detections):
            raise ValueError(
                f"types must be of {len(self.detections)} cells, got {len(self.types)}"
            )

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def counted(self) -> int:
        """Number of cells that count as cells of their class."""
        return len(self) if self.rejected is None else int((~self.rejected).sum())

    def number_of(self, place: int) -> int:
        """Rank from 1 that the tables give to the cell at a place from 0."""
        return place + 1 if self.numbers is None else int(self.numbers[place])

    @classmethod
    def empty(cls) -> Cells:
        """Make a set without cells."""
        return cls(Detections.empty(), np.zeros(0, np.bool_))


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of a field, from its pixels alone; None where too little is stained to measure.

    Attributes:
        focus: sharpness of edges, about 1 when sharp and 0 when hopelessly blurred.
        exposure: brightness of the clear background, 0-255.
        clipped_percent: pixels of which a channel is as dark or as bright as can be.
        stain_balance: the red channel's share of the stain's density, higher for bluer stains.
        stained_percent: pixels that are clearly darker than the glass around them.
    """

    focus: float | None
    exposure: float
    clipped_percent: float
    stain_balance: float | None
    stained_percent: float


@dataclass(frozen=True, slots=True)
class Review:
    """A person's label of one cell, which stands beside the model's label, never in its place.

    Attributes:
        type_id: the type given, or ``unclassified`` where the person left it open.
        reviewer: who it was.
        reviewed_at: when, ISO 8601 in UTC.
        comment: as the person wrote it, or "".
    """

    type_id: str
    reviewer: str
    reviewed_at: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class BoxEdit:
    """Edit of a cell's box by a person: moved, added or deleted.

    Attributes:
        change: ``added`` where only the person saw the cell, ``moved`` where its box is the
            person's, ``not_a_cell`` where something else was detected, ``deleted`` where the box
            is one too many; cells of the last two do not count.
        reviewer: who it was.
        made_at: when, ISO 8601 in UTC.
        comment: as the person wrote it, or "".
    """

    change: BoxChange
    reviewer: str
    made_at: str
    comment: str = ""

    @property
    def removes(self) -> bool:
        """Whether the cell does not count any more."""
        return self.change in TAKEN_OUT


@dataclass(frozen=True, eq=False, slots=True)
class ImageResult:
    """Everything that is known of one image once it is finished, failed ones included.

    Attributes:
        ref: who it is.
        status: done, failed, excluded, or outstanding: the run has not come to it yet.
        reason: why it is not done, "" when done.
        width_px, height_px: original size, 0 when it could not be read.
        um_per_px: scale used or found, None when unknown (never an estimate from red cells).
        scale_factor: original pixels are multiplied by this before detection, None if not read.
        cells: the counted cells, empty unless done.
        quality: of the field, None where it was not measured.
        reviewed: place of a cell, from 0 → what a reviewer said of its type.
        box_edits: place of a cell, from 0 → what a person did to it besides.
        corrections: lasting ids of the cells that a person has corrected, those that do not count
            any more included.
        look: by which near copies of the image are found, "" where it shows too little.
    """

    ref: ImageRef
    status: Status
    reason: str = ""
    width_px: int = 0
    height_px: int = 0
    um_per_px: float | None = None
    scale_factor: float | None = None
    cells: Cells = field(default_factory=Cells.empty)
    quality: Quality | None = None
    reviewed: Mapping[int, Review] = field(default_factory=dict)
    box_edits: Mapping[int, BoxEdit] = field(default_factory=dict)
    corrections: frozenset[str] = frozenset()
    look: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class LabelledImage:
    """One annotated training or evaluation image, as every reader in ``formats`` gives it.

    Attributes:
        path: image file.
        boxes_xyxy: float32 ``(N, 4)`` in pixels of the image as displayed (EXIF applied).
        labels: the class id of each box, as text.
        width_px, height_px: size stated by the annotation file, 0 where it states none.
        split: "train", "val", "test" or "" where the data set names none.
    """

    path: Path
    boxes_xyxy: NDArray[np.float32]
    labels: tuple[str, ...]
    width_px: int = 0
    height_px: int = 0
    split: str = ""

    def __post_init__(self) -> None:
        if self.boxes_xyxy.shape != (len(self.labels), 4):
            raise ValueError(
                f"boxes_xyxy must have shape ({len(self.labels)}, 4), got {self.boxes_xyxy.shape}"
            )


@dataclass(frozen=True, slots=True)
class CellClass:
    """One class of a detector, or one type of a classifier.

    Attributes:
        id: short lower-case name used in column names, for example ``rbc``.
        name: full name, for example ``red cell``.
        plural: full name of several, for example ``red cells``.
        abbreviation: the usual short form, for example ``NEU``, or "".
        lineage: of a type, for example ``granulopoiesis``, or "".
    """

    id: str
    name: str
    plural: str
    abbreviation: str = ""
    lineage: str = ""


@dataclass(frozen=True, slots=True)
class ReviewerType(CellClass):
    """A type that only a reviewer gave; the classifier does not know it, so it never counts 0."""
