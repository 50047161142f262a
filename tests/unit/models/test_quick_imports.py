"""Imports leave out torch's compiler and lose nothing of it; garbage is collected afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest

from cellcount.models import quick_imports as module
from cellcount.models.quick_imports import quick_imports


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package in the compiler's place, which is quick to import."""
    package = tmp_path / "slow_compiler"
    package.mkdir()
    (package / "__init__.py").write_text("from .utils import counters\n")
    (package / "utils.py").write_text(
        "counters = {}\ndef is_compile_supported(device_type): return device_type == 'cpu'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "_COMPILER", "slow_compiler")
    monkeypatch.setattr(module, "_ASKED", "slow_compiler.utils")
    for name in ("slow_compiler", "slow_compiler.utils"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "slow_compiler"


def test_engine_and_timm_are_imported_without_the_compiler() -> None:
    code = (
        "import sys\n"
        "from cellcount.engines.base import engine_class\n"
        "from cellcount.models.backbone import timm_model\n"
        "engine_class('torchvision')\n"
        "timm_model('resnet10t')\n"
        "print([m for m in ('torch._dynamo', 'torch._dynamo.utils', 'sympy') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_the_function_asked_for_is_the_compilers_own(compiler: str) -> None:
    with quick_imports():
        from slow_compiler.utils import is_compile_supported  # type: ignore[import-not-found]
    assert compiler not in sys.modules
    assert is_compile_supported("cpu")
    assert not is_compile_supported("cuda")
    assert compiler in sys.modules


def test_whatever_else_is_asked_for_imports_the_compiler(compiler: str) -> None:
    with quick_imports():
        from slow_compiler.utils import counters
    assert counters is sys.modules[compiler].counters


def test_the_compiler_can_be_imported_meanwhile(compiler: str) -> None:
    with quick_imports():
        import slow_compiler  # type: ignore[import-not-found]
    assert slow_compiler.counters == {}
    assert slow_compiler.utils.is_compile_supported("cpu")


def test_nothing_stays_behind(compiler: str) -> None:
    hooks = list(sys.meta_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), quick_imports():
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    assert sys.meta_path == hooks
    assert f"{compiler}.utils" not in sys.modules


def test_a_function_is_marked_for_the_compiler_when_it_is_called_first(
    compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[str] = []

    def disable(function, recursive=True, *, reason=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, FBT002
        marked.append(f"{function.__name__} {recursive} {reason}")
        return lambda *given, **named: ("disabled", function(*given, **named))

    torch_compiler = SimpleNamespace(disable=disable)
    monkeypatch.setitem(sys.modules, "torch.compiler", torch_compiler)

    def add(one: int, other: int) -> int:
        return one + other

    with quick_imports():
        added = torch_compiler.disable(add, reason="slow")
    assert torch_compiler.disable is disable
    assert (added.__name__, marked) == ("add", [])
    assert added(1, other=2) == ("disabled", 3)
    assert added(2, 2) == ("disabled", 4)
    assert marked == ["add True slow"]


def test_a_decorator_with_options_and_a_class_are_left_to_torch_at_once(
    compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disable(*given: object, **named: object) -> object:
        return given, named

    torch_compiler = SimpleNamespace(disable=disable)
    monkeypatch.setitem(sys.modules, "torch.compiler", torch_compiler)
    with quick_imports():
        decorator = torch_compiler.disable(recursive=False)
        marked_class = torch_compiler.disable(Path, reason="slow")
    assert decorator == ((), {"recursive": False})
    assert marked_class == ((Path,), {"reason": "slow"})


def test_garbage_is_collected_again_afterwards_where_it_was_before() -> None:
    assert gc.isenabled()
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with quick_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_imported_is_old_and_still_collected() -> None:
    class Linked:
        pass

    gc.collect()
    with quick_imports():
        one = Linked()
        one.itself = one  # type: ignore[attr-defined]
        made = weakref.ref(one)
        del one
    assert gc.get_freeze_count() == 0
    gc.collect(1)
    assert made() is not None
    gc.collect()
    assert made() is None
