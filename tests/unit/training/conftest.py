"""Rendered fields with truth in the form of a data set, and settings for a very small detector."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image

from cellcount.data.synthetic import LABELS, FieldSpec, render_field
from cellcount.formats.annotated import AnnotatedSet
from cellcount.records import LabelledImage
from cellcount.training.settings import DetectorTraining, from_recipe

Overrides = dict[str, object]
TINY: Overrides = {
    "backbone": "timm/test_efficientnet",
    "pyramid_channels": 32,
    "finest_stride": 8,
    "rbc_diameter_px": 36.0,
    "size_px": 128,
    "batch_size": 2,
    "precision": "fp32",
    "augment": "flips",
    "ema_decay": 0.9,
    "validate_every": 1,
}


@pytest.fixture(scope="session")
def fields(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledImage, ...]:
    """Four rendered fields of 160x128 px with red cells of 36 px."""
    folder = tmp_path_factory.mktemp("fields")
    images = []
    for seed in range(4):
        spec = FieldSpec(160, 128, 700 + seed, 36.0, density=0.4, n_wbc=0.6, n_platelets=1)
        field = render_field(spec)
        path = folder / f"field-{seed}.png"
        Image.fromarray(field.pixels).save(path)
        images.append(LabelledImage(path, field.boxes_xyxy, field.labels, 160, 128))
    return tuple(images)


@pytest.fixture(scope="session")
def data(fields: tuple[LabelledImage, ...]) -> AnnotatedSet:
    """The four fields to learn from, and the same four to validate on."""
    import dataclasses

    splits = [dataclasses.replace(f, split=s) for s in ("train", "val") for f in fields]
    return AnnotatedSet(tuple(splits), LABELS, format="rendered")


@pytest.fixture(scope="session")
def tiny() -> Callable[..., DetectorTraining]:
    """Settings of a training of seconds, single values replaced by name."""
    return lambda **changes: from_recipe("default", {**TINY, **changes})
