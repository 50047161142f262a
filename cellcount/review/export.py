"""Export of cells for review: pictures and a table to fill in, the least sure first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cellcount.analysis.reviewer_types import Vocabulary
from cellcount.analysis.stored_results import StoredResults, stored_results
from cellcount.core.records import UNCLASSIFIED, ImageResult
from cellcount.errors import ImageError, UsageError
from cellcount.outputs.columns import Value
from cellcount.outputs.pictures.annotate import prepare_folder
from cellcount.outputs.pictures.cell_crops import crops_of, write_crop
from cellcount.outputs.review_tables import check_of, write_corrections
from cellcount.outputs.typed import label_values

TABLE, CROPS = "corrections.csv", "crops"


@dataclass(frozen=True, slots=True)
class Selection:
    """Choice of the cells that are exported.

    Attributes:
        every: all typed cells, else those that need a look and were not reviewed yet.
        limit: so many at most, None for no limit.
        types: cells of these types alone, or that are likeliest one of them; none for all.
    """

    every: bool = False
    limit: int | None = None
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """Result of an export.

    Attributes:
        table: corrections.csv.
        cells: rows in it.
        in_all: cells that would be there without a limit.
        without_picture: images that are gone or have changed, so that their cells have no picture.
        types: what may be filled in.
    """

    table: Path
    cells: int
    in_all: int
    without_picture: tuple[str, ...]
    types: tuple[str, ...]


class _Candidate(NamedTuple):
    """Cell that may be exported: probability of its type, its rank, its image and place there."""

    prob: float
    order: int
    image: str
    cell: int


def export_review(results: Path, out: Path, selection: Selection) -> Exported:
    """Write crops and corrections.csv.

    Args:
        results: counts.csv of a run, or what else `stored_results` knows.
        out: folder for both.
        selection: which cells.

    Raises:
        UsageError: nothing was typed, no such type, or a table is there already.
        OutputError: something cannot be written.
    """
    table = out / TABLE
    if table.exists():
        raise UsageError(f"{table} is there, perhaps filled in; name another folder with --out")
    with stored_results(results) as stored:
        words = vocabulary_of(stored)
        wanted = {_type_of(name, words) for name in selection.types}
        found = sorted(_candidates(stored, selection, wanted))
        chosen = found if selection.limit is None else found[: selection.limit]
        prepare_folder(out / CROPS)
        rows, missing = _rows(stored, chosen, out)
        write_corrections(table, rows, stored.run.output.csv)
    return Exported(table, len(chosen), len(found), missing, words.types)


def vocabulary_of(stored: StoredResults) -> Vocabulary:
    """The types that cells of a run may be given.

    Raises:
        UsageError: no classifier ran.
    """
    facts = stored.run.facts
    if not facts.types:
        raise UsageError(
            "no classifier ran, so no cell has a type to review; run analyze with --classifier"
        )
    return Vocabulary(facts.types, facts.counting.assessable, facts.counting.profile)


def _type_of(name: str, words: Vocabulary) -> str:
    try:
        return words.id_of(name)
    except ValueError as error:
        raise UsageError(f"--types: {error}") from None


def _candidates(
    stored: StoredResults, selection: Selection, wanted: set[str]
) -> Iterator[_Candidate]:
    ids = [t.id for t in stored.run.facts.types]
    no_white = stored.run.facts.counting.no_white_types
    order = 0
    for result in stored.results()():
        said = result.cells.types
        for cell in range(len(result.cells)) if said is not None else ():
            assert said is not None
            best = int(said.best[cell])
            if best < 0:
                continue
            seen = cell in result.reviewed or cell in result.box_edits
            rejected = said.accepted[cell] and ids[best] in no_white
            needs_look = (rejected or not said.accepted[cell]) and not seen
            called = {ids[best]} if said.accepted[cell] else {ids[best], UNCLASSIFIED}
            if (selection.every or needs_look) and (not wanted or called & wanted):
                yield _Candidate(float(said.prob[cell]), order, result.ref.image, cell)
                order += 1


def _rows(
    stored: StoredResults, chosen: list[_Candidate], out: Path
) -> tuple[list[Mapping[str, Value]], tuple[str, ...]]:
    """Write the pictures; return the rows of the table, and the images without pictures."""
    places: dict[str, list[tuple[int, int]]] = {}
    for place, one in enumerate(chosen):
        places.setdefault(one.image, []).append((place, one.cell))
    rows: dict[int, Mapping[str, Value]] = {}
    missing = []
    for result in stored.results()():
        image = result.ref.image
        if image not in places:
            continue
        crops = {place: f"{CROPS}/{place + 1:05d}.png" for place, _ in places[image]}
        drawn = _draw(stored, result, {out / crops[place]: cell for place, cell in places[image]})
        if not drawn:
            missing.append(image)
        labels = stored.run.facts.labels
        values = label_values(result, labels.types, labels.no_white_types)
        for place, cell in places[image]:
            rows[place] = {
                "image": image,
                "cell": cell + 1,
                "crop": crops[place] if drawn else None,
                "check": check_of_cell(result, cell, values),
                **{name: column[cell] for name, column in values.items()},
            }
    return [rows[place] for place in sorted(rows)], tuple(missing)


def _draw(stored: StoredResults, result: ImageResult, cells: Mapping[Path, int]) -> bool:
    """Write pictures of some cells; False where the image cannot be had as it was counted."""
    boxes_xyxy = result.cells.detections.boxes_xyxy[list(cells.values())]
    paths = list(cells)
    try:
        for place, crop in crops_of(stored.source(result), boxes_xyxy):
            write_crop(paths[place], crop)
    except ImageError:
        return False
    return True


def check_of_cell(result: ImageResult, cell: int, values: Mapping[str, list[Value]]) -> str:
    """Return the check value that ties a row to a cell of a result.

    Args:
        result: as outputs tell it.
        cell: its place there, from 0.
        values: as `label_values` gives them.
    """
    said = [values[name][cell] for name in ("type", "type_2")]
    return check_of(result.ref.image, cell, _box(result, cell), said)


def _box(result: ImageResult, cell: int) -> list[float]:
    box: list[float] = result.cells.detections.boxes_xyxy[cell].tolist()
    return box
