"""Common parts of the classifiers: a base, a head, and the statement of how crops are prepared.

Shapes: N images of H x W px, K classes; images (N, 3, H, W) float RGB, normalised with the stated
mean and std; logits (N, K). Softmax or sigmoid is the caller's.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from cellcount.errors import UsageError

Rgb = tuple[float, float, float]


class Preprocessing(NamedTuple):
    """Steps from a crop to an input: resized to ``input_size`` (H, W), RGB in 0-1 normalised."""

    input_size: tuple[int, int]
    mean: Rgb = (0.0, 0.0, 0.0)
    std: Rgb = (1.0, 1.0, 1.0)
    interpolation: str = "bilinear"


# (x - 0.5) / 0.5: what the published ImageNet weights of InceptionV3 and ViT were trained with.
HALF: Rgb = (0.5, 0.5, 0.5)


def centred(side: int, *, raw_pixels: bool = False) -> Preprocessing:
    """RGB in -1 to 1 as the ImageNet weights expect, or 0 to 255 as the paper's notebooks feed it.

    Args:
        side: height and width of the input, px.
        raw_pixels: 0 to 255. NOTE: a mistake of the paper 002, kept for repeating its tables.
    """
    if raw_pixels:
        return Preprocessing((side, side), std=(1 / 255, 1 / 255, 1 / 255))
    return Preprocessing((side, side), HALF, HALF)


class SeedClassifier(nn.Module):
    """A base that sees the image and a head that names the class.

    Args:
        base: images (N, 3, H, W) -> features.
        head: features -> logits (N, K).
        preprocessing: stated as attributes, which is all that cellcount asks of a classifier.
        head_name: prefix of the tensors that depend on the number of classes.
    """

    def __init__(
        self,
        base: nn.Module,
        head: nn.Module,
        preprocessing: Preprocessing,
        head_name: str = "head.",
    ) -> None:
        super().__init__()
        self.base = base
        self.head = head
        self.head_name = head_name
        self.input_size = preprocessing.input_size
        self.mean = preprocessing.mean
        self.std = preprocessing.std
        self.interpolation = preprocessing.interpolation

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of normalised images (N, 3, H, W)."""
        return cast(Tensor, self.head(self.base(images)))


def check_request(num_classes: int, image_size: int, smallest: int, multiple_of: int = 1) -> None:
    """Refuses what the network cannot be built for.

    Args:
        num_classes: logits asked for.
        image_size: height and width asked for, px.
        smallest: least height and width that leaves a map to look at, px.
        multiple_of: side of a patch, px, where the network cuts the image into patches.

    Raises:
        UsageError: no class at all, or an image size that does not fit.
    """
    if num_classes < 1:
        raise UsageError(
            f"num_classes is {num_classes}; expected at least 1 (one logit, for a sigmoid)"
        )
    if image_size < smallest:
        raise UsageError(
            f"image_size is {image_size} px; this network needs at least {smallest} px, "
            "so that anything is left after its strides"
        )
    if image_size % multiple_of:
        raise UsageError(
            f"image_size is {image_size} px; this network cuts the image into patches of "
            f"{multiple_of} px, so take a multiple, such as "
            f"{image_size // multiple_of * multiple_of}"
        )
