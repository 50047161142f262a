"""The head of the report: date, people, models and profile, before any number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from cellcount.differential.counting import Counting
from cellcount.differential.rollup import Unit
from cellcount.files.text import number_of
from cellcount.outputs.run_content import Approvals, RunContent
from cellcount.outputs.slides import written_rows
from cellcount.store.approvals import Standing

_TIME = "%Y%m%d%H%M%S%z"
_SIGNED: tuple[Standing, ...] = ("approved", "amended")
_MODELS = ("detector", "classifier", "map")


def report_head(content: RunContent, units: Sequence[Unit]) -> list[tuple[str, str]]:
    """Return date, people, models and profile, each as a title and a text.

    Args:
        content: of the run.
        units: its slides and specimens.
    """
    facts = content.facts
    slides = [unit for unit in units if unit.level == "slide"]
    about = facts.counting.about()
    reviewed = about.get("review", "").partition("; last ")[0]  # the date has a line of its own
    who = [reviewed, _signed(slides, facts.counting, facts.approvals)]
    models = [
        f"{name} {about[name].partition(', sha256')[0]}" for name in _MODELS if about.get(name)
    ]
    return [
        ("Date", _dates(content)),
        ("Who", "; ".join(filter(None, who)) or "no person has reviewed or approved it"),
        ("What", "; ".join([*models, f"profile {facts.counting.label}"])),
    ]


def _dates(content: RunContent) -> str:
    """Tell when the results were made, and when people last changed or approved them."""
    if not content.begun:
        return "not known"
    begun = _read(content.begun)
    if content.changed in ("", content.begun):
        return begun
    return f"{begun}; last corrected or approved {_read(content.changed)}"


def _read(time: str) -> str:
    return datetime.strptime(time, _TIME).strftime("%Y-%m-%d %H:%M UTC")


def _signed(slides: Sequence[Unit], counting: Counting, approvals: Approvals) -> str:
    """Count the slides that show approved numbers, and name the people; "" if none ever was."""
    people, standings = dict[str, None](), Counter[Standing]()
    for unit in slides:
        approval = approvals.get((unit.specimen, unit.slide))
        if approval is None:
            continue
        standing = approval.standing(written_rows(unit, counting.of(unit)))
        standings[standing] += 1
        if standing in _SIGNED:
            people[approval.versions[-1].person] = None
    if not standings:
        return ""
    signed = sum(standings[standing] for standing in _SIGNED)
    words = f"{signed:,} of {number_of(len(slides), 'slide')} approved"
    if people:
        words += f" by {', '.join(people)}"
    if amended := standings["amended"]:
        words += f", {amended:,} of them amended"
    if open_ := standings["reopened"] + standings["changed"]:
        words += f"; {open_:,} reopened or changed since"
    return words
