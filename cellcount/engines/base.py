"""Interface of the engines, and the function that loads one.

Shapes: tiles are uint8 (H, W, 3) RGB at the model's scale, in colours as the card says;
boxes are xyxy in pixels of the tile.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import Detections
from cellcount.errors import CellcountError, UsageError
from cellcount.models.quick_imports import quick_imports

if TYPE_CHECKING:
    from cellcount.engines.detector_model import Detector
    from cellcount.models.classifier_card import ClassifierCard
    from cellcount.models.detector_card import DetectorCard
    from cellcount.models.pyramid import Trunk

ENGINES = {
    "torchvision": "cellcount.engines.torchvision:TorchvisionEngine",
    "detectron2": "cellcount.engines.detectron2.engine:Detectron2Engine",
    "openvino": "cellcount.engines.openvino.engine:OpenVinoEngine",
}
#: Loaders of classifiers beside these engines; beside all others classifiers run in torch.
CLASSIFIERS = {"openvino": "cellcount.engines.openvino.crop_classifier:load_classifier"}
_TORCH_CLASSIFIER = "cellcount.engines.crop_classifier:load_classifier"
#: Explanation of Detectron2 in docs/plugins.md, and the error where it is asked for and missing.
DETECTRON2_IS_EXTRA = (
    "The engine detectron2 runs the same weight files as a Detectron2 model, for those who work "
    "with Detectron2 already; it needs Detectron2, which is in no package registry and is "
    "installed by its own instructions "
    "(https://detectron2.readthedocs.io/tutorials/install.html)."
)
#: Explanation of OpenVINO in docs/plugins.md, and the error where it is asked for and missing.
OPENVINO_IS_EXTRA = (
    "The engine openvino runs the same weight files on OpenVINO, which is made for CPUs; it "
    "needs OpenVINO, which is installed with: pip install 'cellcount[openvino]'."
)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Device, precision and sizes with which an engine computes.

    Attributes:
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
        batch_size: tiles per model call, 0 for the device's default.
        plugin_folder: folder of backbone plugins that the user named.
        refine_steps: looks of attention refinement, 0 for none, None for the card's.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 0
    plugin_folder: Path | None = None
    refine_steps: int | None = None


class Engine(Protocol):
    """A loaded detector. Stateless between calls.

    Attributes:
        card: what it says about itself.
        name: of the engine.
        device, precision, batch_size: where and how it computes.
        tiles_at_once: how many tiles it computes side by side, of one call or of the calls of
            several threads; 1 where one call is to end before the next.
    """

    card: DetectorCard
    name: str
    device: str
    precision: str
    batch_size: int
    tiles_at_once: int

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """One ``Detections`` per tile, scores from the card's floor on, in descending score.

        A tile's result depends on its pixels alone, not on the other tiles of the call.
        """
        ...


class CellClassifier(Protocol):
    """A loaded classifier of single cells. Stateless between calls.

    Attributes:
        card: what it says about itself.
        device, precision, batch_size: where and how it computes.
        batches_at_once: how many it computes side by side.
    """

    card: ClassifierCard
    device: str
    precision: str
    batch_size: int
    batches_at_once: int

    def probs(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Calibrated probabilities (N, K) at the card's prior, each row with a sum of 1.

        A crop's depend on its pixels alone, not on the others of the call.
        """
        ...


class EngineClass(Protocol):
    """Interface of the class of an engine."""

    def __call__(self, model: Any, card: DetectorCard, options: EngineOptions) -> Engine:  # noqa: ANN401
        """The engine of a model that ``build_model`` made."""
        ...

    def load(self, weights: Path, options: EngineOptions) -> Engine:
        """The engine of a weight file."""
        ...

    def build_model(
        self, card: DetectorCard, plugin_folder: Path | None = None, trunk: Trunk | None = None
    ) -> Detector:
        """The model of a card, untrained, around a trunk that is there already if one is given."""
        ...


def has_detectron2() -> bool:
    """Return whether Detectron2 is installed; it is not imported."""
    return _is_installed("detectron2")


def has_openvino() -> bool:
    """Return whether OpenVINO is installed; it is not imported."""
    return _is_installed("openvino")


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # a mere folder of that name has none


def choose_engine(name: str) -> str:
    """The named engine; ``auto`` is Detectron2 where it is installed, torchvision otherwise.

    Raises:
        UsageError: no such engine, or what it needs is not installed.
    """
    if name == "auto":
        return "detectron2" if has_detectron2() else "torchvision"
    if name not in ENGINES:
        raise UsageError(f"--engine is {name!r}, expected auto or one of {', '.join(ENGINES)}")
    if name == "detectron2" and not has_detectron2():
        raise UsageError(DETECTRON2_IS_EXTRA)
    if name == "openvino" and not has_openvino():
        raise UsageError(OPENVINO_IS_EXTRA)
    return name


def engine_class(name: str) -> EngineClass:
    """The class of the engine of that name, imported now.

    Raises:
        UsageError: no such engine, or what it needs is not installed.
        CellcountError: it is installed, but not in working order.
    """
    chosen = choose_engine(name)
    try:
        with quick_imports():
            return cast(EngineClass, pkgutil.resolve_name(ENGINES[chosen]))
    except ImportError as error:
        if chosen != "detectron2":
            raise
        raise CellcountError(
            f"Detectron2 is installed, but importing it fails ({error}); "
            "repair it, or use --engine torchvision"
        ) from error


def load_engine(name: str, weights: Path, options: EngineOptions) -> Engine:
    """Loads the engine of that name with a weight file."""
    return engine_class(name).load(weights, options)


def load_classifier(engine: str, weights: Path, options: EngineOptions) -> CellClassifier:
    """Loads the classifier of a weight file as it runs beside the engine of that name."""
    load = pkgutil.resolve_name(CLASSIFIERS.get(choose_engine(engine), _TORCH_CLASSIFIER))
    return cast(CellClassifier, load(weights, options))
