"""A console that never truncates a table, so that names and numbers can be copied."""

from __future__ import annotations

from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table

_ANY_WIDTH = 10_000


class WholeTables(Console):
    """Prints tables at least as wide as their longest words, whatever the width of the terminal.

    On a narrow terminal lines then wrap, which is ugly, but nothing is missing.
    """

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 -- as in rich
        """Print, as wide as the tables among the objects need it."""
        own, needed = self.width, 0
        for table in (one for one in objects if isinstance(one, Table)):
            for column in table.columns:
                column.min_width = max(column.min_width or 0, self._needed(column))
            wide = self.options.update(width=_ANY_WIDTH)
            needed = max(needed, Measurement.get(self, wide, table).minimum)
        self.width = max(own, needed)
        try:
            super().print(*objects, crop=needed <= own, **options)
        finally:
            self.width = own

    def _needed(self, column: Column) -> int:
        """Width of the longest word of a column, or of its longest line where none may wrap."""
        wide = self.options.update(width=_ANY_WIDTH)

        def width(cell: RenderableType) -> int:
            drawn = self.render_str(cell) if isinstance(cell, str) else cell
            found = Measurement.get(self, wide, drawn)
            return found.maximum if column.no_wrap else found.minimum

        return max(map(width, (column.header, *column.cells, column.footer)))
