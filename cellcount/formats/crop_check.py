"""Whole check of a single-cell data set: every picture is decoded once.

Reading a data set looks at headers only; a file that was cut off shows when its pixels are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from cellcount.errors import ImageError
from cellcount.formats.annotated import Problem
from cellcount.formats.crops import CropSet
from cellcount.images.read import read_image
from cellcount.records import ImageRef, Picture


def decoded(
    crops: CropSet,
    *,
    max_pixels: int,
    look: Callable[[Path, Picture], None] | None = None,
) -> CropSet:
    """The cells whose pictures can be decoded; the others become problems.

    Args:
        crops: the data set.
        max_pixels: largest picture that is decoded.
        look: called with each picture that could be, so that sizes and hashes cost no second read.
    """
    broken: dict[Path, str] = {}
    for path in dict.fromkeys(item.path for item in crops.items):
        try:
            picture = read_image(ImageRef(path, path.name, ""), max_pixels=max_pixels)
        except ImageError as error:
            broken[path] = str(error)
            continue
        if look is not None:
            look(path, picture)
    problems = tuple(
        Problem(path, f"cannot be decoded ({why}); left out") for path, why in broken.items()
    )
    items = tuple(item for item in crops.items if item.path not in broken)
    return dataclasses.replace(crops, items=items, problems=crops.problems + problems)
