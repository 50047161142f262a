"""Perceptual hash of single-cell images: finds copies of one picture within and across splits.

A cell has no orientation, and published sets hold flipped and turned copies of their own test
images, so two pictures are compared in all eight orientations (flips and right-angle turns). The
hash is the sign of the lowest 255 coefficients of the cosine transform of the brightness, whatever
the size of the picture. A flip changes the sign of the odd coefficients and a turn also exchanges
rows with columns, so all eight are had from one transform.

Measured on PBC and MLL crops: the same picture flipped, turned, at JPEG quality 30, halved or
doubled differs in at most 12 of 255 bits; two different cells in 51 or more.

Shapes: N images, P pairs, H, W height and width; 8 orientations, 4 words of 64 bits (255 used);
D = 16 coefficients per axis, S = 64 samples per axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Bits in which two pictures may differ and still count as copies.
MAX_DISTANCE = 20
#: Bits in the hash: all coefficients but the mean brightness.
BITS = 255

_COEFFICIENTS = 16
_SAMPLES = 64
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_FLAT = 0.01  # grey levels; a blank picture has no coefficient above it, only rounding
_POPCOUNT = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)
_MIXERS = np.array(  # odd multipliers: a collision costs one comparison, nothing else
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64
)
#: Multiplications of a matrix product that OpenBLAS leaves to the calling thread. Its threads wait
#: for each other in a loop, which takes far longer than so small a product where torch is at work.
_PRODUCT_IN_ONE_THREAD = 1 << 18
_PAIR_BUDGET = 1 << 19  # candidates compared at once; bounds the memory

Words = NDArray[np.uint64]


class Duplicates(NamedTuple):
    """Pairs of near-identical pictures.

    Attributes:
        pairs: intp ``(P, 2)``, positions of the two, first < second, sorted.
        distances: int64 ``(P,)``, bits in which they differ in their best orientation.
    """

    pairs: NDArray[np.intp]
    distances: NDArray[np.int64]


def perceptual_hash(pixels: NDArray[np.uint8]) -> Words:
    """The hash of a picture ``(H, W, 3)`` RGB in its eight orientations, uint64 ``(8, 4)``.

    The first row is the picture as it lies. Raises ValueError for an empty picture.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be (H, W, 3) and not empty, got {pixels.shape}")
    spectrum = _spectrum(pixels.astype(np.float32) @ _LUMINANCE)
    alternating = (-1.0) ** np.arange(_COEFFICIENTS)
    flips = [
        turned * (alternating[:, None] if upside_down else 1.0) * (alternating if mirrored else 1.0)
        for turned in (spectrum, spectrum.T)
        for upside_down in (False, True)
        for mirrored in (False, True)
    ]
    return _bits(np.stack(flips))


def grey_hash(grey: NDArray[np.uint8]) -> Words:
    """The hash of a grey picture ``(H, W)`` as it lies, uint64 ``(4,)``."""
    words: Words = _bits(_spectrum(grey.astype(np.float32))[None])[0]
    return words


def _spectrum(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lowest coefficients of the cosine transform of ``(H, W)``, ``(D, D)``."""
    rows, columns = _transform(grey.shape[0]), _transform(grey.shape[1])
    width = max(1, _PRODUCT_IN_ONE_THREAD // rows.size)
    pieces = [rows @ grey[:, x : x + width] for x in range(0, grey.shape[1], width)]
    return np.asarray(np.concatenate(pieces, axis=1) @ columns.T, np.float32)


def _bits(spectra: NDArray[np.floating[Any]]) -> Words:
    """The signs of spectra ``(N, D, D)``, ``(N, 4)``."""
    bits = spectra.reshape(len(spectra), -1) > _FLAT
    bits[:, 0] = False  # mean brightness tells nothing
    return np.packbits(bits, axis=1).view(np.uint64)


def near_duplicates(hashes: Words, max_distance: int = MAX_DISTANCE) -> Duplicates:
    """All pairs of N hashes ``(N, 8, 4)`` that differ in at most ``max_distance`` bits.

    Exact: the bits are dealt out to ``max_distance + 1`` pieces, so two hashes within the distance
    agree in at least one piece, and only those that do are compared; few do by chance. Memory
    grows with N and the number of pairs found, not with N².
    """
    if not 0 <= max_distance <= BITS // 8:
        raise ValueError(f"max_distance is {max_distance}, expected 0 to {BITS // 8} bits")
    if hashes.shape[1:] != (8, 4):
        raise ValueError(f"hashes must have shape (N, 8, 4), got {hashes.shape}")
    count = len(hashes)
    found: dict[int, int] = {}
    for piece in range(max_distance + 1):
        keys = _keys(hashes, _mask(piece, max_distance + 1))  # (N, 8)
        for orientation in range(8):
            for left, right in _agreeing(keys[:, 0], keys[:, orientation]):
                bits_apart = _differing(hashes[left, 0], hashes[right, orientation])
                near = bits_apart <= max_distance
                names = (left[near] * count + right[near]).tolist()
                for name, apart in zip(names, bits_apart[near].tolist(), strict=True):
                    found[name] = min(apart, found.get(name, apart))
    order = np.array(sorted(found), np.intp)
    pairs = np.stack([order // max(count, 1), order % max(count, 1)], axis=1)
    return Duplicates(pairs, np.array([found[name] for name in order.tolist()], np.int64))


@lru_cache(maxsize=64)
def _transform(length: int) -> NDArray[np.float32]:
    """``(D, length)``: averages a line of pixels to S samples and takes their cosine transform."""
    edges = np.linspace(0, length, _SAMPLES + 1)
    pixel = np.arange(length)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    averaging = np.clip(covered, 0, None) * (_SAMPLES / length)  # (S, length)
    angle = np.pi * np.outer(np.arange(_COEFFICIENTS), np.arange(_SAMPLES) + 0.5) / _SAMPLES
    cosines = np.cos(angle) / _SAMPLES  # (D, S)
    return np.asarray(cosines @ averaging, np.float32)


def _mask(piece: int, pieces: int) -> Words:
    """``(4,)`` with every ``pieces``-th bit set, so that each piece has coarse and fine ones."""
    bits = np.arange(BITS + 1) % pieces == piece
    return np.packbits(bits).view(np.uint64)


def _keys(hashes: Words, mask: Words) -> Words:
    """The masked bits of hashes ``(..., 4)`` mixed into one word; equal bits give equal words."""
    mixed: Words = np.bitwise_xor.reduce((hashes & mask) * _MIXERS, axis=-1)
    return mixed


def _differing(first: Words, second: Words) -> NDArray[np.int64]:
    """Differing bits of hashes ``(..., 4)``."""
    words: NDArray[np.uint16] = np.bitwise_xor(first, second).view(np.uint16)
    counted: NDArray[np.int64] = _POPCOUNT[words].sum(axis=-1, dtype=np.int64)
    return counted


def _agreeing(
    first: NDArray[np.uint64], second: NDArray[np.uint64]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Positions i < j with ``first[i] == second[j]``, a bounded number at a time."""
    order = np.argsort(second, kind="stable")
    ordered = second[order]
    start = np.searchsorted(ordered, first, "left")
    lengths = np.searchsorted(ordered, first, "right") - start
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, _PAIR_BUDGET):
        number = np.arange(begin, min(begin + _PAIR_BUDGET, total))
        first_left, last_left = np.searchsorted(ends, number[[0, -1]], "right")
        some = np.arange(first_left, last_left + 1)
        inside = np.minimum(ends[some], number[-1] + 1) - np.maximum(
            ends[some] - lengths[some], number[0]
        )
        left = np.repeat(some, inside)
        right = order[start[left] + number - (ends[left] - lengths[left])]
        rising = left < right
        yield left[rising], right[rising]
