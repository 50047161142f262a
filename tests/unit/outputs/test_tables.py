"""The two tables: exact bytes, never a false zero, constant memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cellcount.core.records import (
    CellClass,
    Cells,
    CellTypes,
    Detections,
    ImageRef,
    ImageResult,
    Quality,
)
from cellcount.errors import OutputError
from cellcount.outputs.columns import (
    CELLS_COLUMNS,
    PICTURE_TYPES_COLUMNS,
    TYPED_CELLS_COLUMNS,
    counts_columns,
)
from cellcount.outputs.tables import write_cells, write_counts, write_picture_types
from cellcount.settings import CsvForm
from tests.tables import check_table, read_table
from tests.unit.run_content import content_of

MakeResult = Callable[..., ImageResult]
NAME = '=é, "x"\n.png'


@pytest.fixture
def results() -> list[ImageResult]:
    detections = Detections(
        np.array([[0, 1.5, 10.25, 20], [639.99, 2, 640, 480]], np.float32),
        np.array([0.98766, 0.5], np.float32),
        np.array([1, 0]),
    )
    ref = ImageRef(Path("a.png"), NAME, "slide 1", "specimen")
    done = ImageResult(
        *(ref, "done", "", 640, 480, 0.0625, 1.23456),
        Cells(detections, np.array([True, False])),
        Quality(0.91251, 211.2345, 0.0153, None, 57.1234),
    )
    empty = ImageResult(replace(ref, image="b.png"), "done", "", 1, 1)
    failed = ImageResult(replace(ref, image="c.png"), "failed", "it is empty; 0 bytes")
    excluded = ImageResult(replace(ref, image="d.png"), "excluded", "out of focus", 640, 480)
    excluded = replace(excluded, quality=Quality(0.1, 40, 0, 0.25, 3))
    return [done, empty, failed, excluded]


def test_counts_to_the_byte(
    tmp_path: Path, results: list[ImageResult], blood: list[CellClass]
) -> None:
    path = tmp_path / "counts.csv"
    write_counts(path, content_of(results, blood))
    assert path.read_bytes().decode() == (
        "image,slide,specimen,profile,status,reason,width_px,height_px,um_per_px,scale_factor,focus,"
        "exposure,clipped_percent,stain_balance,stained_percent,cells_per_mpx,edge_percent,cells,"
        "n_rbc,n_wbc,n_platelet\n"
        '"\'=é, ""x""\\x0a.png",slide 1,specimen,,done,,640,480,0.0625,1.235,'
        "0.913,211.2,0.02,,57.12,4.3,50.0,2,1,1,0\n"
        "b.png,slide 1,specimen,,done,,1,1,,,,,,,,0.0,,0,0,0,0\n"
        'c.png,slide 1,specimen,,failed,"it is empty; 0 bytes",,,,,,,,,,,,,,,\n'
        "d.png,slide 1,specimen,,excluded,out of focus,640,480,,,0.100,40.0,0.00,0.250,3.00,,,,,,\n"
    )


def test_cells_to_the_byte(
    tmp_path: Path, results: list[ImageResult], blood: list[CellClass]
) -> None:
    path = tmp_path / "cells.csv"
    write_cells(path, content_of(results, blood, (), "p 1 (forced)", CsvForm(";")))
    name = '"\'=é, ""x""\\x0a.png"'
    assert path.read_bytes().decode() == (
        "image;cell;x_min_px;y_min_px;x_max_px;y_max_px;label;score;edge;profile\n"
        f"{name};1;0,00;1,50;10,25;20,00;wbc;0,9877;true;p 1 (forced)\n"
        f"{name};2;639,99;2,00;640,00;480,00;rbc;0,5000;false;p 1 (forced)\n"
    )


@pytest.fixture
def typed(make_result: MakeResult, said: CellTypes) -> list[ImageResult]:
    """A result of five cells with types, and others that none were asked of."""
    done = make_result("a.png", 5)
    done = replace(done, cells=replace(done.cells, types=said))
    empty = replace(make_result("b.png", 0), cells=replace(Cells.empty(), types=None))
    return [done, empty, ImageResult(replace(done.ref, image="c.png"), "failed", "gone")]


def test_types_of_cells_to_the_byte(
    tmp_path: Path, typed: list[ImageResult], blood: list[CellClass], types: list[CellClass]
) -> None:
    path = tmp_path / "cells.csv"
    write_cells(path, content_of(typed, blood, types, "p 1"))
    header, *rows = path.read_text("utf-8").splitlines()
    assert header.split(",") == [c.name for c in TYPED_CELLS_COLUMNS]
    assert [row.split(",", 9)[9] for row in rows] == [
        ",,,,,,,,p 1",
        "neutrophil,0.9000,monocyte,0.0625,false,,,,p 1",
        "unclassified,,monocyte,0.4000,true,,,,p 1",  # not asserted, nor hidden
        "band_cell,1.0000,,,false,,,,p 1",
        "neutrophil,0.7500,band_cell,0.2500,false,,,,p 1",
    ]
    write_cells(tmp_path / "plain.csv", content_of(typed, blood, (), "p 1"))
    plain = (tmp_path / "plain.csv").read_text("utf-8").splitlines()
    assert plain[1:] == [row.rsplit(",", 9)[0] + ",p 1" for row in rows]


def test_counts_of_types_to_the_byte(
    tmp_path: Path, typed: list[ImageResult], blood: list[CellClass], types: list[CellClass]
) -> None:
    path = tmp_path / "counts.csv"
    write_counts(path, content_of(typed, blood, types, "p 1"))
    assert check_table(path, counts_columns(blood, types)) == []
    rows = [line.split(",")[18:] for line in path.read_text("utf-8").splitlines()[1:]]
    assert rows == [
        ["2", "2", "1", "2", "0", "1", "1"],
        ["0", "0", "0", "0", "0", "0", "0"],
        ["", "", "", "", "", "", ""],
    ]


def test_pictures_of_single_cells_to_the_byte(
    tmp_path: Path, types: list[CellClass], said: CellTypes, make_result: MakeResult
) -> None:
    def picture(image: str, index: int) -> ImageResult:
        one = slice(index, index + 1)
        row = CellTypes(
            *(getattr(said, n)[one] for n in ("best", "prob", "second", "second_prob", "accepted"))
        )
        result = make_result(image, 1)
        return replace(result, cells=replace(result.cells, types=row))

    failed = ImageResult(ImageRef(Path("x"), "c,1.png", "s"), "failed", "empty file")
    path = tmp_path / "types.csv"
    write_picture_types(
        path, iter([picture("a.png", 1), picture("b.png", 2), failed]), types, CsvForm(";")
    )
    assert path.read_text("utf-8") == (
        "image;status;reason;type;type_prob;type_2;type_2_prob;needs_review\n"
        "a.png;done;;neutrophil;0,9000;monocyte;0,0625;false\n"
        "b.png;done;;unclassified;;monocyte;0,4000;true\n"
        '"c,1.png";failed;empty file;;;;;\n'
    )
    assert check_table(path, PICTURE_TYPES_COLUMNS) == []


@pytest.mark.parametrize("separator", [",", ";"])
def test_both_tables_pass_their_own_check_and_read_back(
    tmp_path: Path, results: list[ImageResult], blood: list[CellClass], separator: str
) -> None:
    counts, cells = tmp_path / "counts.csv", tmp_path / "cells.csv"
    content = content_of(results, blood, csv=CsvForm(separator))  # type: ignore[arg-type]
    write_counts(counts, content)
    write_cells(cells, content)
    assert check_table(counts, counts_columns(blood)) == []
    assert check_table(cells, CELLS_COLUMNS) == []
    table = read_table(counts)
    assert table["image"].tolist() == [NAME, "b.png", "c.png", "d.png"]
    assert table["cells"].tolist() == [2, 0, pd.NA, pd.NA]
    assert read_table(cells)["edge"].tolist() == [True, False]


def test_plain_pandas_reads_them_too(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    result = make_result("a.png", 50)
    write_cells(tmp_path / "cells.csv", content_of([result], blood))
    table = pd.read_csv(tmp_path / "cells.csv")
    np.testing.assert_allclose(
        table[["x_min_px", "y_min_px", "x_max_px", "y_max_px"]].to_numpy(),
        result.cells.detections.boxes_xyxy,
        atol=1e-4,
    )
    np.testing.assert_allclose(table["score"], result.cells.detections.scores, atol=5.1e-5)
    assert table["edge"].dtype == bool
    assert table["edge"].tolist() == result.cells.edge.tolist()


def test_two_decimals_agree_with_the_journal_even_far_out(
    tmp_path: Path, blood: list[CellClass]
) -> None:
    hundredths = np.arange(6_000_000, 6_000_400) / 100  # 60,000 px and more
    boxes = np.stack([hundredths] * 4, axis=1).astype(np.float32)
    detections = Detections(boxes, np.ones(400, np.float32), np.zeros(400, np.int64))
    cells = Cells(detections, np.zeros(400, np.bool_))
    result = ImageResult(ImageRef(Path("a"), "a", "s"), "done", cells=cells)
    write_cells(tmp_path / "cells.csv", content_of([result], blood))
    assert read_table(tmp_path / "cells.csv")["x_min_px"].tolist() == hundredths.tolist()


def test_memory_does_not_grow_and_an_error_keeps_the_old_table(
    tmp_path: Path, blood: list[CellClass], make_result: MakeResult
) -> None:
    result = make_result("a.png", 300)
    path = tmp_path / "cells.csv"

    def peak(count: int) -> int:
        tracemalloc.start()
        content = content_of(lambda: (result for _ in range(count)), blood)
        write_cells(path, content)
        write_counts(tmp_path / "counts.csv", content)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(25) < 1.2 * peak(5)
    before = path.read_bytes()
    assert before.count(b"\n") == 5 * 300 + 1

    def broken() -> Iterator[ImageResult]:
        yield result
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_cells(path, content_of(broken, blood))
    assert path.read_bytes() == before
