"""Memory does not grow with the number of images."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from PIL import Image

Run = Callable[..., tuple[int, str, str]]


def test_memory_stays_flat_over_many_images(slides: Path, run: Run) -> None:
    """150 images more, 2 MB when decoded, cost next to no more memory at the peak."""
    with Image.open(slides / "a/1.png") as whole:
        whole.crop((0, 0, 64, 64)).save("small.png")

    def peak(images: int) -> int:
        folder = Path(f"many{images}")
        folder.mkdir()
        for number in range(images):
            shutil.copy("small.png", folder / f"{number:03d}.png")
        options = ("--out", f"{folder}.csv", "--cells", f"{folder}-cells.csv")
        tracemalloc.start()
        try:
            assert run(folder, *options, "--um-per-px", "0.3125", "--workers", "2")[0] == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    run(slides, "--out", "warm.csv")  # imports and caches
    few, many = peak(20), peak(170)
    # What stays of an image is its place in the plan: names, a file key, two sets that hold it.
    assert (many - few) / 150 < 4000 < 64 * 64 * 3
