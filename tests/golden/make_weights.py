"""Trains the tiny detector of the golden tests: ``python tests/golden/make_weights.py``.

A minute on one core. It knows nothing but small rendered fields and is good for tests only:
its scores lie far from the thresholds, so that another processor finds the same cells.
After it, ``pytest tests/golden --update-golden`` writes the expected tables anew.

Shapes: N images of 128x160 px; boxes (R, 4) xyxy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from cellcount.core.records import CellClass
from cellcount.engines.torchvision import FasterRCNN
from cellcount.models.detector_card import Architecture, DetectorCard, Inference
from cellcount.models.weights import write_weights
from cellcount.rendering.field import LABELS, random_spec, render_field

SEED, FIELDS, STEPS, BATCH, PEAK_RATE = 20, 80, 600, 2, 4e-3
HEIGHT_PX, WIDTH_PX = 128, 160
CARD = DetectorCard(
    name="tiny",
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
        backbone_options={"channels": [16, 24, 16, 32], "stem_width": 16},
        strides=(4, 8, 16),
        pyramid_channels=24,
        anchor_sizes_px=((10.0,), (24.0,), (52.0,)),
        anchor_ratios=(1.0,),
        pool_size=5,
        head_dim=48,
    ),
    inference=Inference(
        tile_px=320, margin_px=80, rpn_pre_nms=600, rpn_post_nms=400, max_detections=200
    ),
    thresholds={"rbc": 0.5, "wbc": 0.5, "platelet": 0.5},
    data=({"name": "rendered fields", "license": "Apache-2.0", "images": FIELDS},),
    notes=("A toy for tests: never use it on real images.",),
)


def examples(rng: np.random.Generator) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Rendered fields as uint8 (3, H, W) with their boxes and labels from 1 on."""
    made = []
    for _ in range(FIELDS):
        spec = random_spec(rng, WIDTH_PX, HEIGHT_PX, rbc_diameter_px=(14, 40), density=(0.1, 0.5))
        field = render_field(spec)
        sides = field.boxes_xyxy[:, 2:] - field.boxes_xyxy[:, :2]
        keep = (sides > 2).all(axis=1)
        labels = [LABELS.index(name) + 1 for name in field.labels]
        target = {
            "boxes": torch.from_numpy(field.boxes_xyxy[keep]),
            "labels": torch.tensor(labels, dtype=torch.int64)[torch.from_numpy(keep)],
        }
        made.append((torch.from_numpy(field.pixels).permute(2, 0, 1), target))
    return made


def train() -> FasterRCNN:
    """The trained model, the same for the same seed and libraries."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    fields = examples(rng)
    model = FasterRCNN(CARD).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, STEPS)
    for step in range(STEPS):
        chosen = [fields[i] for i in rng.integers(0, FIELDS, BATCH)]
        losses = model.losses(
            torch.stack([pixels for pixels, _ in chosen]), [dict(target) for _, target in chosen]
        )
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            sys.stderr.write(f"step {step}/{STEPS}: loss {total.item():.3f}\n")
    return model


if __name__ == "__main__":
    write_weights(Path(__file__).parent / "tiny.safetensors", CARD, train().state_dict())
