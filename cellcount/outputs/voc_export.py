"""Cells of each image as Pascal VOC annotations.

A file per image, written atomically in a tree like that of the images; where an image has no
result any more, its file goes.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from cellcount.datasets.writers import mark_export, voc_tree
from cellcount.files.atomic import atomic_write
from cellcount.outputs.image_labels import as_utf8, labelled_image, stems
from cellcount.outputs.pictures.annotate import mirrored_path
from cellcount.outputs.run_content import RunContent


def write_voc_annotations(folder: Path, content: RunContent) -> None:
    """Write Pascal VOC annotations, ``Annotations/…/NAME.xml`` per image; images are not copied.

    The profile stands where VOC tells the origin of annotations, in ``source/annotation``.

    Raises:
        OutputError: a file cannot be written.
    """
    mark_export(folder)
    labels = content.labels
    source = f"cellcount, profile {as_utf8(labels.profile)}" if labels.profile else "cellcount"
    numbered = stems(content.results)
    for result in content.results():
        path = mirrored_path(folder / "Annotations", numbered(result.ref.image), ".xml")
        if result.status != "done":
            path.unlink(missing_ok=True)
            continue
        root = voc_tree(labelled_image(result, labels), as_utf8(result.ref.image), source)
        ET.indent(root)
        with atomic_write(path) as file:
            file.write(ET.tostring(root, "utf-8"))
