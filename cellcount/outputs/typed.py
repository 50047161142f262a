"""Types of cells as the values of the columns that every form of output shares.

Shapes: N cells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cellcount.core.records import UNCLASSIFIED, CellClass, CellTypes, ImageResult
from cellcount.outputs.columns import REVIEW_COLUMNS, TYPE_COLUMNS, Value


def type_values(said: CellTypes, types: Sequence[CellClass]) -> dict[str, list[Value]]:
    """Name of each of ``TYPE_COLUMNS`` → N values, None where there is nothing to say.

    An unclassified cell has its likeliest type as second choice only.

    Args:
        said: of N cells.
        types: the classifier's types, in the order of its indices.
    """
    values: dict[str, list[Value]] = {column.name: [] for column in TYPE_COLUMNS}
    for best, prob, second, second_prob, accepted in zip(
        said.best.tolist(),
        said.prob.tolist(),
        said.second.tolist(),
        said.second_prob.tolist(),
        said.accepted.tolist(),
        strict=True,
    ):
        row: tuple[Value, ...]
        if best < 0:
            row = (None, None, None, None, None)
        elif not accepted:
            row = (UNCLASSIFIED, None, types[best].id, prob, True)
        elif second < 0:
            row = (types[best].id, prob, None, None, False)
        else:
            row = (types[best].id, prob, types[second].id, second_prob, False)
        for column, value in zip(values.values(), row, strict=True):
            column.append(value)
    return values


def label_values(
    result: ImageResult, types: Sequence[CellClass], no_white_types: Collection[str] = ()
) -> dict[str, list[Value]]:
    """Name of each of ``TYPE_COLUMNS`` and ``REVIEW_COLUMNS`` → N values.

    What a reviewer said stands beside what the classifier said; such a cell needs no look. One
    that the classifier alone takes out of the count of white cells does.

    Args:
        result: with its reviews, and what the classifier itself said.
        types: the classifier's types first, in the order of its indices.
        no_white_types: ids of the types whose cells leave the count of white cells.
    """
    count, said = len(result.cells), result.cells.types
    values = type_values(CellTypes.untyped(count) if said is None else said, types)
    values |= {column.name: [None] * count for column in REVIEW_COLUMNS}
    if no_white_types:
        values["needs_review"] = [
            needed or type_id in no_white_types
            for needed, type_id in zip(values["needs_review"], values["type"], strict=True)
        ]
    for cell, review in result.reviewed.items() if count else ():
        values["needs_review"][cell] = False
        values["reviewed_type"][cell] = review.type_id
        values["reviewer"][cell] = review.reviewer
        values["reviewed_at"][cell] = review.reviewed_at
    for cell, edit in result.box_edits.items() if count else ():
        if edit.removes:
            values["needs_review"][cell] = False
            values["reviewed_type"][cell] = edit.change
        if edit.removes or cell not in result.reviewed:
            values["reviewer"][cell] = edit.reviewer
            values["reviewed_at"][cell] = edit.made_at
    return values
