"""Results of a run as they count: fields that the profile excludes are without cells.

The journal keeps what was seen of each image; which fields are good enough to be counted is the
profile's matter and may change without a new analysis. Both meet here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from cellcount.analysis.review_summary import ReviewSummary
from cellcount.core.records import ImageRef, ImageResult
from cellcount.differential.field_quality import judged
from cellcount.differential.profile import Profile
from cellcount.store.journal import Journal

NO_RESULT_YET = "no result yet: give the same command again"


def counted(result: ImageResult, profile: Profile) -> ImageResult:
    """Return a result just analysed as it counts: with the profile's cautions, or excluded.

    What is to be said of the image among the others of its run is said, too.
    """
    told, caution = judged(result, profile.quality), result.ref.caution
    if not caution or told.status == "failed":
        return told
    return replace(told, reason="; ".join(filter(None, [told.reason, caution])))


class RunResults:
    """The results in a journal, as they count by a profile.

    Args:
        journal: knows what was seen of each image.
        profile: knows which fields count.
    """

    def __init__(self, journal: Journal, profile: Profile) -> None:
        self._journal, self._profile = journal, profile

    def of(self, refs: Iterable[ImageRef]) -> Iterator[ImageResult]:
        """Stream the results of some images in path order; images without one are left out."""
        return (self.counted(result) for result in self._journal.results(refs))

    def of_every(self, refs: Iterable[ImageRef]) -> Iterator[ImageResult]:
        """Stream the results of some images in their order; those without one are outstanding."""
        for ref in refs:
            yield next(self.of([ref]), ImageResult(ref, "outstanding", NO_RESULT_YET))

    def counted(self, result: ImageResult) -> ImageResult:
        """Return a result just analysed as it counts, before the journal has it."""
        return counted(result, self._profile)

    def reviews(self, refs: Iterable[ImageRef]) -> ReviewSummary | None:
        """Sum up what reviewers said of some images; None where nothing was ever reviewed."""
        corrections = self._journal.corrections()
        return ReviewSummary.of(self.of(refs), corrections) if corrections else None
