"""Fields judged by their quality: measurements against the thresholds of a profile.

A threshold is named after its measure: ``focus_min`` and ``exposure_max`` are cautions, and
``exclude_focus_min`` leaves the field out. A pure function of result and profile, so that another
profile changes what is left out without any new analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace

from cellcount.core.records import Cells, ImageResult, Quality

_EXCLUDE = "exclude_"
_PIXELS_PER_MPX = 1e6

#: What thresholds may be set for, by the name of its column.
MEASURES = (*(f.name for f in fields(Quality)), "scale_factor", "cells_per_mpx", "edge_percent")
#: Every name that a profile's ``[quality]`` may hold.
THRESHOLDS = tuple(
    f"{action}{measure}_{side}"
    for action in ("", _EXCLUDE)
    for measure in MEASURES
    for side in ("min", "max")
)


def measures_of(result: ImageResult) -> dict[str, float | None]:
    """Every one of ``MEASURES`` of a field; None where it is unknown.

    Density is in cells per megapixel at the model's scale, ``edge_percent`` of the counted cells.
    """
    of_pixels = dict.fromkeys(f.name for f in fields(Quality))
    measured = of_pixels if result.quality is None else asdict(result.quality)
    density = edge = None
    if result.status == "done":
        area = result.width_px * result.height_px * (result.scale_factor or 1.0) ** 2
        density = len(result.cells) * _PIXELS_PER_MPX / area if area else None
        edge = 100 * float(result.cells.edge.mean()) if len(result.cells) else None
    return {
        **measured,
        "scale_factor": result.scale_factor,
        "cells_per_mpx": density,
        "edge_percent": edge,
    }


def judged(result: ImageResult, thresholds: Mapping[str, float]) -> ImageResult:
    """A done field with the cautions that it earns, or excluded and without cells.

    Args:
        result: as analysed; one that is not done stays as it is.
        thresholds: of the profile, named as in ``THRESHOLDS``.
    """
    if result.status != "done" or not thresholds:
        return result
    measures = measures_of(result)
    hard = {n[len(_EXCLUDE) :]: t for n, t in thresholds.items() if n.startswith(_EXCLUDE)}
    excluding = dict(_beyond(measures, hard))
    soft = {n: t for n, t in thresholds.items() if not n.startswith(_EXCLUDE)}
    cautions = [text for name, text in _beyond(measures, soft) if name not in excluding]
    reason = "; ".join(filter(None, [*excluding.values(), *cautions, result.reason]))
    if excluding:
        return replace(result, status="excluded", reason=reason, cells=Cells.empty())
    return replace(result, reason=reason)


def _beyond(
    measures: Mapping[str, float | None], thresholds: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """Find the thresholds that measures exceed, each with a sentence; unknown ones exceed none."""
    for name, threshold in thresholds.items():
        measure, _, side = name.rpartition("_")
        value = measures[measure]
        if value is None:
            continue
        if value < threshold if side == "min" else value > threshold:
            where = "below" if side == "min" else "above"
            yield name, f"{measure} {value:.4g} is {where} the profile's {threshold:g}"
