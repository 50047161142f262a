"""The figures of an adaptation as tables for a person; each fits into 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cellcount.adapt.count_errors import CountFigures
    from cellcount.adapt.gain_figures import Figures, RightShare, StatisticsFigures

_NONE = "–"


def show_figures(console: Console, figures: Figures) -> None:
    """Before and after on cells whose slides were left out, and the types one by one."""
    table = Table(box=box.SIMPLE_HEAD, title="on slides left out", title_justify="left")
    table.add_column("")
    for head in ("cells", "before", "after"):
        table.add_column(head, justify="right")
    before, after = figures.before, figures.after
    cells = f"{before.right.cells:,}"
    table.add_row("typed rightly", cells, _words(before.right), _words(after.right))
    table.add_row("accepted", cells, _words(before.accepted), _words(after.accepted))
    right = (_words(before.accepted_right), _words(after.accepted_right))
    table.add_row("accepted cells right", "", *right)
    table.add_row("mean log loss", "", f"{before.loss:.3f}", f"{after.loss:.3f}")
    for label, share in before.by_label.items():
        row = (f"{share.cells:,}", _words(share), _words(after.by_label[label]))
        table.add_row(f"  {label}", *row)
    console.print(table)
    console.print(
        f"way: {figures.way}; righted {figures.righted}, broken {figures.broken} (McNemar's exact "
        f"p = {figures.p_value:.2g}); limits are Wilson's 95 %"
    )
    if figures.statistics is not None:
        console.print(_statistics(figures.statistics))


def _statistics(figures: StatisticsFigures) -> str:
    """Say what share the laboratory's statistics of normalisation have, and why."""
    losses = ", ".join(
        f"share {share:g}: {'not used' if loss is None else f'{loss:.3f}'}"
        for share, loss in figures.losses.items()
    )
    chosen = f"re-estimated, share {figures.share:g}" if figures.share else "as packaged"
    told = f"least log loss on slides left out: {losses}"
    known = [loss for loss in figures.losses.values() if loss is not None]
    if known and figures.losses[figures.share] != min(known):
        told += "; a smaller loss gains less than its standard error"
    if None in figures.losses.values():
        told += " (not used: the layer as it is fits the labelled cells worse with it)"
    cells = f"{figures.cells:,} unlabelled cells"
    return f"statistics of normalisation: {chosen}, tried with {cells}; {told}"


def _words(share: RightShare) -> str:
    if share.value is None or share.limits is None:
        return _NONE
    low, high = share.limits
    return f"{share.value:.3f} ({low:.3f}–{high:.3f})"


def show_count_errors(console: Console, figures: CountFigures) -> None:
    """Counts and errors a field, before and after, on fields whose slides were left out."""
    table = Table(box=box.SIMPLE_HEAD, title="on slides left out", title_justify="left")
    table.add_column("")
    for head in ("true", "before", "after", "bias before", "after", "error a field", "after"):
        table.add_column(head, justify="right")
    for name, before in figures.before.items():
        after = figures.after[name]
        table.add_row(
            name,
            *(f"{n:,}" for n in (before.true, before.counted, after.counted)),
            *(f"{e.bias:+.1%}" for e in (before, after)),
            *(f"{e.mean_error:.2f}" for e in (before, after)),
        )
    console.print(table)
