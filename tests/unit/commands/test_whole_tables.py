"""Tables on a narrow terminal, and in a pipe, keep every name and number whole."""

from __future__ import annotations

import io

import pytest
from rich.table import Table

from cellcount.commands.models import _classifiers_table, _detectors_table, _offers_table
from cellcount.commands.terminal.tables_counts import show_tables
from cellcount.commands.terminal.whole_tables import WholeTables
from cellcount.comparison.result_tables import TableCell, TextTable
from cellcount.models.weights import facts_of, packaged_weights


def printed(width: int, *tables: Table) -> str:
    console = WholeTables(file=io.StringIO(), width=width)
    for table in tables:
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert isinstance(text, str)
    assert console.width == width, "only the tables are wider"
    return text


@pytest.mark.parametrize("width", [30, 80])
def test_models_list_cuts_no_name(width: int) -> None:
    packaged = {name: facts_of(path) for name, path in packaged_weights().items()}
    text = printed(
        width,
        _detectors_table(packaged),
        _classifiers_table(packaged),
        _offers_table("backbone", "train detector", None),
    )
    assert "…" not in text
    words = text.split()
    for name, facts in packaged.items():
        assert name in words
        card = facts.card
        ids = [c.id for c in (card.classes if hasattr(card, "classes") else card.types)]
        assert all(f"{i}," in text or i in words for i in ids)


def test_evaluate_counts_loses_no_digit_in_a_pipe() -> None:
    columns = ("class", *(f"figure {n}" for n in range(12)))
    cells = tuple(TableCell(f"{n}.123456789", "0.111111 to 0.999999") for n in range(12))
    table = TextTable("Bias", columns, ((TableCell("segmented neutrophils"), *cells),))
    console = WholeTables(file=io.StringIO(), width=100)
    show_tables(console, [table])
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "…" not in text
    assert all(f"{n}.123456789" in text for n in range(12))
    assert text.count("0.111111 to 0.999999") == 12
