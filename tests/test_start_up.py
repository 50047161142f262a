"""The command answers at once, and every way out has its exit code and its words."""

from __future__ import annotations

import ast
import configparser
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest
from PIL import Image

from cellcount import __version__, cli
from cellcount.errors import ImageError, UsageError

HEAVY = ("numpy", "pandas", "torch", "torchvision", "timm", "PIL", "scipy", "rich", "tifffile")
# The aim is 0.15 s; the cap leaves room for a busy machine with cold disks.
HELP_CAP_S = 1.5

Run = Callable[..., tuple[int, str]]


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{' '.join((*path, name))} is in the table and nowhere else"
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from cellcount.cli import main\n"
        "code = main(['--help'])\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "print(code, time.perf_counter() - start, heavy, file=sys.stderr)"
    )
    best = float("inf")
    for _ in range(3):
        result = run_python(code)
        code_text, seconds, heavy = result.stderr.split(maxsplit=2)
        assert (code_text, heavy.strip()) == ("0", "[]")
        best = min(best, float(seconds))
    assert "analyze" in result.stdout
    assert best < HELP_CAP_S


def test_importing_cellcount_is_light_until_it_is_used() -> None:
    code = (
        "import sys, cellcount\n"
        "assert {'analyze', 'open_results', 'Results'} <= set(dir(cellcount))\n"
        f"heavy = [m for m in (*{HEAVY!r}, 'click') if m in sys.modules]\n"
        "print(heavy)\n"
        "try: cellcount.nothing\n"
        "except AttributeError as error: print(error)"
    )
    result = run_python(code)
    assert result.stdout.splitlines() == [
        "[]",
        "module 'cellcount' has no attribute 'nothing'",
    ]


def test_every_command_has_help_without_heavy_imports() -> None:
    paths = [path for path, _ in commands(cli.cli)]
    assert ("analyze",) in paths
    assert ("models", "show") in paths
    code = (
        "import sys\n"
        "from cellcount.cli import main\n"
        f"codes = [main([*path, '--help']) for path in {paths!r}]\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "print(set(codes), heavy, file=sys.stderr)"
    )
    result = run_python(code)
    assert result.stderr.strip() == "{0} []"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere"),
        (["{empty}"], "no image found"),
        (["{images}", "--detector", "blod"], "no model named 'blod'"),
        (["{images}", "--classifier", "blood"], "expected a classifier"),
        (["{images}", "--profile", "lymph"], "lymph"),
        (["{images}", "--annotated", "{images}/a.png"], "a.png"),
        (["{images}", "--tile-px", "-1"], "--tile-px is -1"),
    ],
)
def test_mistakes_are_told_before_torch_is_imported(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    images, empty = tmp_path / "images", tmp_path / "empty"
    images.mkdir()
    empty.mkdir()
    Image.new("RGB", (64, 64), "white").save(images / "a.png")
    given = [text.format(images=images, empty=empty) for text in arguments]
    code = (
        "import sys\n"
        "from cellcount.cli import main\n"
        "code = main(['analyze', *sys.argv[1:]])\n"
        "print(code, 'torch' in sys.modules, 'scipy.stats' in sys.modules)"
    )
    result = run_python(code, *given, "--out", str(tmp_path / "counts.csv"))
    assert told in result.stderr
    assert result.stdout.split()[0] in ("2", "3")
    assert result.stdout.split()[1:] == ["False", "False"]
    assert not (tmp_path / "counts.csv").exists()


def test_every_command_and_option_is_explained() -> None:
    for path, command in commands(cli.cli):
        assert command.get_short_help_str(), path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (*path, parameter.opts)


def test_version_and_module_call() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cellcount", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (0, f"cellcount, version {__version__}\n")


def failing(error: BaseException) -> click.Command:
    def callback() -> None:
        raise error

    return click.Command("fail", callback=callback)


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs one command as ``cellcount fail …`` and returns exit code and stderr."""

    def run(command: click.Command, arguments: Sequence[str] = ()) -> tuple[int, str]:
        monkeypatch.setitem(cli.cli.commands, "fail", command)
        code = cli.main(["fail", *arguments])
        return code, capfd.readouterr().err

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("--um-per-px is 7e9"), 2, "Error: --um-per-px is 7e9\n"),
        (ImageError("nothing to read"), 3, "Error: nothing to read\n"),
        (
            ZeroDivisionError("division by zero\nline 2"),
            3,
            "Error: unexpected ZeroDivisionError: division by zero; "
            "run again with --debug for the full trace\n",
        ),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
        (cli.Terminated(), 143, "Terminated.\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_become_words_and_exit_codes(
    run_command: Run, error: BaseException, code: int, message: str
) -> None:
    assert run_command(failing(error)) == (code, message)


def test_debug_anywhere_on_the_line_shows_the_trace(run_command: Run) -> None:
    code, text = run_command(failing(ImageError("nothing to read")), ["--debug"])
    assert code == 3
    assert text.startswith("Traceback")
    assert text.endswith("Error: nothing to read\n")


def test_a_command_returns_its_exit_code(run_command: Run) -> None:
    assert run_command(click.Command("fail", callback=lambda: 4)) == (4, "")


def test_usage_errors_say_what_is_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "nonsense"]) == 2
    assert "No such command 'nonsense'" in capfd.readouterr().err
    assert cli.main(["--nonsense"]) == 2
    assert "--nonsense" in capfd.readouterr().err


def test_debug_after_the_double_dash_is_a_file_name() -> None:
    assert cli._take_debug(["analyze", "--", "--debug"]) == (False, ["analyze", "--", "--debug"])
    assert cli._take_debug(["analyze", "x", "--debug"]) == (True, ["analyze", "x"])


def test_terminate_signal_unwinds_and_exits_143(tmp_path: Path) -> None:
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    code = (
        "import pathlib, sys, time, click\n"
        "from cellcount import cli\n"
        "@cli.cli.command()\n"
        "def wait():\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        pathlib.Path(sys.argv[2]).touch()\n"
        "sys.exit(cli.main(['wait']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(ready), str(cleaned)])
    deadline = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert cleaned.exists()


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys, click\n"
        "from cellcount import cli\n"
        "@cli.cli.command()\n"
        "def talk():\n"
        "    for _ in range(100_000): click.echo('cells')\n"
        "sys.exit(cli.main(['talk']))"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.close(reader)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, "")


def test_names_that_no_terminal_can_show_are_escaped() -> None:
    code = (
        "import sys, click\n"
        "from cellcount import cli\n"
        "@cli.cli.command()\n"
        "def show():\n"
        "    click.echo('smear\\udce9.png')\n"
        "sys.exit(cli.main(['show']))"
    )
    result = run_python(code)
    assert (result.returncode, result.stdout) == (0, "smear\\udce9.png\n")


def imported_packages(folder: Path) -> set[str]:
    """Top-level names that the code of a folder imports, wherever in a file that stands."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found


def test_what_is_imported_is_installed_and_nothing_else(repo_root: Path) -> None:
    """A fresh environment holds install_requires alone; every needless package slows it down."""
    config = configparser.ConfigParser()
    config.read(repo_root / "setup.cfg")
    lines = config["options"]["install_requires"].split()
    required = {re.split(r"[<>=!~\[]", line)[0] for line in lines}
    ours = {"cellcount", "detectron2"}  # Detectron2 is in no registry and never required
    # _typeshed is known to type checkers alone.
    imported = imported_packages(repo_root / "cellcount") - ours - sys.stdlib_module_names
    imported -= {"_typeshed"}
    for extra in (
        "cameras",
        "excel",
        "imagej",
        "openvino",
        "parquet",
        "ray",
        "review",
        "slides",
    ):  # imported where they are asked for
        lines = config["options.extras_require"][extra].split()
        names = {re.split(r"[<>=]", line)[0] for line in lines}
        imported -= {{"openslide-python": "openslide"}.get(name, name) for name in names}
    module_of = {
        "pillow": "PIL",
        "faster-coco-eval": "faster_coco_eval",
        "python-calamine": "python_calamine",
    }
    assert {module_of.get(name, name) for name in required} == imported


def test_every_file_of_the_package_is_installed(repo_root: Path) -> None:
    config = configparser.ConfigParser()
    config.read(repo_root / "setup.cfg")
    patterns = config["options.package_data"]["cellcount"].split()
    package = repo_root / "cellcount"
    files = [p.relative_to(package) for p in package.rglob("*") if p.is_file()]
    data = [f for f in files if f.suffix not in (".py", ".pyc")]
    assert [str(f) for f in data if not any(f.match(pattern) for pattern in patterns)] == []


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_passively_unless_the_user_chose(given: str | None, expected: str) -> None:
    """Two jobs whose threads spin at every barrier take fifteen times as long as one."""
    code = (
        "import cellcount, os, sys\n"
        "assert 'torch' not in sys.modules\n"
        "import torch, subprocess\n"
        "child = subprocess.run([sys.executable, '-c',"
        " 'import os; print(os.environ[\"OMP_WAIT_POLICY\"])'], capture_output=True, text=True)\n"
        "print(os.environ['OMP_WAIT_POLICY'], child.stdout.strip())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.split() == [expected, expected], result.stderr
