"""Specifications of rendered smear fields, and their random draw.

Colours are RGB in 0–255 as seen in the image; the renderer turns them into absorbances, so that
overlapping cells multiply as they do under a microscope.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

Rgb = tuple[float, float, float]

SAMPLE_SEEDS = range(9_000_000, 9_001_000)
"""Seeds of ``sample_data`` only: ``random_spec`` stays below them, training never uses them."""


@dataclass(frozen=True, slots=True)
class Stain:
    """Colours of one staining: background plasma, red cells, nuclei, white-cell cytoplasm."""

    background: Rgb = (250.0, 232.0, 212.0)
    red_cell: Rgb = (206.0, 165.0, 160.0)
    nucleus: Rgb = (62.0, 36.0, 112.0)
    cytoplasm: Rgb = (204.0, 184.0, 212.0)


@dataclass(frozen=True, slots=True)
class RedCells:
    """Look and arrangement of the red cells of a field.

    Attributes:
        size_cv: coefficient of variation of the diameter (anisocytosis).
        pallor: 0 (none) to 1 (white centre).
        pallor_size: radius of the pallor as a share of the cell's.
        rim: extra absorbance at the edge, 0–1.5; high with a weak body makes outlines.
        body: absorbance of the disc, 0–1.
        halo: bright diffraction ring outside the edge, 0–0.3.
        irregularity: amplitude of the outline's low harmonics.
        crenation: share of crenated cells (echinocytes).
        overlap: largest depth of overlap, 0 (touching) to 0.4 of the sum of both radii.
        stickiness: share of cells placed against another one.
        rouleaux: share of those that continue a chain.
        translucency: 0 (overlap not darker) to 1 (absorbances add).
    """

    size_cv: float = 0.09
    pallor: float = 0.65
    pallor_size: float = 0.5
    rim: float = 0.25
    body: float = 0.8
    halo: float = 0.05
    irregularity: float = 0.03
    crenation: float = 0.0
    overlap: float = 0.25
    stickiness: float = 0.4
    rouleaux: float = 0.1
    translucency: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 0.4:
            raise ValueError(f"overlap is {self.overlap}, expected 0 to 0.4 of both radii")
        if not 0 <= self.size_cv <= 0.25:
            raise ValueError(f"size_cv is {self.size_cv}, expected 0 to 0.25")


@dataclass(frozen=True, slots=True)
class Illumination:
    """Light and camera; the vignette spans the whole field.

    Attributes:
        gain: brightness of the background, 1 leaves the stain's own.
        cast: factor per channel.
        vignette: loss per channel at the farthest corner, 0–0.8.
        center: bright point as a share of width and height.
        unevenness: amplitude of slow background waves, 0–0.1.
        gamma: exponent applied to the final intensities.
    """

    gain: float = 1.0
    cast: Rgb = (1.0, 1.0, 1.0)
    vignette: Rgb = (0.0, 0.0, 0.0)
    center: tuple[float, float] = (0.5, 0.5)
    unevenness: float = 0.0
    gamma: float = 1.0


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """Everything that decides a rendered field; the same spec gives the same bytes.

    Attributes:
        width_px, height_px: size of the field, or of the whole slide for ``render_window``.
        seed: decides the cells, their places and all textures.
        rbc_diameter_px: mean diameter of a red cell.
        density: summed area of the red cells as a share of the field, 0–0.95.
        n_wbc, n_platelets: expected number in the whole field (drawn per block of the plane).
        focus_sigma_px: Gaussian blur of the whole picture.
        noise: standard deviation of the camera noise in grey levels.
        debris: expected number of distractors (precipitate, dust, ghosts) per 100 red-cell areas.
    """

    width_px: int
    height_px: int
    seed: int
    rbc_diameter_px: float = 80.0
    density: float = 0.35
    n_wbc: float = 1.0
    n_platelets: float = 4.0
    stain: Stain = field(default_factory=Stain)
    red_cells: RedCells = field(default_factory=RedCells)
    illumination: Illumination = field(default_factory=Illumination)
    focus_sigma_px: float = 0.7
    noise: float = 2.0
    debris: float = 1.0

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1:
            raise ValueError(
                f"a field must be at least 1x1 px, got {self.width_px}x{self.height_px}"
            )
        if not 8 <= self.rbc_diameter_px <= 400:
            raise ValueError(f"rbc_diameter_px is {self.rbc_diameter_px}, expected 8 to 400")
        if not 0 <= self.density <= 0.95:
            raise ValueError(f"density is {self.density}, expected a share from 0 to 0.95")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")


# Seen on public smears: Wright-Giemsa, May-Grünwald-Giemsa, Leishman; bright to dark cameras.
STAINS: tuple[Stain, ...] = (
    Stain(),
    Stain((214, 220, 206), (178, 152, 148), (118, 92, 196), (186, 180, 214)),
    Stain((240, 190, 184), (186, 112, 122), (150, 22, 84), (226, 168, 176)),
    Stain((214, 204, 172), (124, 106, 142), (130, 24, 112), (196, 150, 160)),
    Stain((184, 234, 214), (192, 84, 112), (52, 46, 98), (186, 200, 204)),
    Stain((142, 120, 152), (120, 98, 134), (78, 62, 142), (118, 98, 150)),
    Stain((232, 232, 238), (196, 160, 176), (66, 40, 140), (190, 186, 222)),
    Stain((246, 240, 232), (226, 142, 122), (70, 44, 124), (214, 196, 220)),
    Stain((198, 214, 236), (170, 150, 186), (54, 50, 140), (160, 172, 222)),
    Stain((236, 226, 150), (196, 160, 104), (74, 44, 90), (196, 188, 166)),
    Stain((226, 214, 222), (160, 128, 136), (86, 26, 120), (206, 176, 208)),
    Stain((205, 205, 200), (150, 140, 142), (84, 74, 120), (172, 168, 184)),
)


def _rgb(values: np.ndarray) -> Rgb:
    r, g, b = (float(v) for v in values)
    return r, g, b


def random_stain(rng: np.random.Generator) -> Stain:
    """A mixture of two known stains with the strength of each part varied."""
    one, two = (STAINS[i] for i in rng.integers(0, len(STAINS), 2))
    share = rng.beta(0.5, 0.5)

    def mix(name: str, jitter: float) -> np.ndarray:
        blend = share * np.array(getattr(one, name)) + (1 - share) * np.array(getattr(two, name))
        return np.asarray(np.clip(blend * rng.normal(1, jitter, 3), 8, 255))

    background = mix("background", 0.04)
    return Stain(
        background=_rgb(background),
        # Stained parts are never brighter than the background.
        red_cell=_rgb(np.minimum(mix("red_cell", 0.06), background * 0.97)),
        nucleus=_rgb(np.minimum(mix("nucleus", 0.12), background * 0.8)),
        cytoplasm=_rgb(np.minimum(mix("cytoplasm", 0.06), background * 0.98)),
    )


def _random_red_cells(rng: np.random.Generator) -> RedCells:
    outlined = rng.random() < 0.15
    return RedCells(
        size_cv=float(rng.uniform(0.05, 0.13)),
        pallor=float(rng.beta(2.0, 1.4)),
        pallor_size=float(rng.uniform(0.3, 0.65)),
        rim=float(rng.uniform(0.6, 1.5) if outlined else rng.uniform(0.0, 0.45)),
        body=float(rng.uniform(0.15, 0.5) if outlined else rng.uniform(0.65, 1.0)),
        halo=float(rng.choice([0.0, rng.uniform(0.02, 0.2)])),
        irregularity=float(rng.uniform(0.01, 0.045)),
        crenation=float(rng.choice([0.0, 0.0, 0.05, rng.uniform(0.1, 0.5)])),
        overlap=float(rng.uniform(0.05, 0.38)),
        stickiness=float(rng.uniform(0.0, 0.85)),
        rouleaux=float(rng.choice([0.0, 0.1, rng.uniform(0.2, 0.8)])),
        translucency=float(rng.uniform(0.1, 1.0)),
    )


def _random_illumination(rng: np.random.Generator) -> Illumination:
    cast = np.exp(rng.normal(0, rng.choice([0.02, 0.08, 0.22], p=[0.4, 0.35, 0.25]), 3))
    strong = rng.random() < 0.3
    vignette = rng.uniform(0.1, 0.5) if strong else rng.uniform(0, 0.12)
    return Illumination(
        gain=float(rng.choice([rng.uniform(0.85, 1.05), rng.uniform(0.45, 0.95)], p=[0.65, 0.35])),
        cast=_rgb(cast / cast.max()),
        vignette=_rgb(np.clip(vignette * rng.normal(1, 0.35 if strong else 0.1, 3), 0, 0.7)),
        center=(float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7))),
        unevenness=float(rng.uniform(0, 0.04)),
        gamma=float(np.exp(rng.normal(0, 0.12))),
    )


def random_spec(
    rng: np.random.Generator,
    width_px: int,
    height_px: int,
    *,
    rbc_diameter_px: tuple[float, float] = (40.0, 130.0),
    density: tuple[float, float] = (0.03, 0.85),
) -> FieldSpec:
    """A spec drawn over wide, realistic ranges; the seed is never one of ``SAMPLE_SEEDS``.

    Args:
        rbc_diameter_px: range of the mean red-cell diameter, drawn evenly in its logarithm.
        density: range of the share of area covered.
    """
    diameter = float(np.exp(rng.uniform(*np.log(rbc_diameter_px))))
    cell_areas = width_px * height_px / (0.785 * diameter**2)
    spec = FieldSpec(
        width_px=width_px,
        height_px=height_px,
        seed=int(rng.integers(0, SAMPLE_SEEDS.start)),
        rbc_diameter_px=diameter,
        density=float(rng.uniform(*density)),
        # Far more white cells than in blood, so that each training field shows some.
        n_wbc=float(rng.choice([0.0, 1.0, 2.5]) * cell_areas / 55),
        n_platelets=float(rng.gamma(1.3, 3.5) * cell_areas / 55),
        stain=random_stain(rng),
        red_cells=_random_red_cells(rng),
        illumination=_random_illumination(rng),
        focus_sigma_px=float(diameter / 80 * rng.gamma(2.0, 0.45)),
        noise=float(rng.gamma(2.0, 1.2)),
        debris=float(rng.choice([0.3, 1.5, rng.uniform(2, 8)])),
    )
    if spec.red_cells.rim > 0.5:  # Outlined cells would vanish under strong blur.
        spec = replace(spec, focus_sigma_px=min(spec.focus_sigma_px, 0.02 * diameter))
    return spec
