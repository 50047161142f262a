"""Content of a run for the tests of what is written from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cellcount.core.records import CellClass, ImageResult
from cellcount.differential.counting import Counting
from cellcount.differential.figures import Rules
from cellcount.differential.profile import load_profile
from cellcount.outputs.run_content import Labels, RunContent, RunFacts
from cellcount.settings import CsvForm


def content_of(
    results: Sequence[ImageResult] | Callable[[], Iterator[ImageResult]],
    classes: Sequence[CellClass],
    types: Sequence[CellClass] = (),
    profile: str = "",
    csv: CsvForm = CsvForm(),  # noqa: B008 -- frozen
) -> RunContent:
    """The content of some results, whose differential nobody asks for."""
    stream = results if callable(results) else lambda: iter(results)
    counting = Counting(load_profile("peripheral-blood"), (), classes, Rules(), {})
    facts = RunFacts(counting=counting, types=types, images=1, max_pixels=1)
    return RunContent(stream, Labels(classes, types, profile), csv, facts)
