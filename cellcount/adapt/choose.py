"""Choice of the way to adapt a layer, and its gain: cross-validated, slide by slide.

The way is chosen within each training part alone (nested), so the gain is that of the whole
procedure on slides that it has not seen. A share of re-estimated statistics must gain more than its
standard error: they change all features, and few cells cannot tell a small gain from none. Where
none does, layer and figures are as they would be without re-estimated statistics.

Shapes: N cells, K types; scores (N, K).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cellcount.adapt.last_layer import (
    METHODS,
    Examples,
    LastLayer,
    Method,
    Refitting,
    are_right,
    log_losses,
)
from cellcount.models.kept_features import KeptFeatures

_FOLDS, _INNER_FOLDS = 5, 4
_SHARPNESS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)


@dataclass(frozen=True, eq=False, slots=True)
class Chosen:
    """Chosen way of adaptation, with the figures of its cross-validation.

    Attributes:
        method: how all cells together are used.
        layer: refitted on all of them.
        before, after: scores (N, K) of each cell: of the packaged layer, and of one refitted
            without the cell's slide.
        folds: (N,), cells of one number were held out together.
        losses: way → mean loss, where each was used in every fold.
        by_share: share of the laboratory's statistics → least of these losses; None for a share
            with which the packaged layer fits the cells worse than without.
    """

    method: Method
    layer: LastLayer
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    folds: NDArray[np.int64]
    losses: dict[str, float]
    by_share: dict[float, float | None]

    def is_better(self, examples: Examples) -> bool:
        """Return whether more cells of unseen slides are typed rightly, and at less loss."""
        before, after = self.right(examples)
        losses = [
            float((log_losses(scores, examples.allowed) * examples.weights).mean())
            for scores in (self.before, self.after)
        ]
        has_change = self.method.kind != "none" or self.method.share > 0
        return bool(has_change and after.sum() > before.sum() and losses[1] < losses[0])

    def right(self, examples: Examples) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return whether each cell is typed rightly before and after."""
        return are_right(self.before, examples.allowed), are_right(self.after, examples.allowed)


def chosen(
    base: LastLayer, examples: Examples, kept: KeptFeatures, methods: Sequence[Method] = METHODS
) -> Chosen:
    """Choose a way on all cells, and cross-validate that choice.

    Args:
        base: the packaged layer.
        examples: two cells or more.
        kept: features of cells that the base learned from.
        methods: to choose from, the one that changes least first.
    """
    search = _Search(
        {share: Refitting(base, examples, kept, share) for share in (0.0, *examples.restated)},
        base,
        examples,
        methods,
    )
    everything = np.arange(len(examples))
    method, losses = search.best(everything, _FOLDS, with_shares=True)
    folds = dealt(examples, _FOLDS)
    after = np.zeros((len(examples), base.bias.size))
    for fold in np.unique(folds):
        held = folds == fold
        rows = everything[~held]
        way, _ = search.best(rows, _INNER_FOLDS, with_shares=method.share > 0)
        after[held] = search.layer(way, rows).scores(examples.at(way.share)[held, 0])
    before = base.scores(examples.features[:, 0])
    by_share = {
        share: min((loss for way, loss in losses.items() if way.share == share), default=None)
        for share in search.refittings
    }
    told = {way.words: loss for way, loss in losses.items()}
    return Chosen(method, search.layer(method, everything), before, after, folds, told, by_share)


@dataclass(frozen=True, eq=False, slots=True)
class _Search:
    """Search for the way with the least loss: first the way, then the share of statistics.

    Attributes:
        refittings: by share.
        base: the packaged layer.
        examples: all cells.
        methods: to choose from, the one that changes least first.
    """

    refittings: Mapping[float, Refitting]
    base: LastLayer
    examples: Examples
    methods: Sequence[Method]

    def layer(self, method: Method, rows: NDArray[np.intp]) -> LastLayer:
        """Refit the layer on some of the cells."""
        return self.refittings[method.share].layer(method, rows)

    def best(
        self, rows: NDArray[np.intp], count: int, *, with_shares: bool
    ) -> tuple[Method, dict[Method, float]]:
        """The way with the least loss on slides left out, and the loss of each that was tried."""
        part = self.examples[rows]
        folds = dealt(part, count)
        if len(np.unique(folds)) < 2:
            return self.methods[0], {}
        of_cells = {m: self._left_out(m, part, rows, folds) for m in self.methods}
        first = min(of_cells, key=lambda m: of_cells[m].sum())
        shares = self._sound(part) if with_shares else []
        shared = [replace(first, share=share) for share in shares]
        of_cells |= {m: self._left_out(m, part, rows, folds) for m in shared}
        helping = [m for m in shared if _is_clearly_less(of_cells[m], of_cells[first])]
        best = min([first, *helping], key=lambda m: of_cells[m].sum())
        return best, {m: float(values.mean()) for m, values in of_cells.items()}

    def _left_out(
        self,
        method: Method,
        part: Examples,
        rows: NDArray[np.intp],
        folds: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Weighted loss of each cell, its slide left out, (n,)."""
        losses = np.zeros(len(rows))
        for fold in np.unique(folds):
            held = folds == fold
            layer = self.layer(method, rows[~held])
            scores = layer.scores(part.at(method.share)[held, 0])
            losses[held] = log_losses(scores, part.allowed[held])
        return losses * part.weights

    def _sound(self, part: Examples) -> list[float]:
        """Shares of statistics under which the packaged layer fits the cells no worse.

        Types without a labelled cell have nothing but the packaged layer and the kept features,
        which a share may use only where it brings the laboratory's features nearer to them. Each
        is judged at the temperature that suits it best: to be surer is not to be nearer.
        """

        def loss(share: float) -> float:
            scores = self.base.scores(part.at(share)[:, 0])
            losses = (log_losses(scores * sharp, part.allowed) for sharp in _SHARPNESS)
            return min(float((loss * part.weights).mean()) for loss in losses)

        packaged = loss(0.0)
        return [share for share in part.restated if loss(share) <= packaged]


def _is_clearly_less(losses: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Return whether the losses of some cells (n,) are less by more than their standard error."""
    less = others - losses
    return bool(less.mean() > less.std() / np.sqrt(len(less)))


def dealt(examples: Examples, count: int) -> NDArray[np.int64]:
    """Fold of each cell (N,): slides stay whole and labels are spread.

    The largest slide goes first, each to the fold that has the fewest cells of its labels. Cells
    of a label that one slide alone has are dealt one by one, since nothing could be learned of it
    from other slides.
    """
    labels = [tuple(np.flatnonzero(row).tolist()) for row in examples.allowed]
    slides: dict[tuple[int, ...], set[int]] = {}
    for label, group in zip(labels, examples.groups.tolist(), strict=True):
        slides.setdefault(label, set()).add(group)
    alone = np.array([len(slides[label]) < 2 for label in labels])
    groups = np.where(alone, examples.groups.max() + 1 + np.arange(len(labels)), examples.groups)
    members = {int(g): np.flatnonzero(groups == g) for g in np.unique(groups)}
    order = sorted(members, key=lambda g: (-len(members[g]), g))
    folds = np.zeros(len(examples), np.int64)
    held: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(min(count, len(order)))]
    for group in order:
        own = Counter(labels[i] for i in members[group])
        costs = [
            (sum(n * fold[label] for label, n in own.items()), fold.total(), i)
            for i, fold in enumerate(held)
        ]
        place = min(costs)[2]
        held[place].update(own)
        folds[members[group]] = place
    return folds
