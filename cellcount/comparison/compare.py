"""A counter compared with a reference, class by class: every figure of a method comparison.

Shapes: N slides or specimens that both methods counted; percentages float (N,).

x is the reference, y the method under test; differences are y - x in percentage points.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cellcount.comparison.agreement import (
    Agreement,
    BlandAltman,
    Line,
    Values,
    agreement_at,
    bland_altman,
    deming,
    difference_limits,
    icc_2_1,
    passing_bablok,
    pearson_r,
    rmse,
    rumke_passes,
)
from cellcount.comparison.count_tables import CountTable, Level, Share
from cellcount.comparison.unit_matching import CommonUnits, common_units
from cellcount.differential.limits import Limits, share_limits
from cellcount.differential.row_names import RowNames, plain
from cellcount.errors import UsageError
from cellcount.files.text import number_of

#: Fewer specimens make lines and limits of agreement a guess; CLSI EP09 asks for 40.
FEW = 20
_FEWEST = 3
_LISTED = 6
THRESHOLDS = (5.0, 10.0, 20.0)


@dataclass(frozen=True, slots=True)
class Options:
    """Options by which methods are compared.

    Attributes:
        error_ratio: Deming's λ: variance of the reference's errors over that of the other's.
        thresholds: percentages at which agreement is judged.
        class_thresholds: those of single classes, instead.
        pairs: class of the table under test → class of the reference, where names differ.
        level: what is compared; None for what both tables name.
    """

    error_ratio: float = 1.0
    thresholds: tuple[float, ...] = THRESHOLDS
    class_thresholds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)
    names: RowNames = field(default_factory=RowNames)
    level: Level | None = None

    def __post_init__(self) -> None:
        if not 0 < self.error_ratio < 1e6:
            raise UsageError(
                f"--error-ratio is {self.error_ratio:g}, expected a positive number: the variance "
                "of the reference's errors over that of the predicted counts' errors"
            )
        for value in (*self.thresholds, *sum(self.class_thresholds.values(), ())):
            if not 0 < value < 100:
                raise UsageError(f"--threshold is {value:g}, expected a percentage above 0")


@dataclass(frozen=True, slots=True)
class Passed:
    """Number of slides that met a rule, with limits of the share."""

    passed: int
    judged: int
    limits: Limits | None

    @classmethod
    def of(cls, verdicts: Sequence[bool | None]) -> Passed:
        """Count slides that met the rule; None stands for one whose number of cells is unknown."""
        judged = [v for v in verdicts if v is not None]
        return cls(sum(judged), len(judged), share_limits(sum(judged), len(judged)))

    @property
    def rate(self) -> float | None:
        """Share of the judged ones; None of none."""
        return self.passed / self.judged if self.judged else None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ClassComparison:
    """One class in both methods; a figure that cannot be computed is None, and ``notes`` say why.

    Attributes:
        id, name: the class as the table under test names it, also in words.
        reference_id: as the reference names it.
        units: the N slides or specimens; slides of one name are told apart by their specimen.
        reference, predicted: percentages ``(N,)``.
        missing: units that both tables name, of which one has not assessed this class.
        bland_altman, deming, passing_bablok, pearson_r, rmse, icc: see ``agreement``.
        agreement: threshold in percent → agreement on who reaches it.
        rumke: predicted percentages within the binomial limits of the reference's own count.
        two_sample: differences whose limits, from both numbers of cells, include 0.
        notes: what a reader must know.
    """

    id: str
    name: str
    reference_id: str
    units: tuple[str, ...]
    reference: Values
    predicted: Values
    missing: tuple[str, ...]
    bland_altman: BlandAltman | None
    deming: Line | None
    passing_bablok: Line | None
    pearson_r: float | None
    rmse: float | None
    icc: float | None
    agreement: Mapping[float, Agreement]
    rumke: Passed
    two_sample: Passed
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Comparison:
    """Comparison of two tables, class by class.

    Attributes:
        predicted, reference: the tables.
        level: what was compared.
        options: how.
        classes: those in both tables, in the order of the table under test.
        units: slides or specimens in both.
        only_predicted, only_reference: slides or specimens in one of them.
        classes_only_predicted, classes_only_reference: classes in one of them.
        notes: what a reader must know.
    """

    predicted: Path
    reference: Path
    level: Level
    options: Options
    classes: tuple[ClassComparison, ...]
    units: tuple[str, ...]
    only_predicted: tuple[str, ...]
    only_reference: tuple[str, ...]
    classes_only_predicted: tuple[str, ...]
    classes_only_reference: tuple[str, ...]
    notes: tuple[str, ...]


def compare(
    predicted: CountTable, reference: CountTable, options: Options | None = None
) -> Comparison:
    """Compare the counts of two tables.

    Raises:
        UsageError: the tables have no slide or no class in common, or an option names neither.
    """
    options = options or Options()
    level, common = _common(predicted, reference, options.level)
    units = tuple(common.predicted)
    if not units:
        raise UsageError(_no_common_units(predicted, reference, level, common))
    matched = _matched(predicted, reference, options)
    _check_thresholds(options, predicted)
    if not matched:
        raise UsageError(
            _no_common("classes", predicted, list(predicted.classes), reference,
                       list(reference.classes))
            + "; --pair OURS=THEIRS says which mean the same"
        )  # fmt: skip
    classes = [
        _compared(id_, predicted.classes[id_], their, common, options)
        for id_, their in matched.items()
    ]
    both = set(matched.values())
    return Comparison(
        predicted=predicted.path,
        reference=reference.path,
        level=level,
        options=options,
        classes=tuple(classes),
        units=units,
        only_predicted=common.only_predicted,
        only_reference=common.only_reference,
        classes_only_predicted=tuple(c for c in predicted.classes if c not in matched),
        classes_only_reference=tuple(c for c in reference.classes if c not in both),
        notes=_notes(predicted, reference, common, level),
    )


def _compared(
    id_: str, name: str, their: str, common: CommonUnits, options: Options
) -> ClassComparison:
    x_of, y_of = common.reference, common.predicted
    named = tuple(y_of)
    both = tuple(u for u in named if their in x_of[u] and id_ in y_of[u])
    pairs = [(x_of[u][their], y_of[u][id_]) for u in both]
    x = np.array([a.percent for a, _ in pairs], float)
    y = np.array([b.percent for _, b in pairs], float)
    line, pb = deming(x, y, options.error_ratio), passing_bablok(x, y)
    thresholds = options.class_thresholds.get(id_, options.thresholds)
    rumke = Passed.of([_rumke(a, b) for a, b in pairs])
    return ClassComparison(
        id=id_,
        name=name,
        reference_id=their,
        units=both,
        reference=x,
        predicted=y,
        missing=tuple(u for u in named if u not in both),
        bland_altman=bland_altman(x, y),
        deming=line,
        passing_bablok=pb,
        pearson_r=pearson_r(x, y),
        rmse=rmse(x, y),
        icc=icc_2_1(np.stack([x, y], axis=1)),
        agreement={t: agreement_at(x, y, t) for t in thresholds} if len(x) else {},
        rumke=rumke,
        two_sample=Passed.of([_two_sample(a, b) for a, b in pairs]),
        notes=tuple(_class_notes(x, y, (line, pb), rumke)),
    )


def _rumke(reference: Share, predicted: Share) -> bool | None:
    if reference.count is None or not reference.total:
        return None
    return rumke_passes(reference.count, reference.total, predicted.percent)


def _two_sample(reference: Share, predicted: Share) -> bool | None:
    if reference.count is None or predicted.count is None:
        return None
    limits = difference_limits(
        reference.count, reference.total or 0, predicted.count, predicted.total or 0
    )
    return None if limits is None or limits.high is None else limits.low <= 0 <= limits.high


def _class_notes(
    x: Values, y: Values, lines: tuple[Line | None, Line | None], rumke: Passed
) -> list[str]:
    n = len(x)
    if n < _FEWEST:
        counted = "is one pair of counts" if n == 1 else f"are {n or 'no'} pairs of counts"
        return [f"there {counted}; at least {_FEWEST} are needed for bias, lines and limits"]
    notes = []
    for values, who in ((x, "reference"), (y, "predicted percentage")):
        if np.ptp(values) == 0:
            notes.append(f"the {who} is {values[0]:.4g} % everywhere: no correlation and no line")
    if not notes and lines[1] is None:
        notes.append("Passing–Bablok: too many equal values, or a falling relation, for a line")
    elif lines[1] is not None and lines[1].slope_limits is None:
        notes.append("Passing–Bablok: too few different values for 95 % limits")
    if not notes and lines[0] is not None and lines[0].slope_limits is None:
        notes.append("Deming: the line hangs on a single specimen, so it has no limits")
    if not rumke.judged:
        notes.append("Rümke: the reference's number of cells is not known (column n)")
    return notes


def _common(
    predicted: CountTable, reference: CountTable, level: Level | None
) -> tuple[Level, CommonUnits]:
    """Match the units of the level asked for; else slides where any are shared, else specimens."""
    if level is not None:
        return level, common_units(predicted, reference, level)
    slides = common_units(predicted, reference, "slide")
    specimens = common_units(predicted, reference, "specimen")
    if slides.predicted or (slides.only_reference and not specimens.predicted):
        return "slide", slides
    return "specimen", specimens


def _matched(predicted: CountTable, reference: CountTable, options: Options) -> dict[str, str]:
    """Class of the table under test → class of the reference.

    Raises:
        UsageError: a pair names no class, or a name is nearly another one.
    """
    pairs = options.pairs
    for ours, theirs in pairs.items():
        for name, table in ((ours, predicted), (theirs, reference)):
            if name not in table.classes:
                near = difflib.get_close_matches(name, table.classes, 1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise UsageError(
                    f"--pair {ours}={theirs}: {table.path} has no class {name!r}; {hint}"
                    f"it has {', '.join(table.classes)}"
                )
    known: dict[str, str] = {}
    for name in reference.classes:  # what a row is called goes behind own names
        if row := options.names.row_of(name):
            known.setdefault(plain(row), name)
    known |= {plain(name): name for name in reference.classes}
    known |= {plain(words): name for name, words in reference.classes.items()}
    taken = set(pairs.values())
    found = {}
    for name, words in predicted.classes.items():
        if name in pairs:
            found[name] = pairs[name]
            continue
        keys = (plain(key) for key in (name, words, options.names.row_of(name)))
        like = next((known[key] for key in keys if key and key in known), None)
        same = name if name in reference.classes else like
        if same is not None and same not in taken:
            found[name] = same
            taken.add(same)
    _refuse_slips(predicted, [n for n in predicted.classes if n not in found], reference, options)
    _refuse_slips(reference, [n for n in reference.classes if n not in taken], predicted, options)
    return found


def _refuse_slips(
    table: CountTable, names: Sequence[str], other: CountTable, options: Options
) -> None:
    """Refuse a class without a partner whose name is nearly that of another: likely a typing error.

    Raises:
        UsageError: names it and what it is nearly.
    """
    for name in names:
        if not table.by_hand or options.names.row_of(name):
            continue  # a class of its own, which the other table has not
        near = options.names.near(name, other.classes)
        if near and plain(near) != plain(name):
            raise UsageError(
                f"{table.path} has a class {name!r}; did you mean {near!r}? Correct the sheet, or "
                "say what it means with --pair OURS=THEIRS"
            )


def _check_thresholds(options: Options, predicted: CountTable) -> None:
    for name in options.class_thresholds:
        if name not in predicted.classes:
            raise UsageError(
                f"--threshold {name}=…: {predicted.path} has no class {name!r}; it has "
                f"{', '.join(predicted.classes)}"
            )


def _no_common_units(
    predicted: CountTable, reference: CountTable, level: Level, common: CommonUnits
) -> str:
    ours, theirs = common.only_predicted, common.only_reference
    text = _no_common(f"{level}s", predicted, list(ours), reference, list(theirs))
    slides = {unit.slide for unit in predicted.units(level)} - {""}
    if slides & {unit.slide for unit in reference.units(level)}:
        text += "; slides of one name are the same only where their specimens are"
    return text


def _no_common(
    what: str, predicted: CountTable, ours: list[str], reference: CountTable, theirs: list[str]
) -> str:
    def few(names: list[str]) -> str:
        return ", ".join(names[:6]) + (", …" if len(names) > 6 else "") if names else "none"

    return (
        f"{predicted.path} and {reference.path} have no {what} in common: the first has "
        f"{few(ours)}, the second {few(theirs)}"
    )


def _notes(
    predicted: CountTable, reference: CountTable, common: CommonUnits, level: Level
) -> tuple[str, ...]:
    notes = [f"{t.path.name}: {note}" for t in (predicted, reference) for note in t.notes]
    for table, again in (
        (predicted, common.pooled_predicted),
        (reference, common.pooled_reference),
    ):
        if again:
            shown = ", ".join(again[:_LISTED]) + (", …" if len(again) > _LISTED else "")
            notes.append(f"{table.path.name}: several rows are pooled for {shown}")
    units = len(common.predicted)
    if units < FEW:
        notes.append(
            f"{number_of(units, level)} in both tables: with fewer than {FEW}, "
            "lines and limits of agreement say little (CLSI EP09 asks for 40 or more)"
        )
    return tuple(notes)
