"""Weights and cards from strangers: refused in words, and nothing of theirs is run or filled."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from cellcount import cli, plugins
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.errors import CellcountError, WeightsError
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import read_card, read_weights, resolve

CASES = int(os.environ.get("CELLCOUNT_FUZZ", "150"))
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def whole(repo_root: Path) -> bytes:
    return (repo_root / "tests" / "golden" / "tiny.safetensors").read_bytes()


def header_of(whole: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON header of a safetensors file, and what follows it."""
    (length,) = struct.unpack_from("<Q", whole)
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def with_header(header: object, rest: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def with_card(whole: bytes, change: Change) -> bytes:
    header, rest = header_of(whole)
    card = json.loads(header["__metadata__"]["card"])
    change(card)
    header["__metadata__"]["card"] = json.dumps(card)
    return with_header(header, rest)


def load(path: Path) -> None:
    load_engine("torchvision", resolve(str(path)), EngineOptions("cpu"))


def test_damage_anywhere_in_the_header_is_an_error_of_weights(whole: bytes, tmp_path: Path) -> None:
    """Truncations, flipped bits and absurd numbers; tensors alone may change unnoticed."""
    rng = np.random.default_rng(7)
    (length,) = struct.unpack_from("<Q", whole)
    path, reasons = tmp_path / "w.safetensors", []
    for number in range(CASES):
        data = bytearray(whole)
        if number % 3 == 0:
            data = data[: rng.integers(len(data))]
        elif number % 3 == 1:
            for at in rng.integers(0, 8 + length, rng.integers(1, 6)):
                data[at] ^= 1 << rng.integers(8)
        else:
            at = int(rng.integers(0, length))
            data[at : at + 8] = struct.pack("<Q", (0, 2**63, 2**64 - 1, length * 2)[number % 4])
        path.write_bytes(data)
        try:
            card, tensors = read_weights(path)
        except WeightsError as error:
            reasons.append(str(error))
        else:
            assert isinstance(card, DetectorCard)
            assert tensors
    assert len(reasons) > 0.8 * CASES
    assert all(0 < len(reason) < 2000 for reason in reasons)


def test_tensors_that_claim_more_than_the_file_holds(whole: bytes, tmp_path: Path) -> None:
    header, rest = header_of(whole)
    name = next(n for n in header if n != "__metadata__")
    path = tmp_path / "w.safetensors"
    for shape, offsets in (
        ([2**40], [0, 2**42]),
        ([2**62, 8], [0, 16]),
        ([4], [len(rest) - 4, len(rest) + 12]),
        ([4], [-16, 0]),
        ([4], [0, 16]),  # lies over another
    ):
        changed = {**header, name: {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
        path.write_bytes(with_header(changed, rest))
        with pytest.raises(WeightsError, match="safetensors"):
            read_weights(path)
    path.write_bytes(with_header(b"[" * 100_000, rest))
    with pytest.raises(WeightsError, match="safetensors"):
        read_card(path)


ABSURD: dict[str, Change] = {
    "a model of terabytes": lambda c: c["architecture"].update(
        backbone="timm/resnet18", backbone_options={"in_chans": 10**9}
    ),
    "a large model": lambda c: c["architecture"].update(backbone="timm/vit_giant_patch14_224"),
    "wide heads": lambda c: c["architecture"].update(head_dim=65536, pyramid_channels=4096),
    "a checkpoint": lambda c: c["architecture"].update(
        backbone_options={"checkpoint_path": "/etc/passwd"}
    ),
    "a download": lambda c: c["architecture"].update(backbone="timm/hf-hub:someone/something"),
    "a folder": lambda c: c["architecture"].update(backbone="timm/local-dir:/etc"),
    "a module": lambda c: c["architecture"].update(backbone="os:system"),
    "a path": lambda c: c["architecture"].update(backbone="../../../tmp/evil"),
    "tiles": lambda c: c["inference"].update(tile_px=10**9),
    "detections": lambda c: c["inference"].update(max_detections=10**12),
    "padding": lambda c: c["preprocessing"].update(pad_multiple=10**9),
    "not a number": lambda c: c.update(rbc_diameter_px=float("nan")),
    "infinity": lambda c: c["preprocessing"].update(std=[float("inf")] * 3),
    "a million classes": lambda c: c.update(
        classes=[{"id": f"c{i}", "name": "c", "plural": "c"} for i in range(20_000)]
    ),
    "codes for the terminal": lambda c: c.update(name="\x1b[2Jblood"),
    "a class with a line end": lambda c: c["classes"][0].update(id="rbc\nrow"),
    "text turned round": lambda c: c.update(version="1\u202e"),
    "code": lambda c: c.update(__class__="os.system"),
    "depth": lambda c: c.update(training=json.loads("[" * 400 + "]" * 400)),
}


@pytest.mark.parametrize("name", ABSURD)
def test_a_card_that_asks_too_much_is_refused(whole: bytes, tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(with_card(whole, ABSURD[name]))
    with pytest.raises(CellcountError):
        load(path)


def test_wrong_shapes_are_named(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(with_card(whole, lambda c: c["architecture"].update(head_dim=8)))
    with pytest.raises(WeightsError, match="does not fit its own card"):
        load(path)


def test_a_plugin_is_run_only_when_it_is_named(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither the current folder nor that of the weights is looked into, whatever a card says."""
    monkeypatch.chdir(tmp_path)
    evil = f"open({str(tmp_path / 'executed')!r}, 'w').close()\ndef build_backbone(*a, **k): ...\n"
    for folder in (tmp_path, tmp_path / "model", tmp_path / "plugins", tmp_path / "slides"):
        folder.mkdir(exist_ok=True)
        for name in ("evil.py", "sitecustomize.py", "conftest.py", "timm.py", "cellcount.py"):
            (folder / name).write_text(evil)
    path = tmp_path / "model" / "w.safetensors"
    path.write_bytes(with_card(whole, lambda c: c["architecture"].update(backbone="evil")))
    (tmp_path / "slides" / "a.png").write_bytes(b"")
    for inputs in (("--detector", str(path)), ("--detector", str(path.parent))):
        code = cli.main(["analyze", "slides", "--out", "o.csv", *inputs])
        assert code == 3
        assert "no backbone 'evil'" in capfd.readouterr().err
    # Other plugins of a named folder are not run either.
    (tmp_path / "plugins" / "good.py").write_text("def build_backbone(*a, **k): return 1\n")
    assert plugins.find(plugins.BACKBONES, "good", tmp_path / "plugins")() == 1
    assert not (tmp_path / "executed").exists()
    with pytest.raises(CellcountError):  # the code does run where it is asked for by name
        load_engine("torchvision", path, EngineOptions("cpu", plugin_folder=tmp_path / "plugins"))
    assert (tmp_path / "executed").exists()


def test_a_pickle_inside_a_card_stays_text(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(with_card(whole, lambda c: c.update(notes=["cos\nsystem\n(S'true'\ntR."])))
    assert read_card(path).notes == ("cos\nsystem\n(S'true'\ntR.",)
    path.write_bytes(save({"card": torch.zeros(1)}, metadata={"card": "cos\nsystem\n."}))
    with pytest.raises(WeightsError, match="card is not JSON"):
        read_card(path)
