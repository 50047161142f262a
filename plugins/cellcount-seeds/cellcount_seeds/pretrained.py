"""Starting weights from a local safetensors file; nothing is ever downloaded.

Shapes: position embeddings are (1, 1 + patches, C), the class token first.
"""

from __future__ import annotations

from math import isqrt
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from cellcount.errors import UsageError
from cellcount_seeds.classifier import SeedClassifier


def load_pretrained(classifier: SeedClassifier, path: Path) -> list[str]:
    """Loads a file of timm's weights for the base, or of the whole classifier.

    Everything but the head must be there in full; the head is taken where it fits.

    Returns:
        the tensors that keep their random values, by name.

    Raises:
        UsageError: no readable safetensors file, or one of another network.
    """
    if path.suffix != ".safetensors":
        raise UsageError(f"pretrained {path}: expected a .safetensors file")
    try:
        source = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"pretrained {path} cannot be read as safetensors: {error}") from None
    own = classifier.state_dict()
    taken: dict[str, Tensor] = {}
    for key, value in source.items():
        name = key if key in own else f"base.{key}"
        if name not in own:
            continue
        fitted = _resized(name, value, own[name])
        if fitted.shape == own[name].shape:
            taken[name] = fitted
    missing = sorted(set(own) - set(taken))
    # Counters of batches are absent from older files and change no output.
    wanted = [
        name
        for name in missing
        if not name.startswith(("head.", classifier.head_name))
        and not name.endswith("num_batches_tracked")
    ]
    if wanted:
        raise UsageError(
            f"pretrained {path} does not fit: {len(wanted)} of {len(own)} tensors are missing or "
            f"of another shape, {wanted[0]!r} first; expected weights of this very network"
        )
    classifier.load_state_dict(taken, strict=False)
    return missing


def _resized(name: str, value: Tensor, own: Tensor) -> Tensor:
    """Position embeddings interpolated to the classifier's own grid; all else as it is."""
    if not name.endswith("pos_embed") or value.shape == own.shape:
        return value
    side = isqrt(own.shape[1] - 1)
    resized: Tensor = resample_abs_pos_embed(value, [side, side])
    return resized
