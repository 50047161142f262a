"""Approvals of slides, derived from remarks: each version of a slide's numbers that was signed off.

A slide is approved, reopened for a reason, and approved again: the second version is an amended
result, and the first one stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cellcount.store.remarks import Remark

Written = Mapping[str, str]
"""One row of slides.csv, as it is written: column → text."""

Standing = Literal["approved", "amended", "reopened", "changed"]
"""State of some numbers of a slide: those of its first approval, those of a later one, of a slide
that was reopened, or changed since the last approval."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One version of a slide's numbers.

    Attributes:
        version: from 1.
        person: who approved it.
        at: when, ISO 8601 in UTC.
        reason: why the version before was amended, "" for the first.
        rows: the numbers, as slides.csv had them.
    """

    version: int
    person: str
    at: str
    reason: str
    rows: tuple[Written, ...]


@dataclass(frozen=True, slots=True)
class SlideApproval:
    """Approval of one slide, with its versions.

    Attributes:
        versions: the oldest first, at least one.
        reopened: who reopened the last one, when and why; None where it stands.
    """

    versions: tuple[Approval, ...]
    reopened: tuple[str, str, str] | None = None

    @property
    def is_locked(self) -> bool:
        """Whether the slide may not be corrected until it is reopened."""
        return self.reopened is None

    def standing(self, rows: Sequence[Written]) -> Standing:
        """Compare numbers of the slide with the approved ones: approved, amended, changed, …

        Args:
            rows: the numbers now, as slides.csv has them.
        """
        if self.reopened is not None:
            return "reopened"
        last = self.versions[-1]
        if list(last.rows) != list(rows):
            return "changed"
        return "approved" if last.version == 1 else "amended"

    def words(self, rows: Sequence[Written]) -> str:
        """Describe the approval of some numbers of the slide: by whom, when, or why there is none.

        Args:
            rows: the numbers now, as slides.csv has them.
        """
        last, standing = self.versions[-1], self.standing(rows)
        by = f"approved by {last.person}, {last.at}"
        if self.reopened is not None:
            who, when, why = self.reopened
            because = f": {why}" if why else ""
            return (
                f"not approved: version {last.version}, {by}, was reopened by {who}, {when}"
                f"{because}; its numbers are kept in the table of approvals"
            )
        if standing == "changed":
            return (
                f"not approved: the numbers have changed since version {last.version}, {by}, "
                "which is kept in the table of approvals"
            )
        if standing == "approved":
            return by
        before = self.versions[-2]
        because = f" ({last.reason})" if last.reason else ""
        return (
            f"amended result: version {last.version}, {by}{because}; version {before.version}, "
            f"approved by {before.person}, {before.at}, is kept in the table of approvals"
        )


def approvals_of(remarks: Iterable[Remark]) -> dict[tuple[str, str], SlideApproval]:
    """Specimen and slide → its approval, of all slides that were ever approved."""
    found: dict[tuple[str, str], SlideApproval] = {}
    for remark in remarks:
        if remark.kind not in ("approve", "reopen"):
            continue
        specimen, slide = json.loads(remark.subject)
        known = found.get((specimen, slide))
        if remark.kind == "reopen":
            if known is not None:
                why = (remark.person, remark.made_at, str(remark.facts.get("reason", "")))
                found[specimen, slide] = SlideApproval(known.versions, why)
            continue
        versions = () if known is None else known.versions
        reason = known.reopened[2] if known is not None and known.reopened else ""
        rows = tuple(dict(row) for row in remark.facts["rows"])
        version = Approval(len(versions) + 1, remark.person, remark.made_at, reason, rows)
        found[specimen, slide] = SlideApproval((*versions, version))
    return found
