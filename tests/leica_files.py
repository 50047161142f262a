"""Leica LIF files of the tests: a description in XML, then a block of bytes for each image."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from numpy.typing import NDArray

_COLOURS = {"R": 1, "G": 2, "B": 3}
_AXES = {"X": 1, "Y": 2, "Z": 3, "T": 4, "M": 10}


@dataclass(frozen=True)
class LeicaImage:
    """One image of a file.

    Attributes:
        samples: with the axes ``axes``.
        axes: the slowest first; S stands for samples that lie side by side, C for planes.
        colours: of the samples or planes, as ``BGR``; "" for grey.
        bits: significant ones.
        um_per_px: of X and Y.
        name: of the image.
        claims: axis → what the description says of its size instead of the truth.
    """

    samples: NDArray[Any]
    axes: str = "YXS"
    colours: str = "BGR"
    bits: int = 8
    um_per_px: tuple[float, float] = (0.1, 0.1)
    name: str = "Image"
    claims: Mapping[str, int] = field(default_factory=dict)

    def description(self, block: str) -> str:
        """The element of the image."""
        strides = dict(zip(self.axes, self.samples.strides, strict=True))
        sizes = dict(zip(self.axes, self.samples.shape, strict=True)) | dict(self.claims)
        plane = strides.get("S", strides.get("C", 0))
        kind = int(self.samples.dtype.kind == "f")
        channels = "".join(
            f'<ChannelDescription DataType="{kind}" ChannelTag="{_COLOURS.get(colour, 0)}" '
            f'Resolution="{self.bits}" NameOfMeasuredQuantity="" Min="0" Max="255" Unit="" '
            f'LUTName="" IsLUTInverted="0" BytesInc="{place * plane}" BitInc="0"/>'
            for place, colour in enumerate(self.colours or "-")
        )
        um = {"X": self.um_per_px[0], "Y": self.um_per_px[1]}
        dimensions = "".join(
            f'<DimensionDescription DimID="{_AXES[axis]}" NumberOfElements="{sizes[axis]}" '
            f'Origin="0" Length="{um.get(axis, 1) * 1e-6 * (sizes[axis] - 1)}" Unit="m" '
            f'BitInc="0" BytesInc="{strides[axis]}"/>'
            for axis in reversed(self.axes)
            if axis in _AXES
        )
        return (
            f"<Element Name={quoteattr(self.name)}><Data><Image><ImageDescription>"
            f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
            f"</ImageDescription></Image></Data>"
            f'<Memory Size="{self.samples.nbytes}" MemoryBlockID="{block}"/></Element>'
        )


def write_lif(
    path: Path, images: Sequence[LeicaImage], *, beside: str = "", before: str = ""
) -> None:
    """Write a file.

    Args:
        path: of the file.
        images: in their order.
        beside: further elements beside the images.
        before: what stands before the description.
    """
    inside = "".join(image.description(f"MemBlock_{n}") for n, image in enumerate(images))
    xml = (
        f'{before}<LMSDataContainerHeader Version="2"><Element Name="Project"><Children>'
        f"{inside}{beside}</Children></Element></LMSDataContainerHeader>"
    )
    with path.open("wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)))
        file.write(xml.encode("utf-16-le"))
        for n, image in enumerate(images):
            name, data = f"MemBlock_{n}", image.samples.tobytes()
            size = 2 * len(name) + 14
            file.write(struct.pack("<IIBQBI", 0x70, size, 0x2A, len(data), 0x2A, len(name)))
            file.write(name.encode("utf-16-le"))
            file.write(data)
