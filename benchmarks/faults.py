"""Faults that a run survives: they are caused while it runs, it goes on, the ends are compared.

    python -m benchmarks.faults                      # every fault 20 times
    python -m benchmarks.faults kill --times 300     # one of them

Every trial analyses a dozen rendered fields with a tiny model in a process of its own. The fault
comes at a random moment, the same command is given again without it, and what is written at last is
compared with a quiet run: images lost, images doubled, and whether all bytes are the same. Exit
code 1 where they are not. Where this process may not mount a small tmpfs, a full disk is played by
a limit on file sizes.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.fault_world import (
    FAULT,
    TABLES,
    Verdict,
    World,
    ended,
    expect,
    finish,
    images_of,
    judge,
    outputs,
)


def kill(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """kill -9 at random moments, again and again until the run gets through."""
    for _ in range(3):
        pid = world.start(out)
        time.sleep(dice.uniform(0, world.seconds))
        os.kill(pid, signal.SIGKILL)
        code = ended(pid)
        verdict.times += code == -signal.SIGKILL
        expect(verdict, code, {0, -signal.SIGKILL}, world)
    finish(world, out, verdict)


def interrupt(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """SIGTERM or SIGINT: the images in hand are finished, everything is written, 143 or 130."""
    number, code = dice.choice([(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    pid = world.start(out, before=lambda: _usual_handler())
    time.sleep(dice.uniform(0, world.seconds))
    os.kill(pid, number)
    found = ended(pid)
    verdict.times += found != 0
    # Before the command has set its handlers, a signal acts as on any program.
    expect(verdict, found, {0, code, -number}, world)
    finish(world, out, verdict)


def _usual_handler() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Callable[[str], bool]]:
    """A tmpfs of that size at the folder; gives what changes its options later."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        raise PermissionError("tmpfs cannot be mounted here")

    def remount(options: str) -> bool:
        command = ["mount", "-o", f"remount,{options}", str(folder)]
        return not subprocess.run(command, capture_output=True).returncode

    try:
        yield remount
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def disk_full(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """The disk of the outputs is full at some point; later there is room."""
    need = sum(map(len, world.quiet.values())) + (world.folder / "quiet" / JOURNAL).stat().st_size
    part = dice.uniform(0.05, 0.95)
    try:
        with small_disk(out, max(8, int(part * need / 1024))) as remount:
            code = world.run(out)
            verdict.times += code != 0
            expect(verdict, code, {0, 3}, world)
            if code == 3 and "free space" not in world.said:
                verdict.wrong.append(f"does not say what to do: {world.said[-300:]}")
            remount("size=64m")
            finish(world, out, verdict)
            judge(world, out, verdict)
    except PermissionError:
        file_too_large(world, out.with_name("limited"), verdict, dice)
        judge(world, out.with_name("limited"), verdict)


def file_too_large(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """No file may grow above some size; later it may."""
    largest = (world.folder / "quiet" / JOURNAL).stat().st_size
    size = int(dice.uniform(0.1, 0.9) * largest)
    code = world.run(
        out,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)),
    )
    verdict.times += code != 0
    expect(verdict, code, {0, 3}, world)
    finish(world, out, verdict)


def read_only(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """A half-done output becomes read-only: refused with nothing touched; then it is writable."""
    with small_disk(out, 65536) as remount:
        pid = world.start(out)
        time.sleep(dice.uniform(0, world.seconds))
        os.kill(pid, signal.SIGKILL)
        ended(pid)
        before = outputs(out)
        if not remount("ro"):
            raise PermissionError("tmpfs cannot be made read-only here")
        code = world.run(out)
        verdict.times += 1
        expect(verdict, code, {3}, world)
        if outputs(out) != before:
            verdict.wrong.append("a read-only output has changed")
        remount("rw")
        finish(world, out, verdict)
        for path in out.rglob(".cellcount-*"):
            path.unlink()
        judge(world, out, verdict)


def vanish(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """Files vanish while the run is at work, and come back afterwards."""
    paths = sorted(world.slides.rglob("*.png"))
    away = world.folder / "away"
    away.mkdir(exist_ok=True)
    chosen = dice.sample(paths, 4)
    pid = world.start(out)
    for path in chosen:
        time.sleep(dice.uniform(0, world.seconds / 4))
        path.rename(away / path.name)
    code = ended(pid)
    expect(verdict, code, {0, 1}, world)
    verdict.times += len(chosen)
    for path in chosen:
        (away / path.name).rename(path)
    finish(world, out, verdict)


def change(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """Files change while the run is at work: the end is that of a quiet run on the new ones."""
    paths = sorted(world.slides.rglob("*.png"))
    kept = {path: path.read_bytes() for path in paths}
    quiet = world.quiet
    pid = world.start(out)
    for path in dice.sample(paths, 3):
        time.sleep(dice.uniform(0, world.seconds / 3))
        other = dice.choice(paths)
        path.write_bytes(kept[other])  # not at once: a reader may see half of it
        verdict.times += 1
    expect(verdict, ended(pid), {0, 1}, world)
    try:
        finish(world, out, verdict)
        world.run(out.with_name("changed-quiet"))
        world.quiet = outputs(out.with_name("changed-quiet"))
        judge(world, out, verdict)
    finally:
        world.quiet = quiet
        for path, data in kept.items():
            path.write_bytes(data)


def plugin_raises(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """A plugin raises on some cells: these images fail with its reason, and are done later."""
    del dice
    code = world.run(out, before=lambda: os.environ.update({FAULT: "raise"}))
    expect(verdict, code, {0, 1, 3}, world)
    verdict.times += world.said.count("failed: ") // 2
    if code and "the plugin has failed" not in world.said:
        verdict.wrong.append("the reason of the plugin is not told")
    finish(world, out, verdict)


def worker_dies(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """A plugin ends the process that computes, without a word."""
    del dice
    for _ in range(2):
        code = world.run(out, before=lambda: os.environ.update({FAULT: "exit"}))
        expect(verdict, code, {0, 9}, world)
        verdict.times += code == 9
    finish(world, out, verdict)
    for path in out.rglob(".cellcount-*"):
        path.unlink()


def out_of_memory(world: World, out: Path, verdict: Verdict, dice: random.Random) -> None:
    """The device runs out of memory for whole batches: halves do, with the same cells."""
    struck = out.parent / "struck"

    def too_much(module: torch.nn.Module, inputs: tuple[object, ...]) -> None:
        """Every third batch of several is refused, as by a device that others use too."""
        del module
        first = inputs[0] if inputs else None
        several = isinstance(first, torch.Tensor) and first.ndim == 4 and len(first) > 1
        if several and dice.random() < 0.02:
            with struck.open("a") as file:
                file.write("x")
            raise torch.OutOfMemoryError("out of memory")

    out.parent.mkdir(parents=True, exist_ok=True)
    hook = torch.nn.modules.module.register_module_forward_pre_hook
    code = world.run(out, ["--batch-size", "4"], before=lambda: void(hook(too_much)))
    expect(verdict, code, {0}, world)
    verdict.times += struck.stat().st_size if struck.exists() else 0
    whole, cells = images_of(world.folder / "quiet"), _cells(out)
    if cells != _cells(world.folder / "quiet"):
        verdict.wrong.append(f"other counts than without a fault on {len(whole)} images")


def void(value: object) -> None:
    """Drops a value."""
    del value


def _cells(folder: Path) -> list[str]:
    with (folder / TABLES[0]).open(newline="") as file:
        return [row["cells"] for row in csv.DictReader(file)]


JOURNAL = "counts.journal.sqlite"
Trial = Callable[[World, Path, Verdict, random.Random], None]
FAULTS: dict[str, tuple[str, Trial]] = {
    "kill": ("kill -9 at a random moment", kill),
    "interrupt": ("SIGTERM or SIGINT at a random moment", interrupt),
    "disk-full": ("disk full", disk_full),
    "file-size": ("a file may not grow further", file_too_large),
    "read-only": ("output made read-only", read_only),
    "vanish": ("an image vanishes during the run", vanish),
    "change": ("an image changes during the run", change),
    "plugin": ("a plugin raises", plugin_raises),
    "worker": ("the computing process dies", worker_dies),
    "memory": ("out of memory on the device", out_of_memory),
}
JUDGED_INSIDE = {"disk-full", "read-only", "change"}


def tried(world: World, name: str, times: int, seed: int) -> Verdict:
    """Trials of one fault until it has struck so many times, or far too many trials are over."""
    verdict, dice = Verdict(), random.Random(f"{name}-{seed}")
    trial = FAULTS[name][1]
    for number in range(4 * times + 4):
        if verdict.times >= times:
            break
        folder = world.folder / f"{name}-{number}"
        out = folder / "out"
        try:
            trial(world, out, verdict, dice)
        except PermissionError as error:
            verdict.wrong.append(str(error))
            break
        if name not in JUDGED_INSIDE:
            judge(world, out, verdict, same_bytes=name != "memory")
        shutil.rmtree(folder, ignore_errors=True)
        if not verdict.is_clean:
            break
    return verdict


def main() -> int:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--times", type=int, default=20, help="how often each fault is to strike")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # a process with more threads must not be forked
    console, verdicts = Console(), {}
    with tempfile.TemporaryDirectory(prefix="cellcount-faults-") as work:
        world = World(Path(work))
        for name in chosen.faults or FAULTS:
            verdicts[name] = tried(world, name, chosen.times, chosen.seed)
            for line in verdicts[name].wrong:
                console.print(f"{name}: {line}", markup=False)
    table = Table()
    for heading in ("fault", "times tried", "images lost", "images doubled", "same bytes"):
        table.add_column(heading, justify="left" if heading == "fault" else "right")
    for name, v in verdicts.items():
        same = "same cells" if name == "memory" else "no" if v.different else "yes"
        table.add_row(FAULTS[name][0], f"{v.times:,}", f"{v.lost:,}", f"{v.doubled:,}", same)
    console.print(table)
    return int(not all(v.is_clean for v in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
