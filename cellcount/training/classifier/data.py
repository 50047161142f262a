"""Data of a classifier training: joined data sets, their types, splits and held-out cells.

Shapes: none; labelled cells as everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellcount.core.records import CellClass
from cellcount.datasets.crop_check import decoded
from cellcount.datasets.crop_set import CropSet, LabelledCrop
from cellcount.datasets.crop_splits import grouped_split, split_shares, stratified_split
from cellcount.datasets.crops import CropFormat, read_crops
from cellcount.errors import AnnotationError, UsageError
from cellcount.models.classifier_card import types_of
from cellcount.models.taxonomy import (
    Taxonomy,
    TypeMapping,
    fitting_taxonomies,
    load_taxonomy,
    mapping,
    plain_taxonomy,
)
from cellcount.training.classifier.sampling import Balance, Draw, ImbalancedSampler, resample
from cellcount.training.classifier.settings import ClassifierTraining

Report = Callable[[str], None]
_HELD_OUT = "held out"
_MAX_PIXELS = 200_000_000
_SHOWN_PROBLEMS = 20
_DEFAULT_SPLIT = "64/16/20"
_LEAST_PATIENTS = 5  # fewer cannot be dealt out in such shares


@dataclass(frozen=True, eq=False, slots=True)
class LabelledCells:
    """Cells with the index of their type.

    Attributes:
        items: the cells.
        labels: index into the types, one per cell.
        sources: type of each cell before mapping.
    """

    items: tuple[LabelledCrop, ...]
    labels: tuple[int, ...]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)

    def taken(self, indices: Sequence[int]) -> LabelledCells:
        """Return a subset by index."""
        return LabelledCells(
            tuple(self.items[i] for i in indices),
            tuple(self.labels[i] for i in indices),
            tuple(self.sources[i] for i in indices),
        )


@dataclass(frozen=True, eq=False, slots=True)
class ClassifierData:
    """Cells of a classifier training: those to learn from, to choose weights by, and to report on.

    Attributes:
        train, held_out, val: cells; ``held_out`` is a part of the data's train split.
        types: the types in the order of the outputs.
        taxonomy: of the types.
        target_of: type before mapping → type id.
        sources: entries for the card.
        notes: what a reader of the types must know.
        divided: all cells under their own labels, each in its split.
        made: how the split was made, where the data had none; else "".
    """

    train: LabelledCells
    held_out: LabelledCells
    val: LabelledCells
    types: tuple[CellClass, ...]
    taxonomy: Taxonomy
    target_of: dict[str, str]
    sources: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    divided: CropSet
    made: str = ""


def read_training_crops(
    paths: Sequence[Path], *, fine: bool = False, format: CropFormat = "auto"
) -> CropSet:
    """Single-cell data sets, or boxes with types, joined into one.

    Args:
        paths: folders, tables or annotation files.
        fine: read the finer labels (codes) of the cells.
        format: one of ``formats.crops.CROP_FORMATS``.
    """
    sets = [read_crops(p, labels="code" if fine else "class", format=format) for p in paths]
    return CropSet(
        tuple(item for crops in sets for item in crops.items),
        tuple(dict.fromkeys(label for crops in sets for label in crops.classes)),
        tuple(problem for crops in sets for problem in crops.problems),
        " + ".join(dict.fromkeys(crops.format for crops in sets)),
    )


def prepare(
    crops: CropSet, settings: ClassifierTraining, names: Sequence[str], report: Report
) -> ClassifierData:
    """Names the types, divides the cells and holds a part of train out.

    Pictures that cannot be decoded are reported and left out. Cells of the test split are never
    touched.

    Args:
        crops: the data set, labels as the source spells them.
        settings: name taxonomy, mapping, split and seed.
        names: what the card calls the data.
        report: takes one line per remark.

    Raises:
        AnnotationError: nothing to train on, or only one type.
        UsageError: labels without a type, or a mapping that does not fit.
    """
    taxonomy = choose_taxonomy(crops, settings, report)
    target, target_of = _targets(taxonomy, settings, report)
    crops, made = _split_made(crops, settings)
    divided = _divided(crops, settings)
    wanted = [i for i in divided.items if target_of[_type_id(taxonomy, i.label)]]
    kept = decoded(dataclasses.replace(divided, items=tuple(wanted)), max_pixels=_MAX_PIXELS)
    for problem in kept.problems[len(divided.problems) :][:_SHOWN_PROBLEMS]:
        report(f"warning: {problem}")
    present = {target_of[_type_id(taxonomy, i.label)] for i in kept.items if i.split != "test"}
    types = tuple(t for t in types_of(target) if t.id in present)
    if len(types) < 2:
        raise AnnotationError(
            f"the cells are all of {len(types)} type, expected two or more; look at the data with "
            "cellcount datasets inspect"
        )
    index_of = {t.id: i for i, t in enumerate(types)}
    chosen = {s: t for s, t in target_of.items() if t}

    def cells(*splits: str) -> LabelledCells:
        items = tuple(i for i in kept.items if i.split in splits)
        sources = tuple(_type_id(taxonomy, i.label) for i in items)
        return LabelledCells(items, tuple(index_of[chosen[s]] for s in sources), sources)

    learned = ("train", "", "val") if settings.split == "all" else ("train", "")
    parts = {"train": cells(*learned), "held_out": cells(_HELD_OUT)}
    parts["val"] = cells() if settings.split == "all" else cells("val")
    missing = [t.id for i, t in enumerate(types) if i not in parts["train"].labels]
    if missing:
        raise AnnotationError(f"no cell to train on of {', '.join(missing)}; choose another split")
    counts = {name: len(part) for name, part in parts.items()}
    source = {
        "name": ", ".join(names),
        "format": crops.format,
        "split": made or split_words(settings),
    }
    return ClassifierData(
        **parts,
        types=types,
        taxonomy=target,
        target_of=chosen,
        sources=({**source, **counts},),
        notes=_notes(taxonomy, target, settings, present),
        divided=kept,
        made=made,
    )


def choose_taxonomy(crops: CropSet, settings: ClassifierTraining, report: Report) -> Taxonomy:
    """The taxonomy that is named, or that a mapping starts from, or that fits the labels best."""
    if settings.taxonomy:
        return load_taxonomy(settings.taxonomy)
    if settings.type_map:
        mapping(settings.type_map)  # complains where there is none
        return load_taxonomy(settings.type_map.rpartition(":")[0])
    fitting = fitting_taxonomies(crops.classes)
    if fitting:
        others = f" (also possible: {', '.join(fitting[1:])})" if len(fitting) > 1 else ""
        report(f"labels read as types of {fitting[0]}{others}")
        return load_taxonomy(fitting[0])
    report("labels fit no taxonomy: types are known by name only; name one with --taxonomy")
    return plain_taxonomy("own", crops.classes, "peripheral-blood")


def split_words(settings: ClassifierTraining) -> str:
    """Return the division of the cells in words, for the card."""
    if settings.split == "given":
        return "given"
    if settings.split == "all":
        return "all cells but those of test"
    how = "by patient" if settings.group else "stratified by type, cells of a patient may straddle"
    return f"{settings.split} at random (seed {settings.seed}), {how}"


def _type_id(taxonomy: Taxonomy, label: str) -> str:
    return taxonomy.ids[taxonomy.index(label)]


def _targets(
    taxonomy: Taxonomy, settings: ClassifierTraining, report: Report
) -> tuple[Taxonomy, dict[str, str | None]]:
    """Return the taxonomy of the outputs, and the target of each type of the labels."""
    if not settings.type_map:
        return taxonomy, {i: i for i in taxonomy.ids}
    chosen: TypeMapping = mapping(settings.type_map)
    unknown = [i for i in taxonomy.ids if i not in chosen.target_of]
    if unknown:
        raise UsageError(
            f"--map {chosen.name} starts from the types of {chosen.source}, but the labels are of "
            f"{taxonomy.name}, which also has {', '.join(unknown)}"
        )
    if chosen.dropped:
        report(f"--map {chosen.name} leaves out {', '.join(chosen.dropped)}")
    return load_taxonomy(chosen.target), dict(chosen.target_of)


def _notes(
    taxonomy: Taxonomy,
    target: Taxonomy,
    settings: ClassifierTraining,
    present: Collection[str | None],
) -> tuple[str, ...]:
    """Collect the notes of the data's and the outputs' taxonomy, the mapping and the types."""
    texts = [*taxonomy.notes]
    if settings.type_map and (note := mapping(settings.type_map).note):
        texts.append(f"{settings.type_map}: {note}")
    texts += [*target.notes, *(f"{t.name}: {t.note}" for t in target.types if t.id in present)]
    return tuple(dict.fromkeys(text for text in texts if not text.endswith(": ")))


def _split_made(crops: CropSet, settings: ClassifierTraining) -> tuple[CropSet, str]:
    """The cells with a split where the data has none, and how it was made."""
    if settings.split != "given" or set(crops.splits()) != {""}:
        return crops, ""
    patients = {item.patient for item in crops.items}
    by_patient = "" not in patients and len(patients) >= _LEAST_PATIENTS
    if settings.group == "patient" or by_patient:
        divide, how = grouped_split, "by patient"
    else:
        divide, how = stratified_split, "stratified by type, cells of a patient may straddle"
    shares = split_shares(_DEFAULT_SPLIT)
    made = f"{_DEFAULT_SPLIT} at random (seed {settings.seed}), {how}"
    return divide(crops, shares, settings.seed), made


def _divided(crops: CropSet, settings: ClassifierTraining) -> CropSet:
    """The cells in splits, with a part of train held out."""
    divide = grouped_split if settings.group == "patient" else stratified_split
    if settings.split == "all":
        crops = _renamed(crops, {"val": "train", "": "train"})
    elif settings.split != "given":
        crops = divide(crops, split_shares(settings.split), settings.seed)
    crops = _renamed(crops, {"": "train"})
    if not settings.holdout:
        return crops
    shares = {"train": 1 - settings.holdout, _HELD_OUT: settings.holdout}
    return divide(crops, shares, settings.seed, within="train")


def _renamed(crops: CropSet, names: dict[str, str]) -> CropSet:
    items = (dataclasses.replace(i, split=names.get(i.split, i.split)) for i in crops.items)
    return dataclasses.replace(crops, items=tuple(items))


class Draws:
    """Selection of the cells of an epoch: a pure function of seed and epoch.

    Args:
        cells: to learn from.
        target_of: type before mapping → type id.
        balance: how rare types are dealt with.
        seed: of the choice.
    """

    def __init__(
        self, cells: LabelledCells, target_of: dict[str, str], balance: Balance, seed: int
    ) -> None:
        self._cells, self._target_of = cells, target_of
        self._balance, self._seed = balance, seed
        self._sampler: ImbalancedSampler | None = None
        if balance.kind == "imbalanced-sampler":
            self._sampler = ImbalancedSampler(cells.labels, seed=seed)

    def of_epoch(self, epoch: int) -> list[Draw]:
        """Cells to show in an epoch, each as often as it is drawn, in no particular order."""
        if self._balance.kind == "resample":
            return resample(
                self._cells.sources,
                self._target_of,
                self._balance.per_type,
                seed=self._seed,
                epoch=epoch,
            )
        if self._sampler is None:
            return [Draw(i, 0) for i in range(len(self._cells))]
        self._sampler.set_epoch(epoch)
        shown = [0] * len(self._cells)
        draws = []
        for index in self._sampler:
            draws.append(Draw(index, shown[index]))
            shown[index] += 1
        return draws
