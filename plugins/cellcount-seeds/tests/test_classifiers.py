"""Contract of every classifier with cellcount; learning, freezing, saving and loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from cellcount_seeds.classifier import Preprocessing, SeedClassifier
from cellcount_seeds.inception import InceptionClassifier, one_convolution, two_convolutions
from cellcount_seeds.plain import mobilevit
from cellcount_seeds.pretrained import load_pretrained
from cellcount_seeds.vit import b16, b32
from cellcount_seeds.xception import build as build_xception
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cellcount.errors import UsageError
from cellcount.plugins import CLASSIFIERS, available, find

Build = Callable[..., SeedClassifier]

NAMES = [name for name in available(CLASSIFIERS) if name.startswith("seed")]
INPUT_PX = {
    "seed001-mobilevit": 256,
    "seed002-inception-1": 250,
    "seed002-inception-2": 250,
    "seed002-vit-b32": 128,
    "seed002-xception": 250,
}


def test_all_are_offered() -> None:
    assert len(NAMES) == 11


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract(name: str) -> None:
    build = find(CLASSIFIERS, name)
    with torch.device("meta"):
        side = INPUT_PX.get(name, 224)
        assert build(7).input_size == (side, side)
        model = build(1, image_size=96).eval()
        assert model(torch.zeros(2, 3, 96, 96)).shape == (2, 1)
    assert model.input_size == (96, 96)
    assert [type(x) for x in (*model.mean, *model.std)] == [float] * 6
    assert min(model.std) > 0
    assert model.interpolation in ("bilinear", "bicubic")


@pytest.mark.parametrize("name", NAMES)
def test_nonsense_is_refused(name: str) -> None:
    build = find(CLASSIFIERS, name)
    with torch.device("meta"):
        with pytest.raises(UsageError, match="num_classes is 0; expected at least 1"):
            build(0)
        with pytest.raises(UsageError, match="image_size is 10 px; this network needs at least"):
            build(3, image_size=10)


@pytest.mark.parametrize(("build", "patch"), [(b32, 32), (b16, 16)])
def test_patches_must_fit(build: Build, patch: int) -> None:
    with pytest.raises(UsageError, match=rf"patches of {patch} px, so take a multiple, such as 96"):
        build(3, image_size=100)


def test_inputs_as_stated() -> None:
    half = (0.5, 0.5, 0.5)
    with torch.device("meta"):
        assert (b32(5).mean, b32(5).std) == (half, half)
        raw = one_convolution(5, raw_pixels=True)
        xception = build_xception(5)
    white = torch.ones(3)
    torch.testing.assert_close(
        (white - torch.tensor(raw.mean)) / torch.tensor(raw.std), 255 * white
    )
    assert (xception.mean, xception.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def step(model: nn.Module, side: int, classes: int) -> Tensor:
    """One step of training on two images; returns the loss."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    logits = model.train()(torch.rand(2, 3, side, side))
    loss = nn.functional.cross_entropy(logits, torch.arange(2) % classes)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("build", [build_xception, mobilevit])
def test_every_parameter_learns(build: Build) -> None:
    torch.manual_seed(0)
    model = build(3, image_size=64)
    assert step(model, 64, 3).isfinite()
    without = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert without == []


@pytest.fixture(scope="module")
def inception() -> InceptionClassifier:
    torch.manual_seed(0)
    return one_convolution(5, image_size=96, frozen=True)


def test_a_frozen_base_stays_and_its_head_learns(inception: InceptionClassifier) -> None:
    before = {name: value.clone() for name, value in inception.state_dict().items()}
    step(inception, 96, 5)
    changed = {
        name for name, value in inception.state_dict().items() if (value != before[name]).any()
    }
    assert not any(name.startswith("base.") for name in changed)
    assert {"head.1.weight", "head.2.running_mean", "head.7.weight"} <= changed
    assert inception.head.training
    assert not any(m.training for m in inception.base.modules())


def test_timm_weights_go_into_the_base(inception: InceptionClassifier, tmp_path: Path) -> None:
    """A file as timm publishes it: no prefix, a last layer of its own, no batch counters."""
    path = tmp_path / "inception.safetensors"
    tensors = {k: v for k, v in inception.base.state_dict().items() if "num_batches" not in k}
    save_file({**tensors, "fc.weight": torch.zeros(1000, 2048)}, path)
    other = two_convolutions(3, image_size=96, pretrained=path)
    for name, value in other.base.state_dict().items():
        assert torch.equal(value, inception.base.state_dict()[name]), name
    assert all(p.requires_grad for p in other.parameters())
    assert other.base.training


def test_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "own.safetensors"
    model = build_xception(5, image_size=64)
    step(model, 64, 5)
    save_file(model.state_dict(), path)
    image = torch.rand(2, 3, 64, 64)
    twin = build_xception(5, image_size=64)
    twin.load_state_dict(load_file(path))
    again = build_xception(5, image_size=64, pretrained=path)
    with torch.no_grad():
        expected = model.eval()(image)
        torch.testing.assert_close(twin.eval()(image), expected, atol=0, rtol=0)
        torch.testing.assert_close(again.eval()(image), expected, atol=0, rtol=0)
    fewer = build_xception(2, image_size=64)
    head = {name: value.clone() for name, value in fewer.head.state_dict().items()}
    assert load_pretrained(fewer, path) == ["head.3.bias", "head.3.weight"]
    for name, value in fewer.state_dict().items():
        own = head.get(name.removeprefix("head."))
        assert torch.equal(value, model.state_dict()[name] if own is None else own), name


def test_position_embeddings_are_interpolated(tmp_path: Path) -> None:
    """From 10 x 10 patches to 6 x 6: the class token stays, a constant grid stays constant."""
    path = tmp_path / "vit.safetensors"
    source = timm.create_model("test_vit", pretrained=False, num_classes=9)
    state = source.state_dict()
    state["pos_embed"] = torch.full_like(state["pos_embed"], 0.25)
    state["pos_embed"][:, 0] = -1
    save_file(state, path)
    base = timm.create_model("test_vit", pretrained=False, num_classes=4, img_size=96)
    model = SeedClassifier(base, nn.Identity(), Preprocessing((96, 96)), head_name="base.head.")
    assert load_pretrained(model, path) == ["base.head.bias", "base.head.weight"]
    embedded = model.state_dict()["base.pos_embed"]
    assert embedded.shape == (1, 37, state["pos_embed"].shape[2])
    assert (embedded[:, 0] == -1).all()
    torch.testing.assert_close(embedded[:, 1:], torch.full_like(embedded[:, 1:], 0.25))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a \.safetensors file"):
        mobilevit(3, pretrained=tmp_path / "weights.pth")
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not a weight file at all")
    with pytest.raises(UsageError, match="cannot be read as safetensors"):
        mobilevit(3, pretrained=path)
    with pytest.raises(UsageError, match="cannot be read as safetensors"):
        mobilevit(3, pretrained=tmp_path / "missing.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.zeros(3)}, other)
    with pytest.raises(UsageError, match=r"does not fit: \d+ of \d+ tensors .*this very network"):
        mobilevit(3, pretrained=other)
