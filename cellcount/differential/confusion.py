"""Confusion matrices that adjusted figures rest on: from a table, or from a classifier's card.

Shapes: K types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.differential.figures import Confusion
from cellcount.errors import UsageError
from cellcount.files.sheets import read_sheet
from cellcount.files.toml import nearest

_MAKE_ONE = "cellcount evaluate classifier DATA --out FOLDER writes such a table"


def read_confusion(path: Path) -> Confusion:
    """The matrix of a table with a column ``true`` and one for each type given.

    Raises:
        UsageError: it cannot be read as such a table.
    """
    try:
        sheet = read_sheet(path)
    except UsageError as error:
        raise UsageError(f"{path} is no confusion matrix: {error}; {_MAKE_ONE}") from error
    header = [name.strip() for name in sheet.header]
    rows = [[cell.strip() for cell in row.filled] for row in sheet.body]
    if not header:
        raise UsageError(f"{path} is no confusion matrix: it is empty; {_MAKE_ONE}")
    ids = tuple(header[1:])
    if header[0] != "true" or [row[0] for row in rows] != list(ids):
        raise UsageError(
            f"{path} is no confusion matrix: its columns are {', '.join(header)} and its rows "
            f"{', '.join(row[0] for row in rows)}, expected a column true, and the same types in "
            f"the same order in both; {_MAKE_ONE}"
        )
    return Confusion(ids, _cells([row[1:] for row in rows], len(ids), str(path)), path.name)


def confusion_of_card(
    name: str, ids: Sequence[str], evaluations: Sequence[Mapping[str, Any]]
) -> Confusion:
    """The matrix of the last evaluation in a card that holds one.

    Args:
        name: of the classifier.
        ids: its types, in the order of the matrix.
        evaluations: of its card.

    Raises:
        UsageError: no evaluation holds a matrix of these types.
    """
    for evaluation in reversed(evaluations):
        if "confusion" in evaluation:
            source = f"{evaluation.get('data', 'data')} {evaluation.get('split', '')}".strip()
            where = f"the card of {name}"
            return Confusion(tuple(ids), _cells(evaluation["confusion"], len(ids), where), source)
    raise UsageError(
        f"the card of the classifier {name!r} holds no confusion matrix; give one as --adjust "
        f"FILE.csv, {_MAKE_ONE}"
    )


def check_confusion(confusion: Confusion, ids: Sequence[str]) -> None:
    """Refuses a matrix that does not tell of each type that the classifier gives.

    Raises:
        UsageError: a type is missing, or was never seen in the validation.
    """
    for name in ids:
        if name not in confusion.ids:
            raise UsageError(
                f"the confusion matrix of {confusion.source} does not know the type {name!r} that "
                f"the classifier gives; {nearest(name, confusion.ids)}it knows "
                f"{', '.join(confusion.ids)}"
            )
    kept = [confusion.ids.index(name) for name in ids]
    rows = confusion.cells[np.ix_(kept, kept)].sum(axis=1)
    never = [name for name, cells in zip(ids, rows.tolist(), strict=True) if not cells]
    if never:
        raise UsageError(
            f"the confusion matrix of {confusion.source} has no cell of {', '.join(never)}, so "
            "nothing can be said of how these are confused; validate on cells of each type"
        )


def _cells(rows: object, size: int, where: str) -> NDArray[np.int64]:
    try:
        cells = np.array(rows).astype(np.int64)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where} holds a confusion matrix that is none: {error}") from error
    if cells.shape != (size, size) or (cells < 0).any():
        raise UsageError(
            f"{where} holds a confusion matrix of {cells.shape}, expected counts of {size} by "
            f"{size} types"
        )
    return cells
