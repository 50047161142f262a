"""Cells of each image as YOLO labels.

A file per image, written atomically in a tree like that of the images; where an image has no
result any more, its file goes.
"""

from __future__ import annotations

import json
from pathlib import Path

from cellcount.datasets.writers import mark_export, yolo_lines
from cellcount.files.atomic import atomic_write
from cellcount.outputs.image_labels import labelled_image, stems
from cellcount.outputs.pictures.annotate import mirrored_path
from cellcount.outputs.run_content import RunContent


def write_yolo_labels(folder: Path, content: RunContent) -> None:
    """Write YOLO labels, ``labels/…/NAME.txt`` per image; ``data.yaml`` has classes and profile.

    Images are not copied: the tree below ``labels`` is theirs.

    Raises:
        OutputError: a file cannot be written.
    """
    mark_export(folder)
    labels = content.labels
    numbered = stems(content.results)
    for result in content.results():
        path = mirrored_path(folder / "labels", numbered(result.ref.image), ".txt")
        if result.status != "done":
            path.unlink(missing_ok=True)
            continue
        image = labelled_image(result, labels)
        with atomic_write(path) as file:
            file.write("".join(yolo_lines(image, labels.names)).encode())
    # JSON strings and lists are YAML too, so names need no further quoting.
    text = f"names: {json.dumps(labels.names, ensure_ascii=False)}\nnc: {len(labels.names)}\n"
    if labels.profile:
        text += f"profile: {json.dumps(labels.profile)}\n"
    with atomic_write(folder / "data.yaml") as file:
        file.write(text.encode())
