"""An output is the old file or the whole new one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cellcount.errors import OutputError
from cellcount.files.atomic import atomic_write, check_folder_writable, check_writable


def write(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)


def test_writes_into_a_new_folder_and_over_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "counts.csv"
    write(path, b"first")
    write(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_midway_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_write(path) as file:
            file.write(b"half of the n")
            file.flush()
            assert path.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_are_readable_for_others_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "counts.csv", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "counts.csv").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "real.csv"
    link = tmp_path / "counts.csv"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_names_as_long_as_a_file_system_allows(tmp_path: Path) -> None:
    write(tmp_path / ("n" * 255), b"x")
    with pytest.raises(OutputError, match=r"cannot write .*name"):
        write(tmp_path / ("n" * 256), b"x")


def test_folders_and_pipes_are_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for act in (lambda path: write(path, b"x"), check_writable):
        with pytest.raises(OutputError, match="is a folder"):
            act(tmp_path)
        with pytest.raises(OutputError, match="not a regular file"):
            act(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_cannot_work_is_found_out_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"cannot write .*check the folder"):
        check_writable(tmp_path / "file" / "counts.csv")
    with pytest.raises(OutputError, match="cannot write"):
        check_folder_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "counts.csv")
    check_folder_writable(tmp_path / "pictures")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "new", "pictures"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_protected_files_and_folders_are_found_out_early(tmp_path: Path) -> None:
    protected = tmp_path / "counts.csv"
    protected.write_bytes(b"old")
    protected.chmod(0o444)
    with pytest.raises(OutputError, match="write-protected"):
        check_writable(protected)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        check_writable(folder / "counts.csv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="No space left on device.*free space"),
        atomic_write(tmp_path / "counts.csv"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    writer = (
        "import os, signal, sys; from pathlib import Path\n"
        "from cellcount.files.atomic import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for name in ("counts.csv", "drawn/s/a.png"):
        subprocess.run([sys.executable, "-c", writer, tmp_path / name], check=False)
    assert len(list(tmp_path.rglob(".cellcount-*.tmp"))) == 2
    mine = tmp_path / "drawn" / ".cellcount-mine.tmp"  # no name that we give
    mine.touch()
    with atomic_write(tmp_path / "counts.csv"):
        check_writable(tmp_path / "counts.csv")
        assert len(list(tmp_path.glob(".cellcount-*.tmp"))) == 1
    check_folder_writable(tmp_path / "drawn")
    assert list(tmp_path.rglob(".cellcount-*.tmp")) == [mine]
    assert (tmp_path / "counts.csv").exists()
