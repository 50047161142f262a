"""Compare all outputs of the working tree with those of an earlier commit, byte by byte.

``python -m tools.compare_outputs`` renders small input data with the earlier commit, runs the
same command lines with both trees in this environment and compares exit codes, standard output,
standard error and every file written. Timings, dates and versions are masked: see
``tools.compared_files``. The cases are in ``tools.compared_cases``.

Both trees are copied to the same path in turn, and the commands run in the same folders, so that
paths in outputs agree. A command runs in a process forked from this one, which has imported torch
and other libraries but no module of cellcount: that saves six seconds per command.
"""

from __future__ import annotations

import argparse
import fcntl
import fnmatch
import hashlib
import importlib
import multiprocessing
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path

from tools import compared_data
from tools.compared_cases import Case, all_cases
from tools.compared_files import compare_folders

REFERENCE = "before-house"
#: The commit that the tag names, for clones without tags.
_BEFORE_HOUSE = "ecc765fcf7da793f1cc9b61a96164255b16418e3"
ROOT = Path(__file__).resolve().parents[1]
_LIMIT_S = 300
_PRELOADED = (
    "numpy", "scipy.optimize", "scipy.stats", "scipy.ndimage", "pandas", "PIL.Image", "tifffile",
    "imagecodecs", "matplotlib.figure", "matplotlib.backends.backend_agg", "jinja2", "rich.console",
    "safetensors.torch", "torch", "torchvision", "timm", "torchmetrics", "torchsampler",
    "faster_coco_eval", "pyarrow.parquet",
)  # fmt: skip
_Fork = multiprocessing.get_context("fork")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 where all outputs are the same, 1 where any differs, 2 otherwise."""
    options = _parser().parse_args(arguments)
    cases = [c for c in all_cases() if _is_chosen(c.name, options.only)]
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    if not cases:
        print(f"no case is named {' or '.join(options.only)}; --list shows all", file=sys.stderr)
        return 2
    commit = _commit_of(options.before)
    if commit is None:
        return 2
    named = options.work or os.environ.get("COMPARE_OUTPUTS_WORK")
    work = Path(named or tempfile.mkdtemp(prefix="compare-")).absolute()
    work.mkdir(parents=True, exist_ok=True)
    _restart_with_fixed_environment(work)
    lock = (work / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"another comparison runs in {work}; name another --work", file=sys.stderr)
        return 2
    try:
        return _compare(Net(work, options.jobs), commit, cases, options.ignore)
    finally:
        if options.work is None and not options.keep:
            shutil.rmtree(work, ignore_errors=True)
        else:
            print(f"outputs are kept in {work}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.compare_outputs", description=__doc__)
    parser.add_argument(
        "--before", metavar="REF", default=REFERENCE, help=f"commit to compare with [{REFERENCE}]"
    )
    parser.add_argument(
        "--work",
        metavar="DIR",
        type=Path,
        help="keep data and outputs here; a later comparison reuses those of REF",
    )
    parser.add_argument("--keep", action="store_true", help="keep the outputs without --work too")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", default=[], help="these cases alone; * is allowed"
    )
    parser.add_argument(
        "--ignore",
        metavar="GLOB",
        nargs="+",
        default=[],
        help="do not compare files with these paths, such as '*.journal.sqlite'",
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="cases at the same time")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    return parser


def _is_chosen(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _commit_of(reference: str) -> str | None:
    """The commit's hash, None (and a message) where the repository has none of that name."""
    names = (reference, _BEFORE_HOUSE) if reference == REFERENCE else (reference,)
    for name in names:
        found = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)
        if found:
            return found.strip()
    print(
        f"there is no commit {reference!r} here; fetch it (git fetch --tags) or name another one "
        "with --before",
        file=sys.stderr,
    )
    return None


def _git(*arguments: str, check: bool = True) -> str:
    environment = {**os.environ, "HOME": os.environ.get("COMPARE_OUTPUTS_HOME", "")}
    if not environment["HOME"]:
        environment["HOME"] = os.environ.get("HOME", "")
    command = ["git", "-C", str(ROOT), *arguments]
    result = subprocess.run(
        command, check=check, capture_output=True, encoding="utf-8", env=environment
    )
    return result.stdout


def _restart_with_fixed_environment(work: Path) -> None:
    """Start this program again with a fixed environment, unless that has been done.

    Seeds of hashes and numbers of threads are read when Python and torch start.
    """
    if os.environ.get("COMPARE_OUTPUTS_WORK"):
        return
    home = work / "home"
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "TMPDIR", "LD_LIBRARY_PATH")}
    environment = {
        **kept,
        "COMPARE_OUTPUTS_WORK": str(work),
        "COMPARE_OUTPUTS_HOME": os.environ.get("HOME", ""),
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "100",
        "LINES": "40",
    }
    command = [sys.executable, "-m", "tools.compare_outputs", *sys.argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


class Net:
    """A work folder in which both sides run.

    Args:
        work: the folder; what an earlier comparison left in it is reused where it fits.
        jobs: number of cases that run at the same time.
    """

    def __init__(self, work: Path, jobs: int) -> None:
        self.work = work
        self.jobs = max(1, jobs)
        self.data = work / "data"
        self.tree = work / "tree"
        self.run_folder = work / "run"

    def place_reference(self, commit: str) -> None:
        """Put the tree of a commit at the common path."""
        self._remove(self.tree)
        worktree = self.work / "worktree"
        self._remove(worktree)
        _git("worktree", "prune")
        _git("worktree", "add", "--detach", "--force", str(worktree), commit)
        try:
            shutil.copytree(worktree, self.tree, ignore=shutil.ignore_patterns(".git"))
        finally:
            _git("worktree", "remove", "--force", str(worktree))

    def place_working_tree(self) -> None:
        """Put a copy of the working tree, without ignored files, at the common path."""
        self._remove(self.tree)
        listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)

    def build_data(self, key: str) -> None:
        """Render the input data with the tree that is at the common path."""
        self._remove(self.data)
        self._remove(self.work / "before")
        said = self.work / "data-output"
        said.mkdir(exist_ok=True)
        runs = 0

        def cellcount(arguments: Sequence[str]) -> str:
            nonlocal runs
            runs += 1
            paths = (said / f"{runs}.stdout", said / f"{runs}.stderr")
            process = self.start(arguments, self.work, paths)
            process.join(_LIMIT_S)
            if process.exitcode != 0:
                message = paths[1].read_text("utf-8", "replace")
                raise SystemExit(f"cellcount {shlex.join(arguments)}: {message}")
            return paths[0].read_text("utf-8")

        compared_data.build_data(self.tree, self.data, cellcount)
        (self.work / "data.key").write_text(key)

    def start(self, arguments: Sequence[str], folder: Path, said: tuple[Path, Path]) -> ForkProcess:
        """Start a cellcount command of the tree at the common path in a process of its own."""
        process = _Fork.Process(target=_command, args=(self.tree, list(arguments), folder, said))
        process.start()
        return process

    def run(self, cases: Sequence[Case], side: str, keys: Mapping[str, str]) -> None:
        """Run cases and move what they wrote to the folder of a side."""
        self._remove(self.run_folder)
        state = self._data_state()
        waiting = list(cases)
        active: dict[int, tuple[ForkProcess, Iterator[ForkProcess], Case, float]] = {}
        while waiting or active:
            while waiting and len(active) < self.jobs:
                case = waiting.pop(0)
                self._advance(active, self._steps(case), case)
            for sentinel in wait(list(active), timeout=5):
                assert isinstance(sentinel, int)
                process, steps, case, _ = active.pop(sentinel)
                process.join()
                self._advance(active, steps, case)
            for process, _, case, started in active.values():
                if time.monotonic() - started > _LIMIT_S:
                    print(f"{case.name}: a command took more than {_LIMIT_S} s and was ended")
                    process.kill()
        if self._data_state() != state:
            raise SystemExit(f"a case of the side {side} changed the input data in {self.data}")
        for case in cases:
            target = self.work / side / case.name
            self._remove(target)
            target.parent.mkdir(exist_ok=True)
            shutil.move(self.run_folder / case.name, target)
            (self.work / side / f"{case.name}.key").write_text(keys[case.name])

    @staticmethod
    def _advance(
        active: dict[int, tuple[ForkProcess, Iterator[ForkProcess], Case, float]],
        steps: Iterator[ForkProcess],
        case: Case,
    ) -> None:
        process = next(steps, None)
        if process is not None:
            active[process.sentinel] = (process, steps, case, time.monotonic())

    def _steps(self, case: Case) -> Iterator[ForkProcess]:
        """Start the commands of a case one after the other, each when the one before has ended."""
        folder = self.run_folder / case.name / "files"
        said = self.run_folder / case.name / "said"
        folder.mkdir(parents=True)
        said.mkdir()
        for number, step in enumerate(case.steps, 1):
            if not isinstance(step, str):
                try:
                    step(folder)
                except Exception:  # noqa: BLE001 -- a file that is missing is a result, too
                    message = traceback.format_exc().splitlines()[-1]
                    (said / f"{number:02d}.edit").write_text(f"{message}\n")
                continue
            arguments = shlex.split(step.replace("{data}", str(self.data)))
            paths = (said / f"{number:02d}.stdout", said / f"{number:02d}.stderr")
            process = self.start(arguments, folder, paths)
            yield process
            (said / f"{number:02d}.exit").write_text(f"{process.exitcode}: {step}\n")

    def _data_state(self) -> list[tuple[str, int, int]]:
        """Path, size and time of change of every file of the input data."""
        states = ((path, path.stat()) for path in sorted(self.data.rglob("*")) if path.is_file())
        return [
            (str(path), state.st_size, state.st_mtime_ns)
            for path, state in states
            if "__pycache__" not in path.parts
        ]

    @staticmethod
    def _remove(folder: Path) -> None:
        if folder.exists():
            shutil.rmtree(folder)


def _command(tree: Path, arguments: list[str], folder: Path, said: tuple[Path, Path]) -> None:
    """Be ``python -m cellcount`` of a tree; runs in a forked process."""
    for number, path in enumerate(said, 1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 -- until the end
    sys.stderr = open(  # noqa: SIM115 -- likewise
        2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1
    )
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(tree)
    sys.path[:] = [str(tree), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    sys.argv = ["cellcount", *arguments]
    runpy.run_module("cellcount", run_name="__main__", alter_sys=True)


def _preload() -> None:
    """Import libraries that cellcount uses, so that forked processes have them."""
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed")
    loaded = [name for name in sys.modules if name.split(".")[0] == "cellcount"]
    assert not loaded, f"modules of cellcount are loaded: {loaded}"


def _compare(net: Net, commit: str, cases: Sequence[Case], ignore: Sequence[str]) -> int:
    source = Path(compared_data.__file__).read_text("utf-8")
    data_key = hashlib.sha256(f"{commit} {sys.version} {source}".encode()).hexdigest()
    keys = {c.name: f"{data_key} {c.fingerprint()}" for c in cases}
    _preload()
    key_file = net.work / "data.key"
    has_data = key_file.is_file() and key_file.read_text() == data_key
    missing = [c for c in cases if not has_data or not _is_cached(net.work, c, keys)]
    if missing or not has_data:
        started = time.monotonic()
        net.place_reference(commit)
        if not has_data:
            key_file.unlink(missing_ok=True)
            net.build_data(data_key)
            print(f"data: {time.monotonic() - started:.0f} s", flush=True)
        started = time.monotonic()
        net.run(missing, "before", keys)
        print(f"before: {len(missing)} cases, {time.monotonic() - started:.0f} s", flush=True)
    started = time.monotonic()
    net.place_working_tree()
    net.run(cases, "after", keys)
    print(f"after: {len(cases)} cases, {time.monotonic() - started:.0f} s", flush=True)
    return _judge(net.work, cases, ignore)


def _is_cached(work: Path, case: Case, keys: Mapping[str, str]) -> bool:
    path = work / "before" / f"{case.name}.key"
    return path.is_file() and path.read_text() == keys[case.name]


def _judge(work: Path, cases: Sequence[Case], ignore: Sequence[str]) -> int:
    """Print what differs per case."""
    differing = 0
    for case in cases:
        found = compare_folders(work / "before" / case.name, work / "after" / case.name, ignore)
        differing += bool(found)
        print(f"{'differs' if found else 'same':8}{case.name}")
        for lines in found.values():
            print("\n".join(f"    {line}" for line in lines))
    print(f"{len(cases) - differing} of {len(cases)} cases are the same")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
