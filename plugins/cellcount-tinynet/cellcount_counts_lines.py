"""A form of output in one file: a line of JSON per image with its counts."""

from __future__ import annotations

import json
from pathlib import Path

from cellcount.core.cells import count_by_class
from cellcount.files.atomic import atomic_write
from cellcount.outputs.forms import OutputForm
from cellcount.outputs.run_content import RunContent


def form() -> OutputForm:
    """Describe the form; the entry point names this function."""
    return OutputForm(
        name="counts-lines",
        help="A line of JSON per image with its counts.",
        write=write_counts_lines,
        for_programs=True,
    )


def write_counts_lines(path: Path, content: RunContent) -> None:
    """Write a line per image; one that is not done has no counts, never zeros."""
    classes = content.labels.classes
    with atomic_write(path) as file:
        for result in content.results():
            line = {"image": result.ref.image, "status": result.status}
            if result.status == "done":
                counts = count_by_class(result.cells, len(classes)).tolist()
                line |= {c.id: n for c, n in zip(classes, counts, strict=True)}
            file.write(json.dumps(line).encode() + b"\n")
