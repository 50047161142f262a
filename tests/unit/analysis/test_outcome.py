"""Totals, the failure rate and the exit codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellcount.analysis.outcome import (
    Outcome,
    RunTally,
    TooManyFailuresError,
    Totals,
    library_versions,
)
from cellcount.core.records import (
    CellClass,
    Cells,
    CellTypes,
    Detections,
    ImageRef,
    ImageResult,
    Status,
)
from cellcount.outputs.run_content import Labels

CLASSES = (CellClass("rbc", "red cell", "red cells"), CellClass("wbc", "white cell", "white cells"))


def result(image: str, status: Status = "done", reason: str = "", labels: str = "") -> ImageResult:
    n = len(labels)
    boxes = np.tile(np.array([0, 0, 5, 5], np.float32), (n, 1))
    found = Detections(boxes, np.ones(n, np.float32), np.array([*map(int, labels)], np.int64))
    ref = ImageRef(Path(image), image, "s")
    return ImageResult(ref, status, reason, cells=Cells(found, np.zeros(n, np.bool_)))


RESULTS = [
    result("a", labels="0010"),
    result("b", "failed", "empty file"),
    result("c", reason="no cells found"),
    result("d", "excluded", "blurred"),
]


def outcome(results: list[ImageResult], images: int = 4, *, gave_up: bool = False) -> Outcome:
    return Outcome(images, Totals.of(results, Labels(CLASSES)), (), 1.0, len(results), gave_up)


def test_totals_are_sums_over_what_is_done() -> None:
    totals = Totals.of(RESULTS, Labels(CLASSES))
    assert (totals.finished, totals.done, totals.cells) == (4, 2, 4)
    assert totals.counts == {"rbc": 3, "wbc": 1}
    assert [(n.name, n.status, n.reason) for n in totals.not_done] == [
        ("b", "failed", "empty file"),
        ("d", "excluded", "blurred"),
    ]
    assert [n.name for n in totals.cautions] == ["c"]
    assert Totals.of([], Labels(CLASSES)).counts == {"rbc": 0, "wbc": 0}


def test_totals_of_types_count_what_is_accepted() -> None:
    types = (CellClass("neu", "n", "ns"), CellClass("mon", "m", "ms"))
    zeros, nothing = np.zeros(4, np.float32), np.full(4, -1)
    said = CellTypes(
        np.array([-1, 1, 1, 0]), zeros, nothing, zeros, np.array([False, True, False, True])
    )
    typed = replace(RESULTS[0], cells=replace(RESULTS[0].cells, types=said))
    totals = Totals.of([typed, typed, *RESULTS[1:]], Labels(CLASSES, types))
    assert totals.types == {"neu": 2, "mon": 2, "unclassified": 2}
    assert totals.counts == {"rbc": 6, "wbc": 2}
    assert Totals.of(RESULTS, Labels(CLASSES)).types == {}
    assert Totals.of([typed], Labels((), types)).counts == {}


def test_exit_codes() -> None:
    failed = result("x", "failed", "why")
    assert outcome([RESULTS[0]]).exit_code == 0
    assert outcome(RESULTS).exit_code == 1
    assert outcome([failed]).exit_code == 3
    assert outcome([failed], gave_up=True).exit_code == 4
    assert outcome([RESULTS[3]]).exit_code == 0  # left out on purpose
    assert outcome(RESULTS[:1]).left == 3


@pytest.mark.parametrize(("rate", "allowed"), [(0.0, 0), (0.25, 1), (0.3, 1), (0.5, 2)])
def test_the_run_ends_with_the_first_failure_too_many(rate: float, allowed: int) -> None:
    tally = RunTally(4, rate)
    failed = result("x", "failed", "why")
    for _ in range(allowed):
        tally.count(failed)
        tally.check()
    tally.count(RESULTS[0])
    assert (tally.images, tally.failed, tally.cells) == (allowed + 1, allowed, 4)
    tally.count(failed)
    with pytest.raises(TooManyFailuresError):
        tally.check()


def test_by_default_no_number_of_failures_ends_the_run() -> None:
    tally = RunTally(4, 1.0)
    for _ in range(4):
        tally.count(result("x", "failed", "why"))
    assert tally.failed == 4


def test_versions_name_what_decides_numbers() -> None:
    versions = library_versions()
    assert {"cellcount", "python", "torch", "torchvision", "numpy", "pillow"} <= set(versions)
    assert "unknown" not in versions.values()
    assert set(library_versions("openvino")) - set(versions) == {"openvino"}
    assert library_versions("torchvision") == versions
