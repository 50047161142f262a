"""cellcount: counts a hematology laboratory can defend, from folders of smear images.

`analyze` and `open_results` do what the commands do; see docs/python.md.
"""

from __future__ import annotations

import os

from cellcount.core.processors import limit_threads

__version__ = "0.1.0"

__all__ = ["Results", "__version__", "analyze", "open_results"]

#: Imported when they are asked for, so that `import cellcount` loads neither torch nor pandas; type
#: checkers read them in ``__init__.pyi``.
_OFFERED = {
    "Results": "cellcount.analysis.finished_run",
    "analyze": "cellcount.analysis.python_api",
    "open_results": "cellcount.analysis.python_api",
}

# OpenMP's threads spin at the end of every layer by default. Where two jobs share the processors,
# each spins while the other needs the core, and both become about fifteen times slower. Waiting
# passively costs a job that runs alone about a tenth. The library reads this once, when torch loads
# it, so it is set here, before anything of cellcount imports torch; worker processes inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Feature maps of a field take up to 40 MB each. Given back to the system after every layer, they
# are taken from it again page by page of 4 KiB, a sixth of the time; in pages of 2 MiB it is next
# to none. Linux alone has them, and torch reads this once.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
limit_threads()


def __getattr__(name: str) -> object:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_OFFERED[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
