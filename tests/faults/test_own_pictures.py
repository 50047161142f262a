"""Charts, drawings and exported data sets of our own below an INPUT (W29): never counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellcount.core.records import CellClass, Cells, Picture
from cellcount.images.file_types import EXPORT_MARK
from cellcount.images.find import find_images
from cellcount.outputs.pictures.annotate import annotate, write_annotated
from cellcount.outputs.pictures.cell_crops import crop_of, write_crop
from cellcount.outputs.run_content import Labels
from tests.faults.recipes import Fields, Run

LABELS = Labels((CellClass("rbc", "red cell", "red cells"),))


def counted(*inputs: str) -> list[str]:
    return [ref.image for ref in find_images(inputs).refs]


def test_a_chart_of_a_data_set_in_its_folder(fields: Fields, folder: Path, run: Run) -> None:
    fields.put(0, "s/images/f.png")
    fields.yolo("s/labels/f.txt", 0)
    Path("s/classes.txt").write_text("rbc\nwbc\nplatelet\n")
    assert run("datasets", "inspect", "s", "--picture", "s/chart.png")[0] == 0
    plan = find_images(["s"])
    assert [ref.image for ref in plan.refs] == ["images/f.png"]
    said = {item.path.name: item.reason for item in plan.passed_over}
    assert said["chart.png"] == "a picture that cellcount has drawn"


def annotated(path: Path, picture: Picture) -> None:
    write_annotated(path, annotate(picture, Cells.empty(), LABELS, "title"))


def annotated_jpeg(path: Path, picture: Picture) -> None:
    write_annotated(path.with_suffix(".jpg"), annotate(picture, Cells.empty(), LABELS, "title"))
    path.with_suffix(".jpg").rename(path)


def review_crop(path: Path, picture: Picture) -> None:
    write_crop(path, crop_of(picture, (10, 10, 50, 50)))


def curves(path: Path, picture: Picture) -> None:
    from cellcount.training.log import draw_curves

    rows = [{"epoch": e, "loss": 1.0 / e, "loss_classifier": 1.0 / e} for e in (1, 2)]
    draw_curves(path, rows)


def matplotlib_chart(path: Path, picture: Picture) -> None:
    from matplotlib.figure import Figure

    Figure().savefig(path, format="png")


@pytest.mark.parametrize("draw", [annotated, annotated_jpeg, review_crop, curves, matplotlib_chart])
def test_drawn_pictures_are_known_wherever_they_are_copied_to(
    draw: Callable[[Path, Picture], None], fields: Fields, folder: Path
) -> None:
    fields.put(0, "s/f.png")
    draw(Path("s/drawn.png"), Picture(fields.pixels(0)))
    shutil.copy("s/drawn.png", "s/named_like_a_photograph.jpg")
    assert counted("s") == ["f.png"]
    assert counted("s/f.png", "s/drawn.png") == ["f.png"]


def test_an_exported_data_set_below_an_input_is_passed_over(fields: Fields, folder: Path) -> None:
    fields.put(0, "s/images/f.png")
    fields.put(0, "s/as_yolo/images/f.png")
    Path("s/as_yolo", EXPORT_MARK).touch()
    plan = find_images(["s"])
    assert [ref.image for ref in plan.refs] == ["images/f.png"]
    (said,) = plan.passed_over
    assert str(said.path) == "s/as_yolo"
    assert "exported" in said.reason
    assert counted("s/**/*.png") == ["images/f.png"]
    assert counted("s/as_yolo") == ["images/f.png"]


@pytest.mark.parametrize("to", ["yolo", "voc", "folders"])
def test_a_conversion_below_its_source_is_no_second_set(
    to: str, fields: Fields, folder: Path, run: Run
) -> None:
    fields.put(0, "s/images/f.png")
    fields.yolo("s/labels/f.txt", 0)
    Path("s/classes.txt").write_text("rbc\nwbc\nplatelet\n")
    assert run("datasets", "convert", "s", "--to", to, "--out", "s/converted")[0] == 0
    assert counted("s") == ["images/f.png"]
    assert counted("s/converted")


@pytest.mark.parametrize("writer", ["Pillow", "render"])
def test_pictures_that_others_or_the_renderer_have_written_are_images(
    writer: str, fields: Fields, folder: Path
) -> None:
    fields.put(0, "s/f.png")
    if writer == "Pillow":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("Software", "ImageJ")
        info.add_text("Comment", "measured with cellcount")
        Image.fromarray(np.asarray(fields.image(0))).save("s/f.png", pnginfo=info)
    assert counted("s") == ["f.png"]
