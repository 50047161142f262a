"""Splits of a training, recognised by content: ``splits.csv`` in the folder of its run.

A model is judged on cells that it has not seen. Files get moved, copied and renamed, so they are
known by the digest of their bytes, and a cell of a field by its box in it besides.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cellcount.core.records import LabelledImage
from cellcount.datasets.crop_set import Box, LabelledCrop
from cellcount.datasets.sources import read_table
from cellcount.datasets.splits import SPLITS_FILE
from cellcount.errors import UsageError
from cellcount.files.atomic import atomic_write
from cellcount.files.digest import sha256_of

DIGEST = "sha256"
#: Splits of the images and cells that a model learned from, or whose scores chose its weights.
LEARNED_FROM = ("train", "held out")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_Key = tuple[str, tuple[str, ...]]
Item = TypeVar("Item", LabelledImage, LabelledCrop)


@dataclass(frozen=True, eq=False, slots=True)
class RunSplits:
    """Splits of a training by content.

    Attributes:
        path: of the table.
        split_of: digest and box, as text → split.
    """

    path: Path
    split_of: Mapping[_Key, str]

    @classmethod
    def beside(cls, weights: Path) -> RunSplits | None:
        """The splits of the training that a weight file comes from; None where it is not known."""
        path = weights.parent / SPLITS_FILE
        return _read(path) if path.is_file() else None

    @classmethod
    def of_run(cls, run: Path) -> RunSplits:
        """The splits of the training in a folder.

        Raises:
            UsageError: it does not tell them.
        """
        path = run / SPLITS_FILE
        found = _read(path) if path.is_file() else None
        if found is None:
            raise UsageError(
                f"--run {run} has no {SPLITS_FILE} with the columns split and {DIGEST}; name the "
                "--out folder of a cellcount train"
            )
        return found

    def given(self, items: Iterable[Item]) -> tuple[Item, ...]:
        """The items in the splits of the training; "" for what it did not know."""
        return tuple(
            dataclasses.replace(item, split="train" if split in LEARNED_FROM else split)
            for item, split in ((item, self.split_of.get(_key(item), "")) for item in items)
        )

    def learned_from(self, items: Iterable[LabelledImage | LabelledCrop]) -> int:
        """Number of the items that the model learned from, or that chose its weights."""
        return sum(self.split_of.get(_key(item)) in LEARNED_FROM for item in items)


def write_image_splits(path: Path, images: Sequence[LabelledImage]) -> None:
    """Write the split of every image of a detector training, known by path and content.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path) as file:
        lines = [",".join(("file", "split", DIGEST))]
        for image in images:
            name = str(image.path.resolve())
            if any(character in name for character in ',"\n\r'):
                name = '"' + name.replace('"', '""') + '"'
            lines.append(f"{name},{image.split},{digest_of(image.path)}")
        file.write(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))


@functools.lru_cache(maxsize=4096)
def digest_of(path: Path) -> str:
    """Digest of an image file; "" where it cannot be read, so that it is known to nobody."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def _read(path: Path) -> RunSplits | None:
    """The splits of a table; None where it has no digests."""
    sheet = read_table(path)
    columns = {name.strip().lower(): index for index, name in enumerate(sheet.header)}
    if not {"split", DIGEST} <= columns.keys():
        return None
    corners = [columns[name] for name in _CORNERS if name in columns]
    found: dict[_Key, str] = {}
    for _, _, row in sheet.body:
        box = tuple(row[i].strip() for i in corners)
        digest, split = row[columns[DIGEST]].strip(), row[columns["split"]].strip()
        if digest:
            found.setdefault((digest, box if any(box) else ()), split)
    return RunSplits(path, found)


def _key(item: LabelledImage | LabelledCrop) -> _Key:
    box: Box | None = item.box_xyxy if isinstance(item, LabelledCrop) else None
    return digest_of(item.path), () if box is None else tuple(f"{v:g}" for v in box)
