"""OpenVINO itself: imported without its telemetry, and told how to compute.

Shapes: none.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cellcount.core.processors import threads
from cellcount.engines.base import EngineOptions
from cellcount.errors import CellcountError, DeviceMemoryError, UsageError

_TELEMETRY = "openvino_telemetry"
# In the errors of OpenVINO, which has no type of its own for this.
_NO_MEMORY = ("bad_alloc", "allocate memory", "not enough memory", "out of memory")


@cache
def openvino() -> Any:  # noqa: ANN401 -- the module is installed for some users only
    """Import OpenVINO without its telemetry.

    With ``openvino_telemetry`` it writes an id file into the home folder and may send events; it
    does neither where that package cannot be imported.

    Raises:
        CellcountError: it is installed, but not in working order.
    """
    missing = object()
    before = sys.modules.get(_TELEMETRY, missing)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes its import fail
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise CellcountError(
            f"OpenVINO is installed, but importing it fails ({error}); "
            "repair it, or use --engine torchvision"
        ) from error
    finally:
        if before is missing:
            del sys.modules[_TELEMETRY]
        else:
            sys.modules[_TELEMETRY] = before  # type: ignore[assignment]


@cache
def _core() -> Any:  # noqa: ANN401 -- OpenVINO's Core
    return openvino().Core()


def choose_device(name: str) -> str:
    """Return ``cpu``, which is what this engine is for.

    Raises:
        UsageError: another device is asked for.
    """
    if name not in ("auto", "cpu"):
        raise UsageError(
            f"--device is {name!r}, but --engine openvino computes on processors alone; use "
            "--device cpu, or --engine torchvision"
        )
    return "cpu"


def choose_precision(name: str) -> str:
    """Return the arithmetic of that name; ``auto`` is fp32.

    Raises:
        UsageError: an arithmetic that this processor does not have.
    """
    if name in ("auto", "fp32"):
        return "fp32"
    if name != "bf16":
        raise UsageError(
            f"--precision is {name!r}, but --engine openvino computes in fp32 or bf16; use one of "
            "them"
        )
    if "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError(
            "--precision is 'bf16', which this processor does not compute by itself; use fp32"
        )
    return name


def check_options(options: EngineOptions) -> tuple[str, str]:
    """Return the device and the arithmetic that the options ask for.

    Raises:
        UsageError: this engine, or this processor, does not have it.
    """
    return choose_device(options.device), choose_precision(options.precision)


class Graph:
    """A graph made ready to compute.

    Args:
        results: nodes whose values come out.
        parameters: nodes that are given values.
        precision: fp32 or bf16.
    """

    def __init__(
        self, results: Sequence[Any], parameters: Sequence[Any], precision: str = "fp32"
    ) -> None:
        opset = openvino().opset13
        model = openvino().Model([opset.result(r) for r in results], list(parameters), "cellcount")
        self._start(model, precision)

    @classmethod
    def of_model(cls, model: Any) -> Self:  # noqa: ANN401 -- OpenVINO's
        """The graph of OpenVINO's own model, in fp32."""
        graph = cls.__new__(cls)
        graph._start(model, "fp32")
        return graph

    def _start(self, model: Any, precision: str) -> None:  # noqa: ANN401 -- OpenVINO's
        self._compiled = _compiled(model, precision)
        self._requests = threading.local()  # each computes for one thread at a time

    def __call__(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the results for the values of the parameters; threads may call it side by side.

        Raises:
            DeviceMemoryError: memory is short.
        """
        try:
            if not hasattr(self._requests, "own"):
                self._requests.own = self._compiled.create_infer_request()
            found = self._requests.own.infer(list(arrays), share_inputs=True)
        except (RuntimeError, MemoryError) as error:
            text = str(error).lower()
            if not isinstance(error, MemoryError) and not any(w in text for w in _NO_MEMORY):
                raise
        else:
            return [found[i] for i in range(len(found))]
        raise DeviceMemoryError("cpu has too little memory")


def _compiled(model: Any, precision: str) -> Any:  # noqa: ANN401 -- OpenVINO's
    settings = {
        # Without a hint OpenVINO picks an arithmetic by the processor.
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        # One thread for each tile or crop: those of a layer would wait for each other.
        "NUM_STREAMS": threads(),
        "INFERENCE_NUM_THREADS": threads(),
        "ENABLE_HYPER_THREADING": True,
        # Two jobs would be pinned to the same processors.
        "ENABLE_CPU_PINNING": False,
    }
    return _core().compile_model(model, "CPU", settings)
