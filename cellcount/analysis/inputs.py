"""Making the plan of a command from its INPUTs, so that nothing is read twice or overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cellcount.errors import CellcountError, UsageError
from cellcount.images.find import Plan, find_images
from cellcount.images.slide_names import with_slides

_SHOWN = 5


def plan_of(
    inputs: Sequence[str],
    files: Sequence[Path],
    *,
    um_per_px: float | None = None,
    annotated: Path | None = None,
    slide_from: str | None = None,
    known: Mapping[str, str] | None = None,
) -> Plan:
    """The images that the INPUTs name.

    Args:
        inputs: files, folders, patterns, manifests.
        files: every single file that the run writes.
        um_per_px: scale of all images, where the user gives one.
        annotated: folder of this run's annotated pictures, where it has one.
        slide_from: regular expression that finds the slide in an image's path, where there is one.
        known: names of INPUTs in an earlier run, with the real paths that they stood for.

    Raises:
        UsageError: an INPUT is not there, or is a file that the run writes, or an image does not
            match ``slide_from``.
        CellcountError: there is no image.
    """
    plan = find_images(
        inputs, um_per_px=um_per_px, own_files=files, annotated=annotated, known=known
    )
    if not plan.refs:
        raise CellcountError(_nothing_found(inputs, plan))
    read = {ref.path.resolve() for ref in plan.refs} | {Path(text).resolve() for text in inputs}
    for path in files:
        if path.resolve() in read:
            raise UsageError(f"{path} is both an input and an output; name another output")
    if slide_from is not None:
        return replace(plan, refs=with_slides(plan.refs, slide_from))
    return plan


def _nothing_found(inputs: Sequence[str], plan: Plan) -> str:
    text = f"no image found in {', '.join(inputs)}; JPEG, PNG, BMP, WebP and TIFF are read"
    for item in plan.passed_over[:_SHOWN]:
        text += f"\n  passed over: {item.path}: {item.reason}"
    return text
