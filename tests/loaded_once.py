"""Models of the repository, loaded once for all commands that a test process runs.

Loading a packaged detector with its classifier takes longer than counting a small field. Engines
keep nothing between calls, so that runs may share them. Whether loading works is asked by the first
command of every process, by the tests of the engines, and by those of ``cellcount`` as a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cellcount.analysis import loaded_models
from cellcount.engines import base, crop_classifier

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (ROOT / "cellcount" / "weights", ROOT / "tests" / "golden")
_LOADED: dict[tuple[object, ...], Any] = {}


def _once(key: tuple[object, ...], weights: Path, load: Callable[[], Any]) -> Any:  # noqa: ANN401 -- an engine or a classifier
    """Return what was loaded before from an unchanged file; files of a test are loaded anew."""
    path = weights.resolve()
    if path.parent not in FOLDERS:
        return load()
    status = path.stat()
    key = (*key, path, status.st_mtime_ns, status.st_size)
    if key not in _LOADED:
        _LOADED[key] = load()
    return _LOADED[key]


@contextmanager
def loaded_once() -> Iterator[None]:
    """Let commands of this process share the models of the repository."""
    load_engine, load_classifier = base.load_engine, crop_classifier.load_classifier

    def engine(name: str, weights: Path, options: base.EngineOptions) -> base.Engine:
        if base.choose_engine(name) != "torchvision":  # others are asked for by few tests
            return load_engine(name, weights, options)
        found: base.Engine = _once(
            ("engine", options), weights, lambda: load_engine(name, weights, options)
        )
        return found

    def classifier(
        weights: Path,
        options: base.EngineOptions,
        *changed: Any,  # noqa: ANN401 -- passed on
        **more: Any,  # noqa: ANN401
    ) -> crop_classifier.CropClassifier:
        if changed or more:
            return load_classifier(weights, options, *changed, **more)
        found: crop_classifier.CropClassifier = _once(
            ("classifier", options), weights, lambda: load_classifier(weights, options)
        )
        return found

    with pytest.MonkeyPatch.context() as patch:
        for module in (base, loaded_models):
            patch.setattr(module, "load_engine", engine)
        patch.setattr(crop_classifier, "load_classifier", classifier)
        yield
