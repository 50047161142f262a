"""COCO's average precision and recall, computed by faster-coco-eval.

Once with COCO's limit of 100 detections per image and class, for comparison with published
figures, and once with 1,000, since crowded fields hold more than 100 red cells.
Small, medium and large are COCO's: areas below 32², up to 96² and above, in square pixels of the
original image, so they mean other cells at another magnification.

Shapes: N boxes of one image; T IoU thresholds, R recalls, K classes, A areas, M limits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from cellcount.core.records import Detections
from cellcount.evaluation.matching import Truth

PUBLISHED_LIMIT = 100
CROWDED_LIMIT = 1000

_LIMITS = [1, 10, PUBLISHED_LIMIT, CROWDED_LIMIT]  # axis M
_AREAS = ["", "_small", "_medium", "_large"]  # axis A
_AP50, _AP75 = 0, 5  # positions on axis T, IoU 0.50 to 0.95 by 0.05

Row = dict[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class CocoScores:
    """COCO's summary with one limit of detections per image and class.

    Attributes:
        max_detections: the limit; only the best scores count up to it.
        ap: mean over classes and IoU 0.50–0.95; ap50 and ap75 at one IoU; ap_small, ap_medium,
            ap_large by area of the cell, in pixels of the original image.
        ar: average recall with this limit; ar_by_limit with each limit up to it.
        class_ap, class_ap50: per class.
    """

    max_detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    ar_by_limit: dict[int, float | None]
    class_ap: dict[str, float | None]
    class_ap50: dict[str, float | None]

    def rows(self) -> list[Row]:
        """COCO's figures in COCO's order: metric, iou, area, max_detections, value."""
        every = "0.50:0.95"
        figures: list[tuple[str, str, str, int, float | None]] = [
            ("AP", every, "all", self.max_detections, self.ap),
            ("AP50", "0.50", "all", self.max_detections, self.ap50),
            ("AP75", "0.75", "all", self.max_detections, self.ap75),
            ("APs", every, "small", self.max_detections, self.ap_small),
            ("APm", every, "medium", self.max_detections, self.ap_medium),
            ("APl", every, "large", self.max_detections, self.ap_large),
            *(("AR", every, "all", limit, value) for limit, value in self.ar_by_limit.items()),
            ("ARs", every, "small", self.max_detections, self.ar_small),
            ("ARm", every, "medium", self.max_detections, self.ar_medium),
            ("ARl", every, "large", self.max_detections, self.ar_large),
        ]
        names = ("metric", "iou", "area", "max_detections", "value")
        return [dict(zip(names, figure, strict=True)) for figure in figures]

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-ready values."""
        values = dataclasses.asdict(self)
        values["ar_by_limit"] = {str(limit): value for limit, value in self.ar_by_limit.items()}
        return values


def coco_scores(
    truth: Sequence[Truth], predictions: Sequence[Detections], classes: Sequence[str]
) -> tuple[CocoScores, CocoScores]:
    """COCO's summary with 100 and with 1,000 detections per image and class.

    Args:
        truth: one entry per image.
        predictions: all detections of the same images in the same order.
        classes: names of the labels.
    """
    precision, recall = _tables(truth, predictions, classes)
    return (
        _summary(precision, recall, classes, limits=[1, 10, PUBLISHED_LIMIT]),
        _summary(precision, recall, classes, limits=[CROWDED_LIMIT]),
    )


def _tables(
    truth: Sequence[Truth], predictions: Sequence[Detections], classes: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """COCO's precision ``(T, R, K, A, M)`` and recall ``(T, K, A, M)``, -1 where undefined."""
    shared = {
        "images": [
            {"id": index, "width": image.width_px, "height": image.height_px}
            for index, image in enumerate(truth, start=1)
        ],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes)],
    }
    true_cells: list[dict[str, Any]] = []
    found_cells: list[dict[str, Any]] = []
    for index, (image, cells) in enumerate(zip(truth, predictions, strict=True), start=1):
        _annotate(true_cells, index, image.boxes_xyxy, image.labels)
        first = len(found_cells)
        _annotate(found_cells, index, cells.boxes_xyxy, cells.labels)
        for entry, score in zip(found_cells[first:], cells.scores.tolist(), strict=True):
            entry["score"] = score
    evaluation = COCOeval_faster(
        COCO({**shared, "annotations": true_cells}, print_function=_quiet),
        COCO({**shared, "annotations": found_cells}, print_function=_quiet),
        "bbox",
        print_function=_quiet,
    )
    evaluation.params.maxDets = list(_LIMITS)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def _annotate(
    entries: list[dict[str, Any]],
    image_id: int,
    boxes_xyxy: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> None:
    """Append boxes as COCO annotations; ids count from 1, for 0 means unmatched to COCO."""
    xywh = boxes_xyxy.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    for box_xywh, label in zip(xywh.tolist(), labels.tolist(), strict=True):
        entries.append(
            {
                "id": len(entries) + 1,
                "image_id": image_id,
                "category_id": label,
                "bbox": box_xywh,
                "area": box_xywh[2] * box_xywh[3],
                "iscrowd": 0,
            }
        )


def _quiet(*_: object) -> None:
    """Silence the printed messages of faster-coco-eval."""


def _summary(
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    classes: Sequence[str],
    *,
    limits: list[int],
) -> CocoScores:
    """Summarise the tables: precision with the last of the limits, recall with each of them."""
    m = _LIMITS.index(limits[-1])
    by_area = {
        f"{kind}{suffix}": _mean_defined(table[..., a, m])
        for kind, table in (("ap", precision), ("ar", recall))
        for a, suffix in enumerate(_AREAS)
    }
    return CocoScores(
        max_detections=limits[-1],
        ap50=_mean_defined(precision[_AP50, :, :, 0, m]),
        ap75=_mean_defined(precision[_AP75, :, :, 0, m]),
        ar_by_limit={n: _mean_defined(recall[:, :, 0, _LIMITS.index(n)]) for n in limits},
        class_ap={n: _mean_defined(precision[:, :, k, 0, m]) for k, n in enumerate(classes)},
        class_ap50={n: _mean_defined(precision[_AP50, :, k, 0, m]) for k, n in enumerate(classes)},
        **by_area,
    )


def _mean_defined(values: NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
