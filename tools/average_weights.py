"""The average of a model and of what a further training made of it.

    python -m tools.average_weights BEFORE AFTER DATA OUT [--share 0.75] [--red-cell-hue]

A training on harder images gains on other laboratories' and loses a little on its own; the mean of
the weights before and after keeps most of both, at no cost in time (Wortsman et al. 2022,
arXiv:2109.01903). ``--share`` is that of AFTER in the mean. With ``--red-cell-hue`` the model sees
the red cells of every field in one hue from then on, though it has learned from stains of any: what
it has learned still holds, and it has less to tell apart. Thresholds are chosen anew on DATA's val
images, which pass through exactly the steps of analysis.

Shapes: none; weights of any shape.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.classes import blood_classes
from cellcount.engines.base import EngineOptions, load_engine
from cellcount.engines.field_detector import FieldDetector
from cellcount.errors import WeightsError
from cellcount.evaluation.detector_run import detect_set
from cellcount.evaluation.thresholds import zero_bias_thresholds
from cellcount.files.digest import sha256_of
from cellcount.models.weights import read_weights, write_card, write_weights


def average(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], share: float = 0.5
) -> dict[str, torch.Tensor]:
    """The mean of each weight, with that share of ``after``, whose counters are kept.

    Raises:
        WeightsError: the weights are of two architectures.
    """
    shapes = [{name: tensor.shape for name, tensor in one.items()} for one in (before, after)]
    if shapes[0] != shapes[1]:
        odd = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
        raise WeightsError(
            f"these weights cannot be averaged: {len(odd)} tensors differ in name or shape, "
            f"{odd[0]} first; name a model and what a further training made of it (--init)"
        )
    return {
        name: torch.lerp(before[name].float(), last.float(), share).to(last.dtype)
        if last.is_floating_point()
        else last
        for name, last in after.items()
    }


def average_files(
    before: Path, after: Path, data: Path, out: Path, *, share: float = 0.5, hue: bool = False
) -> None:
    """Writes the average of two weight files, with thresholds for it.

    Args:
        before, after: the weight files.
        data: on whose val images thresholds are chosen.
        out: the file to write.
        share: of ``after`` in the mean.
        hue: let the model see red cells in one hue, as it does anyway if ``after`` did.

    Raises:
        WeightsError: they do not fit together.
        AnnotationError: the data cannot be read, or has no val split.
    """
    card, last = read_weights(after)
    _, first = read_weights(before)
    training = {**card.training, "averaged_with": sha256_of(before), "share": share}
    hue = hue or card.preprocessing.red_cell_hue
    seen = dataclasses.replace(card.preprocessing, red_cell_hue=hue)
    card = dataclasses.replace(card, training=training, preprocessing=seen, evaluations=())
    write_weights(out, card, average(first, last, share))
    images = blood_classes(read_annotations(data, format="auto", split="val")).images
    detector = FieldDetector(load_engine("torchvision", out, EngineOptions(device="auto")))
    truths, found = detect_set(images, detector)
    thresholds = zero_bias_thresholds(truths, found, [c.id for c in card.classes])
    write_card(out, dataclasses.replace(card, thresholds=thresholds))


def main(arguments: Sequence[str]) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m tools.average_weights")
    for name in ("before", "after", "data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--red-cell-hue", action="store_true")
    told = parser.parse_args(arguments)
    average_files(
        told.before, told.after, told.data, told.out, share=told.share, hue=told.red_cell_hue
    )


if __name__ == "__main__":
    main(sys.argv[1:])
