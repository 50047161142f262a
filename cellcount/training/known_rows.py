"""Rows of an output layer for the classes that two models have in common, found by name.

Shapes: a layer of K classes has its classes along one dimension, ``each`` rows a class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def rows_by_name(
    own: Tensor,
    other: Tensor,
    names: Sequence[str],
    other_names: Sequence[str],
    *,
    each: int = 1,
    dim: int = 0,
) -> Tensor | None:
    """Copy the rows of another model's layer for classes that both have; the rest stay as they are.

    Args:
        own: the layer of the model that takes.
        other: that of the model that gives.
        names: classes of ``own``, in the order of its rows.
        other_names: classes of ``other``, likewise.
        each: rows a class.
        dim: dimension along which classes lie.

    Returns:
        A new tensor; None where the two layers do not go together.
    """
    ours, theirs = own.movedim(dim, 0).clone(), other.movedim(dim, 0)
    if (len(ours), len(theirs)) != (each * len(names), each * len(other_names)):
        return None
    if ours.shape[1:] != theirs.shape[1:]:
        return None
    place = {name: i for i, name in enumerate(other_names)}
    with torch.no_grad():
        for i, name in enumerate(names):
            if name in place:
                j = place[name]
                ours[each * i : each * (i + 1)] = theirs[each * j : each * (j + 1)]
    return ours.movedim(0, dim).contiguous()


def told_classes(names: Sequence[str], other_names: Sequence[str], other: str) -> list[str]:
    """Say which classes start untrained, and which of the other model's are dropped.

    Args:
        names: classes of the model in training.
        other_names: of the model that it starts from.
        other: name of that model.
    """
    known = [name for name in names if name in other_names]
    new = [name for name in names if name not in other_names]
    gone = [name for name in other_names if name not in names]
    if not new and not gone:
        return []
    said = [f"taken over from {other}: {', '.join(known) or 'no class, only what lies below'}"]
    if new:
        said.append(f"new, learned from the start: {', '.join(new)}")
    if gone:
        said.append(
            f"not in this data, so the model will not know them any more: {', '.join(gone)}"
        )
    return said
