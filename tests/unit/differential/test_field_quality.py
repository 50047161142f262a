"""A profile's thresholds on a field's measures of quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellcount.core.records import Cells, Detections, ImageRef, ImageResult, Quality
from cellcount.differential.field_quality import MEASURES, THRESHOLDS, judged, measures_of
from cellcount.differential.profile import load_profile, parse_profile, profiles
from cellcount.errors import UsageError

NORMAL = Quality(0.9, 210.0, 0.1, 0.3, 45.0)
BLANK = Quality(None, 230.0, 0.0, None, 0.0)
BLACK = Quality(None, 2.0, 90.0, None, 0.0)
BLURRED = Quality(0.09, 210.0, 0.0, 0.3, 45.0)


def result(quality: Quality | None = NORMAL, **facts: Any) -> ImageResult:  # noqa: ANN401
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (4, 1))
    found = Detections(boxes, np.ones(4, np.float32), np.zeros(4, np.int64))
    known = {"width_px": 1000, "height_px": 500, "scale_factor": 0.5, **facts}
    known.setdefault("cells", Cells(found, np.array([True, False, False, False])))
    ref = ImageRef(Path("a.png"), "a.png", "s")
    return ImageResult(ref, "done", quality=quality, **known)


def test_measures_by_hand() -> None:
    assert measures_of(result()) == {
        "focus": 0.9,
        "exposure": 210.0,
        "clipped_percent": 0.1,
        "stain_balance": 0.3,
        "stained_percent": 45.0,
        "scale_factor": 0.5,
        "cells_per_mpx": 4 / (1000 * 500 * 0.25 / 1e6),
        "edge_percent": 25.0,
    }
    assert tuple(measures_of(result())) == MEASURES
    empty = measures_of(result(None, cells=Cells.empty()))
    assert empty["cells_per_mpx"] == 0
    assert empty["focus"] is empty["edge_percent"] is None


def test_excluded_with_value_and_threshold_and_without_cells() -> None:
    one = judged(result(BLURRED, reason="no cells found"), {"exclude_focus_min": 0.15})
    assert one.status == "excluded"
    assert one.reason == "focus 0.09 is below the profile's 0.15; no cells found"
    assert len(one.cells) == 0
    assert one.quality == BLURRED  # what was measured stays


def test_a_caution_leaves_the_counts() -> None:
    one = judged(result(), {"exposure_max": 200, "edge_percent_max": 24.5, "focus_min": 0.9})
    assert one.status == "done"
    assert one.reason == (
        "exposure 210 is above the profile's 200; edge_percent 25 is above the profile's 24.5"
    )
    assert len(one.cells) == 4


def test_what_excludes_is_not_said_twice() -> None:
    one = judged(result(BLURRED), {"focus_min": 0.5, "exclude_focus_min": 0.15})
    assert one.reason == "focus 0.09 is below the profile's 0.15"


def test_the_unknown_is_beyond_no_threshold_and_failed_stay_failed() -> None:
    every = dict.fromkeys(THRESHOLDS, 0.0)
    unknown = result(None, scale_factor=None, cells=Cells.empty())
    kept = judged(unknown, {n: t for n, t in every.items() if "cells_per" not in n})
    assert (kept.status, kept.reason) == ("done", "")
    failed = ImageResult(unknown.ref, "failed", "gone")
    assert judged(failed, every) is failed


@pytest.mark.parametrize("name", profiles())
def test_packaged_thresholds_take_the_normal_and_leave_out_the_hopeless(name: str) -> None:
    thresholds = load_profile(name).quality
    good = judged(result(), thresholds)
    assert (good.status, good.reason) == ("done", "")
    for quality in (BLANK, BLACK, BLURRED):
        assert judged(result(quality), thresholds).status == "excluded"


def test_a_misspelt_threshold_is_told() -> None:
    text = (
        'title = "t"\nversion = "1"\nkind = "peripheral-blood"\nstandard = "s"\ncells = "c"\n'
        'rows = ["blasts"]\n[quality]\n'
    )
    assert parse_profile("p", text + "focus_min = 0.5", origin="p").quality == {"focus_min": 0.5}
    with pytest.raises(UsageError, match="p, quality has a key 'focus_mn'; did you mean 'focus_m"):
        parse_profile("p", text + "focus_mn = 0.5", origin="p")
