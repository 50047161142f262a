"""A card from a stranger may ask for a model that fills all memory: the file says how large it is.

Whatever the options of a card are, the model that is built from them must hold about as many
numbers as the weight file does, or they would not fit it.

Shapes: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from cellcount.errors import WeightsError

#: Building may make parts twice and drop them again.
_TIMES, _SLACK = 8, 50_000_000


@contextmanager
def sized_like(state: Mapping[str, torch.Tensor], source: Path) -> Iterator[None]:
    """While a model is built, it may not become many times larger than its weights.

    Args:
        state: tensors of the weight file.
        source: the file, for the message.

    Raises:
        WeightsError: it does, before its memory is used.
    """
    stored = sum(tensor.numel() for tensor in state.values())
    made = 0

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
        nonlocal made
        made += parameter.numel()
        if made > _TIMES * stored + _SLACK:
            raise WeightsError(
                f"{source} does not fit its own card: the file holds {stored:,} numbers, the "
                f"model that its card describes more than {made:,}"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
