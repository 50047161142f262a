"""The box around a mask in COCO's run lengths.

Shapes: none; a mask is counts of pixels outside and inside in turn, column by column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def mask_box(mask: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The corners of a mask ``{"size": [height, width], "counts": ...}``; raises ValueError.

    Counts are a list, or text in COCO's compressed form.
    """
    counts, size = mask.get("counts"), mask.get("size")
    if not (isinstance(size, list) and len(size) == 2):
        raise ValueError("neither bbox nor polygon segmentation, and a mask without a size")
    height, width = (int(side) for side in size)
    runs = _decompressed(counts) if isinstance(counts, str) else [int(c) for c in counts or ()]
    ends = np.cumsum(np.array(runs, np.int64))
    if not len(ends) or min(runs) < 0 or ends[-1] > height * width:
        raise ValueError(f"a mask whose runs do not fill its {width}×{height} px")
    starts, stops = ends[:-1:2].tolist(), ends[1::2].tolist()
    inside = [(start, stop - 1) for start, stop in zip(starts, stops, strict=True) if stop > start]
    if not inside:
        raise ValueError("a mask without a pixel")
    columns = [(first // height, last // height) for first, last in inside]
    rows = [
        (first % height, last % height) if left == right else (0, height - 1)
        for (first, last), (left, right) in zip(inside, columns, strict=True)
    ]
    return (
        float(min(left for left, _ in columns)),
        float(min(top for top, _ in rows)),
        float(max(right for _, right in columns) + 1),
        float(max(bottom for _, bottom in rows) + 1),
    )


def _decompressed(text: str) -> list[int]:
    """Decode run lengths from text: five bits a character, from the third on as differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError("a mask whose text is no run length")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
