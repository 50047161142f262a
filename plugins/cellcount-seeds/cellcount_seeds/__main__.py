"""``python -m cellcount_seeds``: the published sizes beside those built here."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cellcount_seeds.published import PUBLISHED, Published

ANSWERS = {True: "yes", False: "no", None: ""}


def table() -> Table:
    """One row per published network, counted as Keras counts."""
    result = Table(title="Parameters, with batch-norm mean and variance in the totals as in Keras")
    result.add_column("network")
    result.add_column("classifier")
    headings = ("classes", "total, paper", "total, here", "trainable, paper", "trainable, here")
    for heading in headings:
        result.add_column(heading, justify="right")
    result.add_column("agrees")
    for name, row in PUBLISHED.items():
        result.add_row(name, *cells(row))
    return result


def cells(row: Published) -> list[str]:
    """The texts of one row."""
    count = row.built()
    return [
        row.classifier,
        str(row.num_classes),
        _printed(row.total, row.unit),
        f"{count.total:,}",
        _printed(row.trainable, row.unit),
        f"{count.trainable:,}",
        ANSWERS[row.agrees(count)],
    ]


def _printed(value: int | None, unit: int) -> str:
    if value is None:
        return ""
    return f"{value:,}" if unit == 1 else f"{value / 1e6:.3f} M"


def main() -> None:
    """Prints the table."""
    # Piped, rich would fold the table into 80 columns.
    console = Console()
    Console(width=None if console.is_terminal else 150).print(table())


if __name__ == "__main__":
    main()
