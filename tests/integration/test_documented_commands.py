"""Every command of the README and the docs is run, in the order of its page, on tiny data.

The data have the names that the pages use. Trainings are shortened; a short list of commands is
only parsed, each with its reason.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from cellcount import cli
from cellcount.files.text import shown
from cellcount.rendering.field import FieldSpec, RenderedField, render_field
from tests.documents import PAGES, command_lines, script_lines

Run = Callable[[Sequence[str]], None]

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "golden" / "tiny.safetensors"
#: Beginnings of commands that are parsed and not run, and why.
PARSED_ONLY = {
    "cellcount doctor": "counts all sample fields; test_doctor.py runs it",
    "cellcount review open": "serves a page until it is stopped; test_review_page.py opens it",
    "cellcount analyze slides/ --classifier counts.classifiers/1": (
        "takes a classifier that the review page made; see test_review_classifier.py"
    ),
    "cellcount adapt classifier my_cells/ --classifier cell-types --out runs/restated": (
        "takes fifty unlabelled cells; see test_adapt.py"
    ),
    "cellcount adapt detector": "takes many corrected fields; see test_adapt_detector.py",
    "cellcount analyze slides/ --out counts.csv --detector runs/ours": "takes its detector",
    "cellcount models export": "needs Detectron2, which is in no package registry",
    "cellcount analyze slides/ --out counts.csv --engine openvino": "needs the extra openvino",
    "cellcount analyze slides/ --out counts.csv --runner ray": "starts a cluster; see test_ray.py",
}
#: Scripts that are parsed and not run, and why.
SCRIPTS = {
    "docs/slurm/count.sh": "needs Slurm",
    "docs/slurm/merge.sh": "needs Slurm",
    "cellcount/weights/train_blood.sh": "takes hours and the public images",
    "cellcount/weights/train_types.sh": "takes hours and the public images",
}
#: Options that shorten a command or let it succeed on these data, by its beginning.
SHORTER = {
    "cellcount train detector": (
        "--workers 0 --set epochs=1 --set iterations=1 --set batch_size=1 --set size_px=96"
    ),
    "cellcount train classifier": "--workers 0 --set epochs=1",
    "cellcount models compare": (
        "--workers 0 --set epochs=1 --set batch_size=8 --backbones timm/test_resnet.r160_in1k"
    ),
    "cellcount evaluate detector my_fields/ --robustness": f"--split test --detector {TINY}",
    "cellcount evaluate detector": "--split test",
    # So that there is something to correct.
    "cellcount review export counts.csv": "--all",
}
#: Images of one color stand for two types of cell, which the packaged classifiers do not know.
COLORS = {"lymphocyte": (90, 60, 160), "eosinophil": (220, 110, 60)}


def draw_field(
    path: Path, seed: int, *, n_wbc: int = 1, size: tuple[int, int] = (180, 140)
) -> RenderedField:
    """Draws a field with red cells of 30 px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    field = render_field(FieldSpec(*size, seed, 30, 0.3, n_wbc, 2, debris=0))
    Image.fromarray(field.pixels).save(path)
    return field


def draw_cell(path: Path, color: tuple[int, int, int], seed: int) -> None:
    """Draws a cell of one color among red cells in other places."""
    rng = np.random.default_rng(seed)
    pixels = np.full((64, 64, 3), 235.0)
    y, x = np.mgrid[:64, :64]
    for _ in range(4):
        place = rng.uniform(0, 64, 2)
        pixels[(y - place[0]) ** 2 + (x - place[1]) ** 2 < 100] = (200, 150, 150)
    pixels[(y - 32) ** 2 + (x - 32) ** 2 < rng.uniform(10, 18) ** 2] = color
    path.parent.mkdir(parents=True, exist_ok=True)
    noisy = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(path)


def command(line: str) -> None:
    """Runs cellcount in this process and expects success."""
    assert cli.main(shlex.split(line)) == 0, line


def write_rows(path: str, rows: Iterable[str]) -> None:
    Path(path).write_text("\n".join(rows) + "\n", "utf-8")


def fill_in(path: Path, corrected_type: str) -> None:
    """Gives all cells of a table of corrections one type."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "corrected_type": corrected_type} for row in rows)
        path.write_text(text.getvalue(), "utf-8")


def make_fields() -> None:
    """Fields without labels: slides/, sample_data/, control_slide/ and single files."""
    draw_field(Path("slides/A-17/field_001.png"), 1, n_wbc=3)
    draw_field(Path("slides/A-18/field_001.png"), 2, n_wbc=3)
    draw_field(Path("sample_data/slide-A/field-1.jpg"), 3)
    for n in (1, 2):
        draw_field(Path(f"control_slide/S0{n}/field.png"), 10 + n, n_wbc=12, size=(360, 300))
    draw_field(Path("field.jpg"), 4, size=(240, 200))
    draw_field(Path("slide.tif"), 5)
    shutil.copytree("slides", "SLIDES")
    write_rows(
        "manifest.csv",
        [
            "path,slide,specimen,accession,um_per_px,wbc_10e9_per_l",
            "slides/A-17/field_001.png,A-17,P1,4711,0.25,6.2",
            "slides/A-18/field_001.png,A-18,P2,4712,0.25,",
        ],
    )


def make_labelled() -> None:
    """Fields with boxes (my_fields/, DATA/) and cells with types (my_cells/, pictures/)."""
    boxes, splits = ["image,xmin,ymin,xmax,ymax,label"], ["file,split"]
    for n, split in enumerate(("train", "train", "train", "val", "val", "test")):
        name = f"field_{n}.png"
        field = draw_field(Path("my_fields", name), 20 + n)
        splits.append(f"{name},{split}")
        for box, label in zip(field.boxes_xyxy.tolist(), field.labels, strict=True):
            boxes.append(",".join([name, *(f"{side:.1f}" for side in box), label]))
    write_rows("my_fields/boxes.csv", boxes)
    write_rows("my_fields/splits.csv", splits)
    shutil.copytree("my_fields", "DATA")
    # Ten cells of one type are the least that an adaptation takes.
    for count, (label, color) in zip((10, 6), COLORS.items(), strict=True):
        for n in range(count):
            draw_cell(Path(f"my_cells/{label}/{n}.png"), color, 100 * count + n)
    shutil.copytree("my_cells/lymphocyte", "pictures")


def make_results() -> None:
    """A counted run in reviewed/, its corrections, and the tables made of it."""
    command(
        "analyze control_slide --out reviewed/counts.csv --cells reviewed/cells.csv "
        "--slides slides.csv --classifier cell-types"
    )
    command("review export reviewed/counts.csv --out look_first --all")
    shutil.move("look_first/corrections.csv", "corrections.csv")
    fill_in(Path("corrections.csv"), "eosinophil")
    shutil.copy("reviewed/cells.csv", "known.csv")
    write_rows("manual.csv", ["slide,n,Lymphocytes,Eosinophils", "S01,100,60,40", "S02,100,50,50"])
    write_rows(
        "replicates.csv",
        [
            "slide,run,n,Lymphocytes,Eosinophils",
            *(f"S01,{n},100,{60 + n},{40 - n}" for n in (1, 2)),
        ],
    )
    profile = ROOT / "cellcount" / "differential" / "profiles" / "peripheral-blood.toml"
    shutil.copy(profile, "our-laboratory.toml")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages name."""
    world = tmp_path_factory.mktemp("pristine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        make_fields()
        make_labelled()
        make_results()
        Path("private").mkdir()
    return world


@pytest.fixture
def world(tmp_path: Path, pristine: Path, tinynet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pristine folder anew as the current one, and the example plugin installed."""
    shutil.copytree(pristine, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")


def before(line: str) -> None:
    """Does what a person does between two commands."""
    if line.startswith("cellcount merge parts/"):  # the other tasks of the array
        for n in (1, 2, 4, 5, 6, 7, 8):
            command(f"analyze slides/ --shard {n}/8 --out parts/{n}.csv --annotated annotated")
    elif line.startswith("cellcount review apply counts.csv look/corrections.csv"):
        fill_in(Path("look/corrections.csv"), "lymphocyte")
    elif line.startswith("cellcount review apply results/counts.csv"):
        shutil.copytree("reviewed", "results")
    elif line.startswith("cellcount datasets convert results/counts.csv"):
        shutil.copytree("reviewed", "results")
        command("review apply results/counts.csv corrections.csv --reviewer Smith")
    elif "--geojson edited" in line:
        shutil.copytree("geo", "edited")


def parse(line: str) -> tuple[click.Command, click.Context]:
    """The command of a line with its parsed arguments, by the program's own command line."""
    words = shlex.split(line, comments=True)[1:]
    found: click.Command = cli.cli
    # With -h as a real call has it, since click keeps the help option of the first context it sees.
    context = click.Context(found, info_name="cellcount", **found.context_settings)
    while isinstance(found, click.Group):
        name = words.pop(0)
        inner = found.get_command(context, name)
        assert inner is not None, f"{line}: no command {name}"
        found = inner
    return found, found.make_context(found.name, words, parent=context)


def parsed_only(line: str) -> bool:
    return any(line.startswith(beginning) for beginning in PARSED_ONLY)


def test_exceptions_stand_in_the_pages() -> None:
    lines = [c for page in PAGES for c in command_lines((ROOT / page).read_text("utf-8"))]
    assert len(lines) > 40
    for beginning in (*PARSED_ONLY, *SHORTER):
        assert any(line.startswith(beginning) for line in lines), beginning


@pytest.mark.parametrize("page", [p for p in PAGES if command_lines((ROOT / p).read_text("utf-8"))])
@pytest.mark.usefixtures("world")
def test_commands_of_a_page_do_what_it_says(page: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / page).read_text("utf-8")
    for line in command_lines(text):
        if parsed_only(line) or f"torchrun --nproc-per-node 4 -m {line}" in text:
            parse(line)
            continue
        before(line)
        more = next((o for b, o in SHORTER.items() if line.startswith(b)), "")
        capfd.readouterr()
        code = cli.main([*shlex.split(line, comments=True)[1:], *more.split()])
        assert code == 0, f"{line}\n{shown(capfd.readouterr().err)}"


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.usefixtures("world")
def test_commands_of_a_script_are_possible(script: str) -> None:
    lines = script_lines((ROOT / script).read_text("utf-8"))
    assert lines
    for line in lines:
        # Variables of the shell hold paths of data, or further options.
        possible = re.sub(r'"?\$\{\w+(?::-|\[@\])\}"?|"\$@"', "", line)
        possible = re.sub(r"\$\{?\w+\}?", "my_fields", possible)
        for folder in re.findall(r"my_fields/[\w/-]+(?=[\s\"]|$)", possible):
            Path(folder).mkdir(parents=True, exist_ok=True)
        parse(possible)
