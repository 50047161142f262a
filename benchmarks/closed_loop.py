"""The closed loop of the review page: fifty corrections, a classifier of one's own, other cells.

The fields of a laboratory that the classifier never saw are analysed. Whole fields are drawn until
fifty labelled cells are together; these are corrected or confirmed as the page does it, by boxes of
their own where the detector missed them, and *Make our classifier* is asked for. Cells of the other
fields are typed before and after, at the boxes of their labels.

Prints a line for each draw and their median. Run it with the extra review installed:

    python -m benchmarks.closed_loop shared/data/wbc-fields
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellcount import cli
from cellcount.adapt.adapted_classifier import layer_of
from cellcount.adapt.cell_features import seen
from cellcount.adapt.laboratory_cells import LaboratoryCells, cells_of
from cellcount.adapt.last_layer import are_right
from cellcount.adapt.reviewed_run import adapt_reviewed_run
from cellcount.analysis.stored_results import stored_results
from cellcount.core.boxes import pairwise_iou
from cellcount.core.records import LabelledImage
from cellcount.datasets.annotations import read_annotations
from cellcount.datasets.crop_set import LabelledCrop
from cellcount.engines.base import EngineOptions
from cellcount.engines.crop_classifier import CropClassifier, load_classifier
from cellcount.models.weights import resolve
from cellcount.review.named_cells import detector_rbc_px
from cellcount.review.page.edit_requests import edits_asked_for
from cellcount.review.page.workbench import Workbench
from cellcount.store.edits import new_id

CORRECTED, DRAWS, SAME_CELL = 50, 10, 0.5
SLIDE = r"([A-Z]+-?\w+?)_"


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of fields.

    Attributes:
        corrected: cells that were corrected or confirmed.
        others: cells of the other fields.
        before, after: how many of the others are typed rightly.
        sentence: why no classifier was made, "" where one was.
    """

    corrected: int
    others: int
    before: int
    after: int
    sentence: str


def correct(bench: Workbench, image: int, field: LabelledImage) -> None:
    """Correct the labelled cells of a field as a person does on the page."""
    number, kept = bench.slide_of_image(image), bench.kept(image)
    found = kept.result.cells.detections.boxes_xyxy
    overlaps = (
        pairwise_iou(field.boxes_xyxy, found) if len(found) else np.zeros((len(field.labels), 0))
    )
    edits: list[dict[str, object]] = []
    taken: set[int] = set()
    for at, label in enumerate(field.labels):
        place = int(overlaps[at].argmax()) if overlaps.shape[1] else -1
        if place >= 0 and overlaps[at, place] >= SAME_CELL and place not in taken:
            taken.add(place)
            facts = {"cell": kept.ids[place], "version": kept.version(place)}
            edits.append({"kind": "retype", "image": image, "type": label, **facts})
        else:
            box = [float(v) for v in field.boxes_xyxy[at]]
            edits.append({"kind": "add", "image": image, "box": box, "label": "wbc", "type": label})
    said = {"edits": edits}
    bench.add(*edits_asked_for(bench, number, bench.editor("benchmark"), new_id(), said))


def typed_rightly(
    classifier: CropClassifier, cells: LaboratoryCells, features: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return whether the likeliest type of each cell is the one that its label means."""
    return are_right(layer_of(classifier).scores(features), cells.allowed)


def one_draw(
    run: Path, fields: dict[str, LabelledImage], order: Sequence[str], device: str
) -> Draw:
    """Correct the first fields, make a classifier and count on the others."""
    options = EngineOptions(device, "fp32", 0, None)
    base = load_classifier(resolve("blood-types"), options)
    with stored_results(run) as stored:
        bench = Workbench(stored, adapter=adapt_reviewed_run)
        number = {Path(ref.image).name: image for image, ref in enumerate(bench.images)}
        corrected, others = 0, list[LabelledCrop]()
        diameter_px = detector_rbc_px(stored)
        for name in order:
            field, kept = fields[name], bench.kept(number[name])
            if corrected < CORRECTED:
                correct(bench, number[name], field)
                corrected += len(field.labels)
                continue
            rbc_px = diameter_px / float(kept.result.scale_factor or 1)
            for label, box in zip(field.labels, field.boxes_xyxy.tolist(), strict=True):
                corners = (box[0], box[1], box[2], box[3])
                others.append(LabelledCrop(field.path, label, box_xyxy=corners, rbc_px=rbc_px))
        bench.classifier.start("benchmark")
        bench.classifier.wait()
        made = bench.classifier.facts()
        weights = bench.classifier.folder / str(made["number"])
    cells = cells_of(others, base.card)
    features = seen(cells.items, [base], None).features[0][:, 0]
    before = typed_rightly(base, cells, features)
    after = before
    if made["state"] == "made":
        after = typed_rightly(load_classifier(resolve(str(weights)), options), cells, features)
    right = int(before.sum()), int(after.sum())
    return Draw(corrected, len(before), *right, made["sentence"])


def main() -> None:
    """Print each draw, then the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fields", type=Path, help="folder of wbc-fields")
    parser.add_argument("--run", type=Path, help="counts.csv of the fields, if they are analysed")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--device", default="auto")
    said = parser.parse_args()
    labelled = read_annotations(said.fields).images
    fields = {one.path.name: one for one in labelled if one.labels}
    with tempfile.TemporaryDirectory() as name:
        run = said.run or Path(name) / "counts.csv"
        if said.run is None:
            models = ["--classifier", "blood-types", "--slide-from", SLIDE, "--device", said.device]
            images = str(said.fields / "images")
            assert cli.main(["analyze", images, *models, "--out", str(run)]) == 0
        draws = []
        for seed in range(said.draws):
            copy = Path(name) / f"draw-{seed}"
            copy.mkdir()
            for path in run.parent.glob(f"{run.stem}.*"):
                shutil.copyfile(path, copy / path.name)
            order = np.random.default_rng(seed).permutation(sorted(fields)).tolist()
            draw = one_draw(copy / run.name, fields, order, said.device)
            draws.append(draw)
            print(
                f"draw {seed}: {draw.corrected} corrected; others {draw.others}: "
                f"{draw.before} right before, {draw.after} after {draw.sentence}",
                flush=True,
            )
    gains = [(one.after - one.before) / one.others for one in draws]
    total = sum(one.others for one in draws)
    before, after = (
        sum(getattr(one, side) for one in draws) / total for side in ("before", "after")
    )
    print(f"all draws: {before:.3f} before, {after:.3f} after")
    print(f"gain: median {statistics.median(gains):+.3f}, worst {min(gains):+.3f}")


if __name__ == "__main__":
    main()
