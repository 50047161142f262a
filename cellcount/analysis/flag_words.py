"""Flags that people raised on fields, told as cautions of their images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cellcount.core.records import ImageRef, ImageResult
from cellcount.store.field_flags import flags_of
from cellcount.store.file_key import image_key, name_key
from cellcount.store.journal import Journal


@dataclass(frozen=True, slots=True)
class FlagWords:
    """Words of the flags of each image.

    Attributes:
        words: identity of an image → what to say of it.
    """

    words: Mapping[str, str]

    @classmethod
    def of(cls, journal: Journal, refs: Iterable[ImageRef]) -> FlagWords:
        """Collect the flags that are set on some images."""
        flags = flags_of(journal.remarks("flag"))
        if not flags:
            return cls({})
        images = {ref.image: ref for ref in refs}
        contents, words = journal.contents(images), {}
        for image, ref in images.items():
            key = image_key(contents.get(image, ""), ref.page, image)
            raised = flags.get(key) or flags.get(name_key(image)) or ()
            if raised:
                words[image] = "; ".join(flag.words for flag in raised)
        return cls(words)

    def told(self, result: ImageResult, image: str) -> ImageResult:
        """Add the flags of a result's image to its reason.

        Args:
            result: as outputs tell it.
            image: identity of the image, never its code.
        """
        words = self.words.get(image)
        if not words or result.status == "failed":
            return result
        return replace(result, reason="; ".join(filter(None, [result.reason, words])))
