"""A classifier plugin that tests can predict: a type for each colour of the picture's middle."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Colour(nn.Module):
    """Logits grow with the lead of red, green or blue (in this order) over the other two."""

    input_size = (32, 32)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    interpolation = "bilinear"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(3, num_classes, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(15 * (3 * torch.eye(num_classes, 3) - 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of the inner quarter of the images (N, 3, 32, 32)."""
        logits: Tensor = self.last(images[:, :, 8:24, 8:24].mean(dim=(2, 3)))
        return logits


def build_classifier(num_classes: int) -> nn.Module:
    """Offers of the plugin folder."""
    return Colour(num_classes)
