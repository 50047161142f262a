"""File systems under a reader: files gone, forbidden, special and strangely named."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cellcount.core.records import Picture
from cellcount.errors import ImageError

Read = Callable[..., Picture]


def encoded(pixels: NDArray[np.uint8], image_format: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


def test_a_vanished_file(tmp_path: Path, read: Read) -> None:
    with pytest.raises(ImageError, match="^file is gone$"):
        read(tmp_path / "a.jpg")


def test_a_folder_a_loop_and_an_impossible_name(tmp_path: Path, read: Read) -> None:
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    with pytest.raises(ImageError, match="a link that leads nowhere"):
        read(tmp_path / "loop.jpg")
    with pytest.raises(ImageError, match="a folder, not an image file"):
        read(tmp_path)
    with pytest.raises(ImageError, match="file name cannot be used"):
        read(Path("a\0.jpg"))


def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path, read: Read) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would block for ever
    with pytest.raises(ImageError, match="a pipe, not an image file"):
        read(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="a device, not an image file"):
        read(Path("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as server:
        at = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket may have 107 bytes only
        try:
            server.bind("socket.jpg")
        finally:
            os.chdir(at)
        with pytest.raises(ImageError, match="a socket, not an image file"):
            read(tmp_path / "socket.jpg")


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root may read everything, so a test that runs as root steps down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_permission_denied(rgb: NDArray[np.uint8], tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(rgb, "PNG"))
    path.chmod(0)
    with an_ordinary_user(), pytest.raises(ImageError, match="^permission denied$"):
        read(path)


@pytest.mark.parametrize("name", ["é ü.png", "a,b.png", "two\nlines.png", "=1+1.png", "\udcff.png"])
def test_strange_names_are_read(
    name: str, rgb: NDArray[np.uint8], tmp_path: Path, read: Read
) -> None:
    (tmp_path / name).write_bytes(encoded(rgb, "PNG"))
    np.testing.assert_array_equal(read(tmp_path / name).pixels, rgb)
    (tmp_path / name).write_bytes(encoded(rgb, "TIFF"))
    np.testing.assert_array_equal(read(tmp_path / name).pixels, rgb)
