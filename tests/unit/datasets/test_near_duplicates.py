"""Copies of a picture are found in any orientation; two different cells are not taken for one."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from cellcount.datasets.near_duplicates import (
    BITS,
    MAX_DISTANCE,
    _spectrum,
    _transform,
    near_duplicates,
    perceptual_hash,
)

Pixels = NDArray[np.uint8]


def distance(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> int:
    """Bits in which two hashes (8, 4) differ in their best orientation."""
    return min(
        sum(int(word).bit_count() for word in np.bitwise_xor(first[0], other)) for other in second
    )


def cell(seed: int, side: int = 180) -> Pixels:
    """A stained nucleus of irregular shape among smooth background texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    edge = 0.45 + sum(
        rng.uniform(-0.08, 0.08) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 6)
    )
    texture = Image.fromarray(rng.integers(0, 255, (14, 14), np.uint8)).resize((side, side), 3)
    grey = np.where(radius < edge, 90.0, 220.0) + 0.15 * np.asarray(texture, float)
    tint = np.array([1.0, 0.8, 1.0])
    return np.asarray(np.clip(grey[..., None] * tint, 0, 255), np.uint8)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height)))


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "same": lambda p: p,
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "quarter turn": lambda p: np.rot90(p),
    "half turn": lambda p: np.rot90(p, 2),
    "three quarters": lambda p: np.rot90(p, 3),
    "transposed": lambda p: p.transpose(1, 0, 2),
    "transposed the other way": lambda p: np.rot90(p.transpose(1, 0, 2), 2),
    "JPEG": lambda p: jpeg(p, 40),
    "half size": lambda p: resized(p, 90, 90),
    "double size": lambda p: resized(p, 360, 360),
    "other sides": lambda p: resized(p, 171, 190),
    "brighter": lambda p: np.asarray(ImageEnhance.Brightness(Image.fromarray(p)).enhance(1.1)),
    "all at once": lambda p: jpeg(resized(np.rot90(p)[:, ::-1], 120, 120), 60),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_copies_of_one_picture_are_near(copy: Callable[[Pixels], Pixels]) -> None:
    for seed in range(5):
        original = cell(seed)
        apart = distance(
            perceptual_hash(original), perceptual_hash(np.ascontiguousarray(copy(original)))
        )
        assert apart <= MAX_DISTANCE


def test_different_cells_are_far() -> None:
    hashes = [perceptual_hash(cell(seed)) for seed in range(12)]
    assert min(distance(a, b) for a, b in combinations(hashes, 2)) > 2 * MAX_DISTANCE


def test_the_hash_is_the_sign_of_the_cosine_transform() -> None:
    pixels = cell(3, side=64)  # 64 samples: no averaging
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    expected = dctn(grey)[:16, :16] / (2 * 64) ** 2 > 0.01  # grey levels: not a blank picture
    expected[0, 0] = False
    bits = np.unpackbits(perceptual_hash(pixels)[0].view(np.uint8)).reshape(16, 16)
    np.testing.assert_array_equal(bits, expected)


def test_blank_pictures_are_copies_of_each_other_and_of_nothing_else() -> None:
    white = perceptual_hash(np.full((50, 70, 3), 255, np.uint8))
    grey = perceptual_hash(np.full((90, 33, 3), 97, np.uint8))
    assert distance(white, grey) == 0
    assert distance(white, perceptual_hash(cell(1))) > MAX_DISTANCE


@pytest.mark.parametrize("side", [1, 5, 40])
def test_small_pictures_have_a_hash(side: int) -> None:
    assert perceptual_hash(cell(0)[:side, :side]).shape == (8, 4)


@pytest.mark.parametrize("shape", [(10, 10), (0, 10, 3), (10, 10, 4)])
def test_what_is_no_rgb_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pixels must be \(H, W, 3\)"):
        perceptual_hash(np.zeros(shape, np.uint8))


def planted(count: int, flips: int, seed: int = 0) -> NDArray[np.uint64]:
    """Random orbits of hashes with copies of the first few, ``flips`` bits away each."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (count, 8, BITS + 1), np.uint8)
    bits[..., 0] = 0
    for copy in range(count // 4):
        orientation = int(rng.integers(8))
        changed = bits[copy, 0].copy()
        changed[1 + rng.choice(BITS, flips, replace=False)] ^= 1
        bits[count - 1 - copy, orientation] = changed
    return np.packbits(bits, axis=-1).view(np.uint64)


@pytest.mark.parametrize("flips", [0, 1, 12, 20])
def test_every_pair_within_the_distance_is_found_as_by_comparing_all(flips: int) -> None:
    hashes = planted(80, flips)
    found = near_duplicates(hashes)
    expected = {
        (i, j): apart
        for i, j in combinations(range(len(hashes)), 2)
        if (apart := distance(hashes[i], hashes[j])) <= MAX_DISTANCE
    }
    assert len(expected) >= 20
    assert dict(zip(map(tuple, found.pairs.tolist()), found.distances.tolist(), strict=True)) == (
        expected
    )


def test_pairs_beyond_the_distance_are_left_out() -> None:
    hashes = planted(80, 13)
    assert len(near_duplicates(hashes, max_distance=12).pairs) == 0
    assert len(near_duplicates(hashes, max_distance=13).pairs) == 20


def test_many_copies_of_one_picture_do_not_overflow_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cellcount.datasets.near_duplicates._PAIR_BUDGET", 7)
    hashes = np.repeat(planted(1, 0), 9, axis=0)
    assert near_duplicates(hashes, 3).pairs.tolist() == [list(p) for p in combinations(range(9), 2)]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    found = near_duplicates(planted(count, 0))
    assert found.pairs.shape == (0, 2)
    assert found.distances.shape == (0,)


def test_a_senseless_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="max_distance is 99, expected 0 to 31"):
        near_duplicates(planted(2, 0), 99)
    with pytest.raises(ValueError, match=r"shape \(N, 8, 4\)"):
        near_duplicates(np.zeros((2, 4), np.uint64))


def test_real_cells_are_far_apart_and_their_copies_near(shared_data: Path) -> None:
    root = shared_data / "pbc"
    if not root.is_dir():
        pytest.skip(f"{root} is not here")
    with (root / "splits.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)][::70]
    pictures = [np.asarray(Image.open(root / name).convert("RGB")) for name in names]
    hashes = np.stack([perceptual_hash(p) for p in pictures])
    assert len(near_duplicates(hashes, 31).pairs) == 0
    for picture, original in zip(pictures, hashes, strict=True):
        turned = jpeg(resized(np.rot90(picture), 180, 180), 60)
        assert distance(original, perceptual_hash(turned)) <= MAX_DISTANCE


def test_the_known_copy_in_pbc_is_found(shared_data: Path) -> None:
    """Two basophils of the published set are one picture under two names, both in train."""
    names = ["BA_251042", "BA_988506", "BA_100102"]
    paths = [shared_data / "pbc" / "basophil" / f"{name}.jpg" for name in names]
    if not all(path.is_file() for path in paths):
        pytest.skip("the PBC crops are not here")
    hashes = np.stack([perceptual_hash(np.asarray(Image.open(p).convert("RGB"))) for p in paths])
    found = near_duplicates(hashes)
    assert found.pairs.tolist() == [[0, 1]]
    assert found.distances.tolist() == [0]


@pytest.mark.parametrize("size", [(240, 321), (64, 64), (500, 7), (1, 1)])
def test_the_spectrum_in_pieces_is_that_of_the_whole_picture(size: tuple[int, int]) -> None:
    grey = np.random.default_rng(5).uniform(0, 255, size).astype(np.float32)
    rows, columns = (_transform(length).astype(np.float64) for length in size)
    np.testing.assert_allclose(_spectrum(grey), rows @ grey @ columns.T, rtol=1e-4, atol=1e-3)
