"""Splits of single-cell data sets: stratified by label, or by patient; the same from any order.

Both deal out anew the cells of one split (``within``), or all of them except a published test
split, which stays what it is unless the shares deal out a test split themselves.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.errors import AnnotationError, UsageError

#: Shares as papers state them: train/val/test, or train/val.
SPLIT_PRESETS = ("64/16/20", "90/10", "80/20", "70/15/15")

_NAMES = ("train", "val", "test")


def split_shares(text: str) -> dict[str, float]:
    """``64/16/20`` as shares of train, val and test; ``90/10`` as those of train and val.

    Raises UsageError where it is not two or three percentages that add up to 100.
    """
    parts = text.strip().split("/")
    if len(parts) in (2, 3) and all(re.fullmatch(r"\d+(\.\d+)?", part) for part in parts):
        percents = [float(part) for part in parts]
        if abs(sum(percents) - 100) < 1e-6 and min(percents) > 0:
            return {n: p / 100 for n, p in zip(_NAMES, percents, strict=False)}
    raise UsageError(
        f"the split {text!r} is not two or three percentages that add up to 100, like "
        f"{', '.join(SPLIT_PRESETS)}"
    )


def stratified_split(
    crops: CropSet, shares: Mapping[str, float], seed: int, *, within: str | None = None
) -> CropSet:
    """Deals out cells at random so that every class has the same shares.

    Each class is within one cell of its exact shares; what rounding takes from a split in one
    class is given back in the next; every class has a cell in the first split at least. Cells of
    one picture or patient may land in several splits, which flatters a model: ``grouped_split``
    keeps patients together.

    Args:
        crops: the data set.
        shares: split → share, adding up to 1.
        seed: of the shuffle; the same cells and seed give the same split, wherever the folder lies.
        within: deal out this split only, for example ``train`` into train and a part to tune on.
    """
    _check_shares(shares)
    by_label: dict[str, list[int]] = defaultdict(list)
    for index in _order(crops, _dealt(crops, shares, within)):
        by_label[crops.items[index].label].append(index)
    split_of: dict[int, str] = {}
    owed = dict.fromkeys(shares, 0.0)  # exact minus given so far, over the classes
    for label in sorted(by_label):
        indices = by_label[label]
        random.Random(f"{seed} {label}").shuffle(indices)
        counts = _rounded(len(indices), shares, owed)
        names = [name for name, count in counts.items() for _ in range(count)]
        split_of |= dict(zip(indices, names, strict=True))
    return _with_splits(crops, split_of)


def grouped_split(
    crops: CropSet, shares: Mapping[str, float], seed: int, *, within: str | None = None
) -> CropSet:
    """Deals out whole patients, so that no patient is in two splits.

    Patients go one by one, the one with most cells first, to the split that then lies nearest to
    the shares of every class; shares are met as far as the patients allow.

    Args: as for ``stratified_split``.

    Raises:
        AnnotationError: some cells name no patient, or there are fewer patients than splits.
    """
    _check_shares(shares)
    indices = _order(crops, _dealt(crops, shares, within))
    nameless = [i for i in indices if not crops.items[i].patient]
    if nameless:
        raise AnnotationError(
            f"{len(nameless)} of {len(indices)} cells name no patient, first "
            f"{crops.items[nameless[0]].path.name}; add a patient column, or split stratified "
            "by label and say so"
        )
    patients: dict[str, list[int]] = defaultdict(list)
    for index in indices:
        patients[crops.items[index].patient].append(index)
    if len(patients) < len(shares):
        raise AnnotationError(
            f"there are {len(patients)} patients for {len(shares)} splits; name fewer splits, or "
            "split stratified by label and say so"
        )
    kept_elsewhere = {i.patient for n, i in enumerate(crops.items) if n not in set(indices)}
    straddling = sorted(kept_elsewhere & patients.keys())
    if straddling:
        raise AnnotationError(
            f"{len(straddling)} patients are also in a split that stays as it is, first "
            f"{straddling[0]}; deal out all splits, or correct the split column"
        )
    names = sorted(patients)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: -len(patients[name]))  # stable: equals stay shuffled
    return _with_splits(crops, _deal_patients(crops, [patients[n] for n in names], shares))


def _deal_patients(
    crops: CropSet, groups: Sequence[Sequence[int]], shares: Mapping[str, float]
) -> dict[int, str]:
    totals: dict[str, int] = defaultdict(int)
    for group in groups:
        for index in group:
            totals[crops.items[index].label] += 1
    given: dict[str, dict[str, int]] = {name: dict.fromkeys(totals, 0) for name in shares}
    split_of: dict[int, str] = {}
    empty = list(shares)
    for position, group in enumerate(groups):
        counts: dict[str, int] = defaultdict(int)
        for index in group:
            counts[crops.items[index].label] += 1
        must_fill = len(groups) - position <= len(empty)
        choice = min(
            empty if must_fill else shares,
            key=lambda name: _cost_of_adding(counts, given[name], shares[name], totals),
        )
        for label, count in counts.items():
            given[choice][label] += count
        if choice in empty:
            empty.remove(choice)
        split_of |= dict.fromkeys(group, choice)
    return split_of


def _cost_of_adding(
    counts: Mapping[str, int], given: Mapping[str, int], share: float, totals: Mapping[str, int]
) -> float:
    """Return the growth of the squared distance from the wanted counts, in units of these."""
    cost = 0.0
    for label, count in counts.items():
        wanted = share * totals[label]
        before, after = given[label] - wanted, given[label] + count - wanted
        cost += (after**2 - before**2) / max(wanted, 1e-9)
    return cost


def _rounded(count: int, shares: Mapping[str, float], owed: dict[str, float]) -> dict[str, int]:
    """Return whole cells per split for one class; a split is owed the part that rounding takes."""
    exact = {name: share * count for name, share in shares.items()}
    given = {name: int(value + 1e-9) for name, value in exact.items()}
    first = next(iter(shares))
    if count and not given[first]:
        given[first] = 1
    for name in shares:
        owed[name] += exact[name] - given[name]
    spare = count - sum(given.values())
    for name in sorted(shares, key=lambda n: -owed[n])[:spare]:  # stable: the first named wins
        given[name] += 1
        owed[name] -= 1
    return given


def _check_shares(shares: Mapping[str, float]) -> None:
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(
            f"the split's shares are {dict(shares)}, expected a sum of 1, each above 0"
        )


def _dealt(crops: CropSet, shares: Mapping[str, float], within: str | None) -> list[int]:
    """Deal out cells to the splits; return their positions."""
    if within is not None:
        crops.subset(within)  # complains where there is no such split
        return [n for n, item in enumerate(crops.items) if item.split == within]
    return [n for n, item in enumerate(crops.items) if item.split != "test" or "test" in shares]


def _order(crops: CropSet, indices: Sequence[int]) -> list[int]:
    """Positions in an order that depends on the cells alone."""

    def key(index: int) -> tuple[str, tuple[float, ...]]:
        item: LabelledCrop = crops.items[index]
        return item.path.as_posix(), item.box_xyxy or ()

    return sorted(indices, key=key)


def _with_splits(crops: CropSet, split_of: Mapping[int, str]) -> CropSet:
    items = tuple(
        dataclasses.replace(item, split=split_of.get(n, item.split))
        for n, item in enumerate(crops.items)
    )
    return dataclasses.replace(crops, items=items)
