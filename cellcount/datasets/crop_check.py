"""Full check of a data set's pictures: each is decoded once.

Reading a data set looks at headers only; a file that was cut off shows when its pixels are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from cellcount.core.records import ImageRef, Picture
from cellcount.datasets.annotated import Problem
from cellcount.datasets.crop_set import CropSet
from cellcount.errors import ImageError
from cellcount.images.read import read_image


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
    broken = decode_all((item.path for item in crops.items), max_pixels=max_pixels, look=look)
    lost = {problem.path for problem in broken}
    items = tuple(item for item in crops.items if item.path not in lost)
    return dataclasses.replace(crops, items=items, problems=crops.problems + broken)


def decode_all(
    paths: Iterable[Path], *, max_pixels: int, look: Callable[[Path, Picture], None] | None = None
) -> tuple[Problem, ...]:
    """Decodes each picture once, however often it is named; a problem per broken one.

    Args: as for ``decoded``.
    """
    broken: list[Problem] = []
    for path in dict.fromkeys(paths):
        try:
            picture = read_image(ImageRef(path, path.name, ""), max_pixels=max_pixels)
        except ImageError as error:
            broken.append(Problem(path, f"cannot be decoded ({error}); left out"))
            continue
        if look is not None:
            look(path, picture)
    return tuple(broken)
