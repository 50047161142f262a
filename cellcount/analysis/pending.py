"""Images of a run that are still to be analysed, and messages on those that were before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cellcount.analysis.slide_scales import SlideScales
from cellcount.core.records import ImageRef
from cellcount.files.text import listed
from cellcount.store.journal import Journal

_SHOWN = 5


def pending_of(
    refs: Sequence[ImageRef], journal: Journal, scales: SlideScales, note: Callable[[str], None]
) -> list[ImageRef]:
    """The images without a result that stands.

    Args:
        refs: the images of the run.
        journal: what is known of them.
        scales: measured again first, where the files have changed that they were measured on.
        note: told in a line each what is done again, and why.
    """
    if journal.left_behind:
        note(f"the lock of {journal.left_behind}, was left behind by its end; it is taken over")
    if journal.differences:
        note(
            "other settings than the run before, whose results are kept beside: "
            + "; ".join(journal.differences)
        )
    for slide in scales.refresh():
        note(f"slide {slide} has another scale since files of it changed: all of it is done again")
    states = {}
    for ref in refs:
        journal.refresh_key(ref)
        states[ref.image] = journal.state_of(ref)
    changed = [image for image, state in states.items() if state == "changed"]
    if changed:
        note(f"changed since it was analysed, done again: {listed(changed, _SHOWN)}")
    return [ref for ref in refs if states[ref.image] != "done"]
