"""Pictures of single cells, drawn by seed from data sets that have a folder for each class.

Shapes: none; paths.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Drawn(NamedTuple):
    """A picture that was drawn.

    Attributes:
        source: data set.
        file: name in it.
        path: where it lies.
        kind: class of the cell in the data set.
        split: of the data set.
        number: place among those drawn of this class and split, from 0.
    """

    source: str
    file: str
    path: Path
    kind: str
    split: str
    number: int


def drawn(
    data: Path, wanted: Mapping[tuple[str, str], int], shares: Mapping[str, float], seed: int
) -> Iterator[Drawn]:
    """Draw pictures of each class and split, in the order of ``wanted`` and ``shares``.

    Args:
        data: folder of the data sets, each with its ``splits.csv``.
        wanted: data set and class → number of pictures.
        shares: split → share of that number, of which at least one picture is drawn.
        seed: of the draw.
    """
    for (source, kind), count in wanted.items():
        for split, share in shares.items():
            rows = _rows(data / source / "splits.csv")
            files = sorted(r["file"] for r in rows if (r["split"], r["class"]) == (split, kind))
            random.Random(seed).shuffle(files)
            for number, file in enumerate(files[: max(1, round(count * share))]):
                yield Drawn(source, file, data / source / file, kind, split, number)


@cache
def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
