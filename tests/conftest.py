"""Common ground of all tests: the real images, quiet threads, marks that skip with a reason."""

from __future__ import annotations

import configparser
import gc
import importlib.util
import os
import sys
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Under xdist each worker is one of several on this machine. This must stand in the environment
# before torch is imported, here and in every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
#: Folders whose files take seconds to half a minute. They come first, in this order: a worker that
#: got one of them last would keep all others waiting.
LONG = ("integration", "fuzz", "unit/training", "plugins", "parity", "faults", "golden")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite expected files and generated documents instead of comparing with them",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without Python's garbage collector, which would look at every item again and again.

    A quarter of the time of collecting thousands of items went there. One look at the end makes
    them old, and what is old is seldom looked at during the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.enable()


def _rank(item: pytest.Item) -> int:
    """Place of the item's folder among those that come first, or behind them."""
    folder = item.path.relative_to(ROOT / "tests").parent.as_posix()
    found = (i for i, long in enumerate(LONG) if f"{folder}/".startswith(f"{long}/"))
    return next(found, len(LONG))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)
    for item in items:
        if "gpu" in item.keywords and not _has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))
        if "detectron2" in item.keywords and importlib.util.find_spec("detectron2") is None:
            item.add_marker(pytest.mark.skip(reason="needs Detectron2, which is not installed"))
        if "openvino" in item.keywords and importlib.util.find_spec("openvino") is None:
            item.add_marker(pytest.mark.skip(reason="needs OpenVINO, which is not installed"))
        if "ray" in item.keywords and importlib.util.find_spec("ray") is None:
            item.add_marker(pytest.mark.skip(reason="needs Ray, which is not installed"))


@cache
def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder that holds setup.cfg."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real images beside the repository, never in it; a test without them is skipped."""
    folder = Path(os.environ.get("CELLCOUNT_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real images are not here: {folder} (CELLCOUNT_SHARED_DATA names the folder)")
    return folder


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Tell whether expected files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of a tiny, randomly initialised detector: rbc, wbc, platelet; same by seed.

    It finds something everywhere and means nothing by it.
    """
    import torch

    from cellcount.core.records import CellClass
    from cellcount.engines.torchvision import FasterRCNN
    from cellcount.models.detector_card import Architecture, DetectorCard, Inference
    from cellcount.models.weights import write_weights

    card = DetectorCard(
        name="tiny-random",
        version="1",
        classes=(
            CellClass("rbc", "red cell", "red cells"),
            CellClass("wbc", "white cell", "white cells"),
            CellClass("platelet", "platelet", "platelets"),
        ),
        rbc_diameter_px=24.0,
        license="Apache-2.0",
        architecture=Architecture(
            backbone="timm/test_resnet",
            strides=(8, 16, 32),
            pyramid_channels=32,
            anchor_sizes_px=((12.0,), (24.0,), (52.0,)),
            anchor_ratios=(1.0,),
            head_dim=32,
        ),
        inference=Inference(
            tile_px=256, margin_px=64, rpn_pre_nms=100, rpn_post_nms=60, max_detections=60
        ),
        thresholds={"rbc": 0.3, "wbc": 0.3, "platelet": 0.3},
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = FasterRCNN(card)
        with torch.no_grad():  # scores of a fresh head are all alike: spread them
            model.roi_heads.box_predictor.cls_score.weight.mul_(30)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_weights(path, card, model.state_dict())
    return path


@pytest.fixture(scope="session")
def looking_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the golden tests with a second look of two steps, drawn at random.

    It moves boxes a little, as if it had learned something.
    """
    import dataclasses

    import torch

    from cellcount.engines.torchvision import FasterRCNN
    from cellcount.models.detector_card import Refinement
    from cellcount.models.weights import read_weights, write_weights

    card, state = read_weights(ROOT / "tests" / "golden" / "tiny.safetensors")
    card = dataclasses.replace(card, refinement=Refinement(steps=2, hidden=16, heads=2, grid=6))
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = FasterRCNN(card)
        assert model.refinement is not None
        torch.nn.init.normal_(model.refinement.move.weight, std=0.4)
        torch.nn.init.normal_(model.refinement.query.weight, std=0.8)
    model.take_weights(state)
    path = tmp_path_factory.mktemp("looking") / "looking.safetensors"
    write_weights(path, card, model.weights())
    return path


@pytest.fixture(scope="session")
def classifier_plugins() -> Path:
    """Plugin folder of the classifier ``colour``."""
    return ROOT / "tests" / "classifiers"


@pytest.fixture(scope="session")
def colour_weights(tmp_path_factory: pytest.TempPathFactory, classifier_plugins: Path) -> Path:
    """A weight file of a classifier that tests can predict; it needs ``classifier_plugins``.

    Red cells are neutrophils, green ones lymphocytes, blue ones erythroblasts; grey ones are
    left unclassified. It types rbc and wbc, in a window of one red-cell diameter.
    """
    from cellcount.models.classifier import create_classifier
    from cellcount.models.classifier_card import (
        ClassifierArchitecture,
        ClassifierCard,
        ClassifierPreprocessing,
        CropRule,
        types_of,
    )
    from cellcount.models.taxonomy import load_taxonomy
    from cellcount.models.weights import write_weights

    known = {t.id: t for t in types_of(load_taxonomy("pbc-8"))}
    card = ClassifierCard(
        name="colours",
        version="1",
        types=tuple(known[i] for i in ("neutrophil", "lymphocyte", "erythroblast")),
        taxonomy="pbc-8",
        license="Apache-2.0",
        detector_classes=("rbc", "wbc"),
        architecture=ClassifierArchitecture("colour"),
        crop=CropRule(window_rbc=1.0),
        preprocessing=ClassifierPreprocessing((32, 32), (0.0,) * 3, (1.0,) * 3),
        review_below=0.6,
    )
    model = create_classifier("colour", 3, plugin_folder=classifier_plugins)
    path = tmp_path_factory.mktemp("classifier") / "colours.safetensors"
    write_weights(path, card, model.state_dict())
    return path


@pytest.fixture
def tinynet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the example plugin importable as if installed; returns the folder of its metadata."""
    source = ROOT / "plugins" / "cellcount-tinynet"
    config = configparser.ConfigParser()
    config.read(source / "setup.cfg")
    name, version = config["metadata"]["name"], config["metadata"]["version"]
    site = tmp_path / "site-packages"
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = config["options.entry_points"].items()
    (info / "entry_points.txt").write_text("".join(f"[{g}]{lines}\n" for g, lines in groups))
    monkeypatch.syspath_prepend(str(source))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "cellcount_counts_lines", raising=False)
    return site
