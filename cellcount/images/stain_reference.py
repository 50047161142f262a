"""References of stain: packaged ones by name, a JSON file, or a picture that is measured.

A file holds ``vectors`` and ``strengths`` as run.json tells them of every run that was normalized.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from cellcount.core.records import ImageRef
from cellcount.errors import ImageError, UsageError
from cellcount.files.toml import nearest
from cellcount.images.read import read_image
from cellcount.images.stain import Dyes, Pixels, measure_dyes, with_dyes
from cellcount.settings import DEFAULT_MAX_PIXELS, NO_STAIN_REFERENCE

_FOLDER = resources.files("cellcount.images") / "stains"


@dataclass(frozen=True, eq=False, slots=True)
class StainReference:
    """Reference that fields are normalized to.

    Attributes:
        name: as it was asked for.
        source: where its numbers come from.
        dyes: the numbers.
    """

    name: str
    source: str
    dyes: Dyes

    def apply(self, pixels: Pixels) -> Pixels:
        """A field with the dyes of the reference; as it is where too little of it is stained."""
        return with_dyes(pixels, self.dyes)[0]

    def facts(self) -> dict[str, Any]:
        """Return the facts that decide its effect, JSON-ready, for the journal and run.json."""
        return {"name": self.name, "source": self.source, **self.dyes.as_json()}


def stain_references() -> tuple[str, ...]:
    """Names of the packaged references, sorted."""
    names = [entry.name for entry in _FOLDER.iterdir()]
    return tuple(sorted(n.removesuffix(".json") for n in names if n.endswith(".json")))


def load_stain_reference(name: str) -> StainReference | None:
    """The reference of a name, a JSON file or a picture; None of ``none``.

    Raises:
        UsageError: there is none, or it cannot serve; says why.
    """
    if name == NO_STAIN_REFERENCE:
        return None
    if name in stain_references():
        return _parsed(name, (_FOLDER / f"{name}.json").read_text("utf-8"))
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"--stain-reference {name}: no such file, and no packaged reference; "
            f"{nearest(name, stain_references())}known: {', '.join(stain_references())}, a JSON "
            f"file, a picture, or {NO_STAIN_REFERENCE}"
        )
    if path.suffix.lower() == ".json":
        try:
            return _parsed(name, path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--stain-reference {name} cannot be read: {error}") from error
    return _of_picture(name, path)


def _of_picture(name: str, path: Path) -> StainReference:
    try:
        picture = read_image(ImageRef(path, path.name, ""), max_pixels=DEFAULT_MAX_PIXELS)
    except ImageError as error:
        raise UsageError(f"--stain-reference {name} cannot be read: {error}") from error
    dyes = measure_dyes(picture.pixels)
    if dyes is None:
        raise UsageError(
            f"--stain-reference {name} shows too little stain, or one colour only: choose a field "
            "with red cells and a white cell or two on clear glass"
        )
    return StainReference(name, f"measured on {path.name}", dyes)


def _parsed(name: str, text: str) -> StainReference:
    try:
        document = json.loads(text)
        vectors, strengths = (
            np.array(document[key], np.float64) for key in ("vectors", "strengths")
        )
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return StainReference(name, str(document.get("source", "")), Dyes(vectors, strengths))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--stain-reference {name} is no reference of stain ({error}); expected JSON with "
            "vectors, two dyes of three densities each, and strengths, two numbers"
        ) from error
