"""Tables as Parquet: typed columns, the same numbers as in CSV, texts as they are.

Only bytes of a file name that are no UTF-8 are written as ``\\udc80`` … ``\\udcff``, as in CSV.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellcount.errors import UsageError
from cellcount.files.atomic import atomic_write
from cellcount.outputs.columns import Column, Value

if TYPE_CHECKING:
    import pyarrow

PARQUET_SUFFIXES = (".parquet", ".pq")
_ROWS = 65536  # of a row group: enough to compress well, small enough for any memory


def is_parquet(path: Path) -> bool:
    """Return whether a table's name asks for Parquet."""
    return path.suffix.lower() in PARQUET_SUFFIXES


def check_parquet() -> None:
    """Raise, before hours of work, if Parquet cannot be written.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401 -- whether it can be imported is the question
    except ImportError as error:
        raise UsageError(
            "Parquet tables need pyarrow, which is not installed; install it with "
            "pip install 'cellcount[parquet]', or name a .csv file"
        ) from error


def write_parquet(
    path: Path, columns: Sequence[Column], batches: Iterable[Mapping[str, Sequence[Value]]]
) -> None:
    """Write a table batch by batch.

    Args:
        path: the table.
        columns: of it; a batch without one of them has no values there.
        batches: name of a column → its values; all values of a batch are equally many.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(columns)
    waiting: dict[str, list[Value]] = {column.name: [] for column in columns}
    rows = 0
    with atomic_write(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:

        def flush() -> None:
            arrays = [
                pa.array([column.rounded(v) for v in waiting[column.name]], field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            for values in waiting.values():
                values.clear()

        for batch in batches:
            size = len(next(iter(batch.values()), ()))
            for column in columns:
                waiting[column.name].extend(batch.get(column.name) or [None] * size)
            rows += size
            if rows >= _ROWS:
                flush()
                rows = 0
        if rows:
            flush()


def _schema(columns: Sequence[Column]) -> pyarrow.Schema:
    import pyarrow as pa

    types: dict[str, Any] = {
        "text": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
    }
    return pa.schema([(column.name, types[column.dtype]) for column in columns])
