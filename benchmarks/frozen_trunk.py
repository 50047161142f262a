"""Training the heads of a detector whose trunk is frozen: its maps are computed once, and kept.

Shapes: N crops uint8 (N, 3, S, S); maps (N, C, S / s_i, S / s_i) per level with stride s_i.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from cellcount.engines.torchvision import FasterRCNN
from cellcount.models.pyramid import Trunk
from cellcount.training.detector.fields import FieldDataset
from cellcount.training.detector.settings import DetectorTraining
from cellcount.training.optim import AveragedModel, build_optimizer, rate_factor

console = Console(width=None if sys.stdout.isatty() else 140)


class Remembered(nn.Module):
    """Stands where the trunk was and gives the maps that it is told to."""

    def __init__(self, like: Trunk) -> None:
        super().__init__()
        self.strides, self.channels = like.strides, like.channels
        self.maps: list[Tensor] = []

    def show(self, maps: list[Tensor]) -> None:
        """Sets the maps of the next images."""
        self.maps = maps

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps that were set before."""
        del images
        return self.maps


class Crops:
    """Maps and targets of the training crops, on disk.

    Args:
        folder: where each view lies in a folder of its own.
        views: how many.
    """

    def __init__(self, folder: Path, views: int) -> None:
        self._levels: list[list[NDArray[np.float16]]] = []
        self._targets: list[list[dict[str, Any]]] = []
        for view in range(views):
            files = sorted((folder / f"view-{view}").glob("level-*.npy"))
            self._levels.append([np.load(file, mmap_mode="r") for file in files])
            self._targets.append(
                json.loads((folder / f"view-{view}" / "targets.json").read_text("utf-8"))
            )
        self.count = sum(len(targets) for targets in self._targets)

    def batch(self, chosen: Sequence[int]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Maps of each level and targets of the chosen crops."""
        at = [divmod(index, len(self._targets[0])) for index in chosen]
        maps = []
        for level in range(len(self._levels[0])):
            stacked = np.stack([self._levels[view][level][row] for view, row in at])
            own = torch.from_numpy(stacked).float()
            maps.append(own.contiguous(memory_format=torch.channels_last))
        targets = [self._targets[view][row] for view, row in at]
        return maps, [
            {
                "boxes": torch.tensor(t["boxes"], dtype=torch.float32).reshape(-1, 4),
                "labels": torch.tensor(t["labels"], dtype=torch.int64),
            }
            for t in targets
        ]

    @staticmethod
    def make(folder: Path, view: int, model: FasterRCNN, dataset: FieldDataset) -> None:
        """Computes one view unless it is there."""
        done = folder / f"view-{view}"
        if done.exists():
            return
        out = folder / f"unfinished-{view}"
        out.mkdir(parents=True, exist_ok=True)
        dataset.start_epoch(view, settling=True)
        files: list[Any] = []
        targets = []
        with torch.inference_mode():
            for row in range(len(dataset)):
                image, target = dataset[row]
                maps = [m[0].half().numpy() for m in model.features(image[None]).values()]
                files = files or [_file(out, i, len(dataset), m) for i, m in enumerate(maps)]
                for file, own in zip(files, maps, strict=True):
                    file[row] = own
                targets.append({k: v.tolist() for k, v in target.items()})
                if (row + 1) % 100 == 0:
                    console.print(f"maps of view {view + 1}: {row + 1} of {len(dataset)} crops")
        for file in files:
            file.flush()
        (out / "targets.json").write_text(json.dumps(targets), "utf-8")
        out.rename(done)


def _file(folder: Path, level: int, count: int, example: NDArray[np.float16]) -> Any:  # noqa: ANN401
    path = folder / f"level-{level}.npy"
    return np.lib.format.open_memmap(path, "w+", np.float16, (count, *example.shape))


def steps_of(
    model: FasterRCNN, crops: Crops, settings: DetectorTraining, average: AveragedModel
) -> Iterator[int]:
    """Trains the heads, one number for each step that was made."""
    optimizer = build_optimizer(model, settings)
    order = torch.Generator().manual_seed(settings.seed)
    images = torch.zeros(settings.batch_size, 3, settings.size_px, settings.size_px).byte()
    model.train()
    waiting: list[int] = []
    for step in range(settings.iterations):
        if len(waiting) < settings.batch_size:
            waiting = torch.randperm(crops.count, generator=order).tolist()
        chosen, waiting = waiting[: settings.batch_size], waiting[settings.batch_size :]
        maps, targets = crops.batch(chosen)
        cast(Remembered, model.trunk).show(maps)
        # The first look samples its regions alike in all arms, whatever the second drew before.
        torch.manual_seed(1_000_003 * settings.seed + step)
        losses = torch.stack(list(model.losses(images, targets).values()))
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate_factor("cosine", 0.05, step / settings.iterations)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        average.update(model)
        yield step + 1
