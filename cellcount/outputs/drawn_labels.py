"""Labels and times in files for drawing programs, written with the cells and read back."""

from __future__ import annotations

from datetime import datetime

from cellcount.core.records import UNCLASSIFIED, CellTypes, ImageResult
from cellcount.outputs.image_labels import called
from cellcount.outputs.run_content import Labels
from cellcount.outputs.typed import type_values


def drawn_labels(result: ImageResult, labels: Labels) -> list[str]:
    """Name each cell: by its type, else by its class and whether its type was left open."""
    full = {c.id: c.name for c in (*labels.types, *labels.classes)}
    said = result.cells.types
    typed = type_values(
        CellTypes.untyped(len(result.cells)) if said is None else said, labels.types
    )
    return [
        f"{full[name]} ({UNCLASSIFIED})" if kind == UNCLASSIFIED else full[name]
        for name, kind in zip(called(result, labels), typed["type"], strict=True)
    ]


def last_review(result: ImageResult) -> int:
    """Return the time of the last correction of an image, in seconds since 1970; 0 for none."""
    times = [review.reviewed_at for review in result.reviewed.values()]
    times += [edit.made_at for edit in result.box_edits.values()]
    return max((int(datetime.fromisoformat(time).timestamp()) for time in times), default=0)
