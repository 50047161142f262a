"""Weight files: one safetensors file whose metadata is the card. Pickles are never opened.

Shapes: tensors as the architecture of the card makes them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cellcount.errors import ModelChoiceError, WeightsError
from cellcount.files.atomic import atomic_write
from cellcount.files.digest import sha256_of
from cellcount.models.card import MAX_CARD_BYTES, read_object
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.detector_card import DetectorCard

if TYPE_CHECKING:  # imported where tensors are torch's: cards are read without it
    import torch

MAX_HEADER_BYTES = 20_000_000
WEIGHTS_SUFFIX = ".safetensors"
AnyCard = DetectorCard | ClassifierCard
PICKLE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"}


def packaged_weights(folder: Path | None = None) -> dict[str, Path]:
    """Names of the models that ship with cellcount, or of those in a folder, and where they lie."""
    folder = folder or Path(str(resources.files("cellcount") / "weights"))
    return {p.stem: p for p in sorted(folder.glob(f"*{WEIGHTS_SUFFIX}"))}


def resolve(name_or_path: str) -> Path:
    """The weight file of a packaged name, a file, or a run folder.

    Raises:
        WeightsError: nothing of that name.
        ModelChoiceError: a pickle.
    """
    packaged = packaged_weights()
    if name_or_path in packaged:
        return packaged[name_or_path]
    path = Path(name_or_path)
    if os.path.isdir(path):  # unlike Path.is_dir, it takes any text
        files = sorted(path.glob(f"*{WEIGHTS_SUFFIX}"))
        if len(files) == 1:
            return files[0]
        raise WeightsError(
            f"{path} holds {len(files)} {WEIGHTS_SUFFIX} files, expected exactly one; "
            "name the file itself, or the folder of a finished training run"
        )
    if not os.path.isfile(path):
        raise WeightsError(
            f"no model named {name_or_path!r}: packaged are {', '.join(packaged) or 'none'}; "
            "or give a .safetensors file or the folder of a training run"
        )
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ModelChoiceError(
            f"{path} is a pickle file, and opening one can run any code; "
            f"cellcount reads {WEIGHTS_SUFFIX} files only. Export the model as safetensors first"
        )
    return path


def _check_header(path: Path) -> None:
    """Refuses what is no safetensors file before the library sees it."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = file.seek(0, 2)
    except OSError as error:
        raise WeightsError(f"{path} cannot be opened: {error.strerror}") from None
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > MAX_HEADER_BYTES or size > length:
        raise WeightsError(
            f"{path} is not a safetensors file (its first bytes announce a header of "
            f"{size} bytes); it may be truncated, or a pickle under another name"
        )


def read_any_card(path: Path) -> AnyCard:
    """The card of a weight file, without loading tensors.

    Raises:
        WeightsError: the file or its card is unusable.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None
    if "card" not in metadata:
        raise WeightsError(f"{path} carries no cellcount card, so its preprocessing is unknown")
    text = metadata["card"]
    is_classifier = read_object(text).get("task") == "classifier"
    return ClassifierCard.from_json(text) if is_classifier else DetectorCard.from_json(text)


def read_card(path: Path) -> DetectorCard:
    """The card of a detector's weight file; a classifier's is refused."""
    card = read_any_card(path)
    if not isinstance(card, DetectorCard):
        raise ModelChoiceError(
            f"{path} is the classifier {card.name!r}, expected a detector; "
            "classifiers are named with --classifier"
        )
    return card


def read_classifier_card(path: Path) -> ClassifierCard:
    """The card of a classifier's weight file; a detector's is refused."""
    card = read_any_card(path)
    if not isinstance(card, ClassifierCard):
        raise ModelChoiceError(
            f"{path} is the detector {card.name!r}, expected a classifier; "
            "detectors are named with --detector"
        )
    return card


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file, float ones as float32."""
    tensors = _stored_tensors(path)
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a weight file as float32, without torch.

    Raises:
        WeightsError: the file is unusable.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="np") as file:
            return {k: file.get_tensor(k).astype(np.float32) for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None


def read_weights(path: Path) -> tuple[DetectorCard, dict[str, torch.Tensor]]:
    """Card and float32 tensors of a detector."""
    return read_card(path), read_tensors(path)


def read_classifier_weights(path: Path) -> tuple[ClassifierCard, dict[str, torch.Tensor]]:
    """Card and float32 tensors of a classifier."""
    return read_classifier_card(path), read_tensors(path)


def write_weights(
    path: Path, card: AnyCard, state: Mapping[str, torch.Tensor], *, half: bool = True
) -> None:
    """Writes tensors (float16 when ``half``) with their card, atomically."""
    from safetensors.torch import save

    tensors = {key: _stored(value.detach().cpu(), half=half) for key, value in state.items()}
    card_json = card.to_json()
    if len(card_json) > MAX_CARD_BYTES:
        raise WeightsError(f"card has {len(card_json)} bytes, the limit is {MAX_CARD_BYTES}")
    with atomic_write(path) as file:
        file.write(save(tensors, metadata={"card": card_json}))


def write_card(path: Path, card: AnyCard) -> None:
    """Replaces the card of a weight file; its tensors stay as they are, to the bit."""
    from safetensors.torch import save

    tensors = _stored_tensors(path)
    with atomic_write(path) as output:
        output.write(save(tensors, metadata={"card": card.to_json()}))


def _stored_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors as they lie in the file."""
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None


def _stored(tensor: torch.Tensor, *, half: bool) -> torch.Tensor:
    if half and tensor.is_floating_point():
        halved = tensor.half()
        # Statistics of a normalisation may lie beyond float16's 65,504: such a tensor stays whole.
        if bool(halved.isfinite().all()):
            tensor = halved
    return tensor.contiguous()


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, source: Path) -> None:
    """Loads tensors into a module, every name and shape checked.

    Raises:
        WeightsError: missing, unexpected or wrongly shaped tensors, named.
    """
    check_state(module.state_dict(), state, source=source)
    module.load_state_dict(dict(state))


def check_state(
    own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], *, source: Path
) -> None:
    """Compares the tensors of a file with those of the model its card describes.

    Raises:
        WeightsError: missing, unexpected or wrongly shaped tensors, named.
    """
    expected = {k: tuple(v.shape) for k, v in own.items()}
    actual = {k: tuple(v.shape) for k, v in state.items()}
    missing = sorted(set(expected) - set(actual))
    extra = sorted(set(actual) - set(expected))
    wrong = [k for k in expected if k in actual and expected[k] != actual[k]]
    if missing or extra or wrong:
        detail = {"missing": missing[:3], "unexpected": extra[:3], "wrong shape": wrong[:3]}
        raise WeightsError(f"{source} does not fit its own card: {json.dumps(detail)}")


#: Batch normalisation keeps these beside what it has learned.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """Summary of a weight file.

    Attributes:
        path: where it lies.
        card: what it says about itself.
        size_bytes: of the file.
        sha256: of the file.
        parameters: learned numbers; statistics of batch normalisation are left out.
    """

    path: Path
    card: AnyCard
    size_bytes: int
    sha256: str
    parameters: int


def facts_of(path: Path) -> WeightFacts:
    """The facts of a weight file.

    Raises:
        WeightsError: it is no weight file, or its card is unusable.
    """
    card = read_any_card(path)
    return WeightFacts(path, card, path.stat().st_size, sha256_of(path), _parameters(path))


def _parameters(path: Path) -> int:
    try:
        with safe_open(path, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            return sum(
                math.prod(part.get_shape())
                for key, part in slices.items()
                if part.get_dtype().startswith(("F", "BF")) and not key.endswith(_STATISTICS)
            )
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None


#: Building may make parts twice and drop them again.
_TIMES, _SLACK = 8, 50_000_000


@contextmanager
def sized_like(state: Mapping[str, torch.Tensor], source: Path) -> Iterator[None]:
    """Limit, while a model is built, its parameters to a multiple of the size of its weight file.

    Args:
        state: tensors of the weight file.
        source: the file, for the message.

    Raises:
        WeightsError: it does, before its memory is used.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    stored = sum(tensor.numel() for tensor in state.values())
    made = 0

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
        nonlocal made
        made += parameter.numel()
        if made > _TIMES * stored + _SLACK:
            raise WeightsError(
                f"{source} does not fit its own card: the file holds {stored:,} numbers, the "
                f"model that its card describes more than {made:,}"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
