"""Nothing of analyze, train and evaluate needs a network: they run where sockets are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# An audit hook cannot be taken out again, and sees every socket that Python code asks for.
GUARD = """
import socket, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
                 "socket.sendto", "urllib.Request"):
        raise SystemExit(f"network: {event} {arguments[1:]}")
    if event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6):
        raise SystemExit(f"network: {event} {arguments[1:]}")

sys.addaudithook(refuse)
"""
RUN = (
    GUARD
    + """
from cellcount.cli import main
for line in sys.stdin.read().splitlines():
    code = main(line.split())
    if code:
        sys.exit(f"{line} ended with {code}")
"""
)


def python(program: str, folder: Path, commands: str = "") -> subprocess.CompletedProcess[str]:
    """A Python process without a network of its own where the system lets us take it away."""
    command = [sys.executable, "-c", program]
    alone = ["unshare", "--map-root-user", "--net"]
    if (
        shutil.which("unshare")
        and not subprocess.run([*alone, "true"], capture_output=True).returncode
    ):
        command = [*alone, *command]
    # Caches of other programs must not stand in for the network.
    environment = os.environ | {"HOME": str(folder), "HF_HOME": str(folder / "hf")}
    return subprocess.run(
        command, input=commands, cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "attempt",
    [
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.socket()",
    ],
)
def test_the_guard_refuses(tmp_path: Path, attempt: str) -> None:
    done = python(f"{GUARD}\n{attempt}", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("network: ")


def test_analyze_train_and_evaluate_run_without_a_network(tmp_path: Path, repo_root: Path) -> None:
    toy = repo_root / "tests" / "golden" / "tiny.safetensors"
    small = "--workers 0 --epochs 1 --rbc-px 70 --set backbone=timm/test_efficientnet"
    small += " --set pyramid_channels=32 --set rbc_diameter_px=32 --set size_px=96"
    commands = f"""
        datasets render --out data --fields 4 --seed 2 --size 240x200 --density 0.3-0.5
        analyze data --out counts.csv --cells cells.csv --report report.html --detector {toy}
        train detector data --out run {small} --set batch_size=2 --set split=3/1
        evaluate detector data --detector run
    """
    lines = "\n".join(line.strip() for line in commands.strip().splitlines())
    done = python(RUN, tmp_path, lines)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run").is_dir()
