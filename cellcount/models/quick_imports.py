"""Import of torch, torchvision and timm in about half the time.

torchvision and timm import torch's compiler, ``torch._dynamo``, for a line that hardly ever runs:
torchvision asks it whether RoIAlign can be compiled, which matters on a GPU with deterministic
algorithms alone; timm marks functions of one family of models as not to be compiled. Here both wait
until such a line runs. The garbage collector waits, too: it would look through all that is imported
again and again, and none of it is garbage.
"""

from __future__ import annotations

import functools
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
#: The module of it that torchvision imports a function from.
_ASKED = f"{_COMPILER}.utils"


@contextmanager
def quick_imports() -> Iterator[None]:
    """While it lasts, imports leave out torch's compiler and collect no garbage."""
    if not gc.isenabled():
        with _without_compiler():
            yield
        return
    gc.disable()
    try:
        with _without_compiler():
            yield
    finally:
        if not gc.get_freeze_count():
            # All there is becomes old at once, which is seldom looked at, instead of by two looks.
            gc.freeze()
            gc.unfreeze()
        gc.enable()


@contextmanager
def _without_compiler() -> Iterator[None]:
    """While it lasts, imports of torchvision and timm leave out torch's compiler.

    Anything else that imports the compiler gets it, then or later.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_in, finder = _StandIn(_ASKED), _StandInLeaves()
    sys.modules[_ASKED] = stand_in
    sys.meta_path.insert(0, finder)
    torch_compiler: Any = sys.modules.get("torch.compiler")  # what timm uses imports torch before
    disable = getattr(torch_compiler, "disable", None)
    if disable is not None:
        torch_compiler.disable = functools.partial(_disabled_later, disable)
    try:
        yield
    finally:
        if disable is not None:
            torch_compiler.disable = disable
        sys.meta_path.remove(finder)
        _remove_stand_in()


class _StandIn(ModuleType):
    """Stand-in for the module that torchvision asks: imports the real one when it is needed."""

    def is_compile_supported(self, device_type: str) -> bool:
        """Return whether functions can be compiled for that kind of device."""
        return bool(_real().is_compile_supported(device_type))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the module has
        if name.startswith("__"):  # ``inspect`` asks every module for its file
            raise AttributeError(name)
        return getattr(_real(), name)


class _StandInLeaves:
    """Import hook that removes the stand-in where the compiler itself is imported after all."""

    def find_spec(self, name: str, *_: object) -> None:
        """Leave the search to the other hooks."""
        if name == _COMPILER:
            _remove_stand_in()


def _remove_stand_in() -> None:
    if isinstance(sys.modules.get(_ASKED), _StandIn):
        del sys.modules[_ASKED]


def _real() -> ModuleType:
    _remove_stand_in()
    return importlib.import_module(_ASKED)


def _disabled_later(disable: Callable[..., Any], *given: Any, **named: object) -> Any:  # noqa: ANN401
    """Return a function that is passed to torch's own ``disable`` when it is called first.

    Where no function comes first, as in ``@torch.compiler.disable(recursive=False)``, torch's own
    is called at once.
    """
    if not given or not isinstance(given[0], FunctionType):
        return disable(*given, **named)
    disabled = functools.cache(lambda: disable(*given, **named))

    @functools.wraps(given[0])
    def call(*arguments: object, **options: object) -> object:
        return disabled()(*arguments, **options)

    return call
