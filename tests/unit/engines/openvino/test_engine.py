"""The OpenVINO engine: its refusals in words, and no torch, no socket and no file at run time."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cellcount.cli import main
from cellcount.core.records import CellClass
from cellcount.engines import base
from cellcount.engines.base import EngineOptions, engine_class, load_classifier, load_engine
from cellcount.errors import CellcountError, UsageError, WeightsError
from cellcount.models.weights import (
    read_classifier_weights,
    read_weights,
    resolve,
    write_weights,
)

pytestmark = pytest.mark.openvino

#: Refuses torch and sockets, and lists what is opened for writing outside the folder of outputs.
GUARD = """
import os, sys

def watch(event, arguments):
    asks_network = event.startswith("socket.") and event != "socket.gethostname"
    if asks_network or event == "urllib.Request":
        raise SystemExit(f"network: {event} {arguments[1:]}")
    if event == "import" and arguments[0].split(".")[0] in ("torch", "torchvision", "timm"):
        raise SystemExit(f"imports {arguments[0]}")
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes and not path.startswith((sys.argv[1], "/dev/")):
            raise SystemExit(f"writes {path}")
    if event == "os.mkdir" and not os.path.abspath(arguments[0]).startswith(sys.argv[1]):
        raise SystemExit(f"makes {arguments[0]}")

sys.addaudithook(watch)
"""
RUN = f"""{GUARD}
from cellcount.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run(program: str, folder: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """A guarded Python process with an empty home, writing into a folder of its own."""
    home, out = folder / "home", folder / "out"
    home.mkdir()
    out.mkdir()
    environment = os.environ | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program, str(out), *line]
    done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
    assert list(home.iterdir()) == []
    return done


@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        ("import socket; socket.socket()", "network: socket.__new__"),
        ("import torch", "imports torch"),
        ("open(os.path.expanduser('~/id'), 'w')", "writes "),
        ("os.mkdir(os.path.expanduser('~/intel'))", "makes "),
    ],
)
def test_the_guard_refuses(tmp_path: Path, attempt: str, told: str) -> None:
    assert told in run(f"{GUARD}\n{attempt}", tmp_path).stderr


def test_a_run_imports_no_torch_opens_no_socket_and_writes_outputs_alone(
    tmp_path: Path, repo_root: Path
) -> None:
    line = ["analyze", str(repo_root / "sample_data" / "slide-A" / "field-1.jpg")]
    line += ["--out", "counts.csv", "--engine", "openvino", "--classifier", "cell-types"]
    done = run(RUN, tmp_path, *line)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "counts.csv").read_text("utf-8").count("\n") == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (EngineOptions("cuda"), "--device is 'cuda', but --engine openvino computes on processors"),
        (EngineOptions("mps"), "--device is 'mps'.*use --device cpu, or --engine torchvision"),
        (EngineOptions("cpu", "fp16"), "--precision is 'fp16'.*fp32 or bf16"),
        (EngineOptions("cpu", refine_steps=2), "2 steps of attention refinement.*--refine-steps 0"),
    ],
    ids=["cuda", "mps", "fp16", "refine"],
)
def test_what_it_cannot_do_is_told(tiny_weights: Path, options: EngineOptions, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load_engine("openvino", tiny_weights, options)


def test_bf16_is_computed_or_refused(tiny_weights: Path) -> None:
    from cellcount.engines.openvino.runtime import openvino

    options = EngineOptions("cpu", "bf16")
    if "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert load_engine("openvino", tiny_weights, options).precision == "bf16"
    else:
        with pytest.raises(UsageError, match="this processor does not compute by itself; use fp32"):
            load_engine("openvino", tiny_weights, options)


def test_a_second_look_is_refused_unless_left_out(looking_weights: Path) -> None:
    with pytest.raises(UsageError, match="looks at no cell again, but 2 steps"):
        load_engine("openvino", looking_weights, EngineOptions("cpu"))
    engine = load_engine("openvino", looking_weights, EngineOptions("cpu", refine_steps=0))
    assert engine.card.refinement.steps == 0


def test_it_trains_nothing(tiny_weights: Path) -> None:
    card, _ = read_weights(tiny_weights)
    with pytest.raises(UsageError, match="trains none; train with --engine torchvision"):
        engine_class("openvino").build_model(card)


@pytest.mark.parametrize("name", ["blood", "tiny"])
def test_a_file_that_does_not_fit_its_card_is_told(
    name: str, tiny_weights: Path, tmp_path: Path
) -> None:
    card, state = read_weights(tiny_weights if name == "tiny" else resolve(name))
    for key in ("rpn.head.cls_logits.bias", next(iter(state))):
        fewer = {k: v for k, v in state.items() if k != key or "num_batches" in key}
        if len(fewer) == len(state):
            continue
        path = tmp_path / "fewer.safetensors"
        write_weights(path, card, fewer)
        with pytest.raises(WeightsError, match=f"fit its own card.*{key}"):
            load_engine("openvino", path, EngineOptions("cpu"))
    path = tmp_path / "more.safetensors"
    write_weights(path, card, state | {"roi_heads.more": state["rpn.head.cls_logits.bias"]})
    with pytest.raises(WeightsError, match=r"fit its own card: it also has roi_heads\.more"):
        load_engine("openvino", path, EngineOptions("cpu"))


@pytest.mark.parametrize("part", ["classes", "head_dim", "anchor_ratios", "pool_size", "depth"])
def test_a_card_of_another_network_is_refused(part: str, tmp_path: Path) -> None:
    """Cells would be given the wrong class, or numbers that the card does not state."""
    card, state = read_weights(resolve("blood"))
    if part == "classes":
        card = dataclasses.replace(card, classes=(*card.classes, CellClass("x", "x", "xs")))
    elif part == "depth":
        deepest = "trunk.backbone.body.blocks.4.2."
        state = {k: v for k, v in state.items() if not k.startswith(deepest)}
    else:
        others: dict[str, Any] = {"head_dim": 128, "anchor_ratios": (1.0,), "pool_size": 5}
        form = dataclasses.replace(card.architecture, **{part: others[part]})
        card = dataclasses.replace(card, architecture=form)
    path = tmp_path / "other.safetensors"
    write_weights(path, card, state)
    with pytest.raises(WeightsError, match="does not fit its own card: .*use an undamaged copy"):
        load_engine("openvino", path, EngineOptions("cpu"))


def test_a_classifier_with_a_card_of_other_types_is_refused(tmp_path: Path) -> None:
    card, state = read_classifier_weights(resolve("cell-types"))
    types = (*card.types, CellClass("x", "x", "xs"))
    card = dataclasses.replace(card, types=types, taxonomy="", prior={}, trained_prior={})
    path = tmp_path / "other.safetensors"
    write_weights(path, card, state)
    with pytest.raises(WeightsError, match=r"body\.classifier\.weight has 14 rows, expected 15"):
        load_classifier("openvino", path, EngineOptions("cpu"))


def test_an_openvino_that_cannot_be_imported_is_told(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellcount.engines.openvino import runtime

    runtime.openvino.cache_clear()
    monkeypatch.setattr(base, "_is_installed", lambda package: True)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(CellcountError, match="OpenVINO is installed.*use --engine torchvision"):
        load_engine("openvino", tiny_weights, EngineOptions("cpu"))


def test_a_network_of_fixed_size_is_not_converted() -> None:
    """A size that is frozen into a graph would give other cells on every other tile."""
    import torch

    from cellcount.engines.openvino import from_torch, layers

    class Frozen(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * float(images.shape[2])

    pixels = layers.normalised(layers.image(), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UsageError, match="cannot convert frozen .*computes something else"):
        from_torch._converted(Frozen().eval(), pixels, (64, 64), (32, 96), "frozen")


@pytest.mark.parametrize("which", ["cell-types", "tiny_classifier"])
def test_types_are_those_of_torch(which: str, request: pytest.FixtureRequest) -> None:
    weights = resolve(which) if which == "cell-types" else request.getfixturevalue(which)
    options = EngineOptions("cpu", "fp32")
    ours, theirs = (load_classifier(n, weights, options) for n in ("torchvision", "openvino"))
    rng = np.random.default_rng(4)
    height, width = ours.card.preprocessing.input_px
    coarse = rng.integers(0, 256, (6, height // 8, width // 8, 3), dtype=np.uint8)
    crops: list[NDArray[np.uint8]] = [c.repeat(8, axis=0).repeat(8, axis=1) for c in coarse]
    probs = theirs.probs(crops)
    np.testing.assert_allclose(probs, ours.probs(crops), atol=1e-4)
    assert np.ptp(probs, axis=0).max() > 0.01
    np.testing.assert_array_equal(theirs.probs(crops[2:3])[0], probs[2])
    assert theirs.probs([]).shape == (0, len(ours.card.types))


def test_pictures_of_single_cells_are_typed_by_it(
    tiny_classifier: Path, tmp_path: Path, repo_root: Path
) -> None:
    picture = str(repo_root / "sample_data" / "slide-A" / "field-1.jpg")
    rows = []
    for engine in ("auto", "openvino"):
        out = tmp_path / f"{engine}.csv"
        line = ["classify", picture, "--classifier", str(tiny_classifier), "--out", str(out)]
        assert main([*line, "--engine", engine]) == 0
        rows.append(out.read_text("utf-8"))
    assert rows[0].count("\n") == 2
    assert [r.split(",")[:4] for r in rows[0].split("\n")] == [
        r.split(",")[:4] for r in rows[1].split("\n")
    ]
