"""Tables as pandas frames: typed columns, the same numbers as in the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellcount.outputs.columns import Dtype, TypedTable, Value

if TYPE_CHECKING:
    import pandas as pd

#: Missing whole numbers and truth values stay missing; a missing text is empty.
_DTYPES: dict[Dtype, str] = {"text": "str", "int": "Int64", "float": "float64", "bool": "boolean"}


def frame_of(table: TypedTable) -> pd.DataFrame:
    """Collect the rows of a table, whose floats are rounded as the files have them."""
    import pandas as pd

    values: dict[str, list[Value]] = {column.name: [] for column in table.columns}
    for batch in table.batches:
        nothing = [None] * len(next(iter(batch.values()), ()))
        for column in table.columns:
            given = batch.get(column.name, nothing)
            values[column.name].extend(map(column.rounded, given))
    return pd.DataFrame(
        {c.name: pd.Series(values[c.name], dtype=_DTYPES[c.dtype]) for c in table.columns}
    )
