"""Layers of a network as nodes of an OpenVINO graph, made from the tensors of a weight file.

Batch normalisation is folded into the convolution before it.

Shapes: nodes float (N, C, H, W), images uint8 (N, H, W, 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.engines.openvino.runtime import openvino
from cellcount.errors import WeightsError

Node = Any  # OpenVINO is installed for some users only
Array = NDArray[np.float32]


class Tensors:
    """Tensors of a weight file, each taken once; what is left over belongs to no layer.

    Args:
        arrays: by name.
        source: the file, for messages.
    """

    def __init__(self, arrays: dict[str, Array], source: Path) -> None:
        self._left, self.source = dict(arrays), source

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, length: int | None = None) -> Array:
        """Return the tensor of that name.

        Args:
            name: in the weight file.
            length: of its first axis, where the card states it.

        Raises:
            WeightsError: there is none, or it has another length.
        """
        if name not in self._left:
            raise self._misfit(f"it has no {name}")
        tensor = self._left.pop(name)
        if length is not None and len(tensor) != length:
            raise self._misfit(f"{name} has {len(tensor)} rows, expected {length}")
        return tensor

    def take_all(self, prefix: str) -> dict[str, Array]:
        """Return all tensors whose names begin so, under the rest of their names."""
        names = [name for name in self._left if name.startswith(prefix)]
        return {name.removeprefix(prefix): self._left.pop(name) for name in names}

    def check_all_taken(self) -> None:
        """Raise WeightsError where tensors are left over."""
        left = [name for name in self._left if not name.endswith("num_batches_tracked")]
        if left:
            raise self._misfit(f"it also has {', '.join(left[:3])}")

    @contextmanager
    def shapes_checked(self) -> Iterator[None]:
        """Turn OpenVINO's refusal of nodes that do not go together into a WeightsError."""
        try:
            yield
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or [""]
            raise self._misfit(f"OpenVINO refuses its shapes ({lines[-1].strip()})") from error

    def _misfit(self, detail: str) -> WeightsError:
        return WeightsError(
            f"{self.source} does not fit its own card: {detail}; use an undamaged copy of the file"
        )


def ops() -> Any:  # noqa: ANN401 -- a module
    """OpenVINO's operations."""
    return openvino().opset13


def image(height: int = -1, width: int = -1) -> Node:
    """Parameter for one image, uint8 (1, H, W, 3); -1 for any size."""
    return ops().parameter([1, height, width, 3], np.uint8)


def normalised(pixels: Node, mean: tuple[float, ...], std: tuple[float, ...]) -> Node:
    """The image as (1, 3, H, W) with the statistics of a card, which are for values in 0-1."""
    x = ops().convert(ops().transpose(pixels, ops().constant([0, 3, 1, 2])), "f32")
    mean_255, std_255 = (
        ops().constant(255 * np.array(rgb, np.float32).reshape(1, 3, 1, 1)) for rgb in (mean, std)
    )
    return ops().divide(ops().subtract(x, mean_255), std_255)


def convolution(x: Node, weight: Array, bias: Array, stride: int = 1) -> Node:
    """Convolution with bias and TensorFlow's ``same`` padding.

    Args:
        x: map (N, C, H, W).
        weight: kernels (out, C, h, w), or (C, 1, h, w) for one kernel a channel.
        bias: (out,).
        stride: the map comes out so many times smaller.
    """
    form = {
        "strides": [stride] * 2,
        "pads_begin": [0, 0],
        "pads_end": [0, 0],
        "dilations": [1, 1],
        "auto_pad": "same_upper",  # an odd pixel is added below and right
    }
    if weight.shape[1] == 1 < weight.shape[0]:
        kernels = ops().constant(np.ascontiguousarray(weight[:, None]))
        y = ops().group_convolution(x, kernels, **form)
    else:
        y = ops().convolution(x, ops().constant(np.ascontiguousarray(weight)), **form)
    return ops().add(y, ops().constant(bias.reshape(1, -1, 1, 1)))


def convolution_of(x: Node, tensors: Tensors, name: str) -> Node:
    """The convolution with bias of that name."""
    return convolution(x, tensors.take(f"{name}.weight"), tensors.take(f"{name}.bias"))


def linear(x: Node, tensors: Tensors, name: str, width: int | None = None) -> Node:
    """The fully connected layer of that name, on (N, F); ``width`` is what the card says of it."""
    weight = ops().constant(tensors.take(f"{name}.weight", width))
    product = ops().matmul(x, weight, transpose_a=False, transpose_b=True)
    return ops().add(product, ops().constant(tensors.take(f"{name}.bias")))


def pyramid(levels: list[Node], tensors: Tensors, name: str) -> list[Node]:
    """A feature pyramid network (``models.pyramid.TopDown``) on levels from fine to coarse."""
    tops: list[Node] = []
    for i, level in reversed(list(enumerate(levels))):
        own = convolution_of(level, tensors, f"{name}.inner_blocks.{i}.0")
        tops.insert(0, ops().add(own, _doubled(tops[0])) if tops else own)
    return [
        convolution_of(top, tensors, f"{name}.layer_blocks.{i}.0") for i, top in enumerate(tops)
    ]


def _doubled(x: Node) -> Node:
    """Double the sides of a map by repeating every place across and down."""
    return ops().interpolate(
        x,
        ops().constant(np.array([2, 2], np.float32)),
        "nearest",
        "scales",
        axes=ops().constant([2, 3]),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
