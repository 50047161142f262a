"""An adaptation of a classifier that a test lets go on step by step."""

from __future__ import annotations

import json
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cellcount.analysis.stored_results import StoredResults
from cellcount.review.page.classifier_job import Adaptation, OnCell


class StepwiseAdapter:
    """Adapts a classifier step by step, as a test lets it."""

    def __init__(self) -> None:
        self.go_on = threading.Semaphore(0)
        self.sentence = ""

    def __call__(
        self, stored: StoredResults, lock: AbstractContextManager[Any], out: Path, on_cell: OnCell
    ) -> Adaptation:
        tick = on_cell(2)
        for step in (tick, tick, lambda: None):
            assert self.go_on.acquire(timeout=30)
            step()
        before, after = (
            {
                "right": {"right": n, "cells": 20, "share": n / 20, "limits": [0.1, 0.9]},
                "accepted": {"right": n, "cells": 20, "share": n / 20, "limits": [0.1, 0.9]},
                "accepted_right": {"right": 0, "cells": 0, "share": None, "limits": None},
                "by_label": {"lymphocyte": {"cells": 20, "share": n / 20, "limits": [0.1, 0.9]}},
            }
            for n in (11, 18)
        )
        figures = {"before": before, "after": after, "slides": 2}
        if not self.sentence:
            (out / "adaptation.json").write_text(json.dumps(figures), "utf-8")
        return Adaptation(self.sentence, figures, ("1 cell of 'smudge' left out",))
