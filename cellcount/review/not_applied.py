"""Error message for a table or folder of corrections that was refused as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cellcount.errors import UsageError
from cellcount.files.text import and_more

_MOST_ERRORS = 20


def not_applied(source: Path, errors: Sequence[str]) -> UsageError:
    """Make the error that names the first faults.

    Args:
        source: the table or folder.
        errors: where and what, a line each; one at least.
    """
    shown = "\n".join(f"  {error}" for error in errors[:_MOST_ERRORS])
    more = and_more(len(errors), _MOST_ERRORS)
    more = f"\n {more}" if more else ""
    return UsageError(f"{source} was not applied, nothing was changed:\n{shown}{more}")
