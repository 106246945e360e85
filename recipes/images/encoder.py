"""The small network of the recipe: two layers that stay, a last one that learns, a pooling."""

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Size of a descriptor.
DIM = 64


class Encoder(nn.Module):
    """Two layers that stay as they were pretrained, the last one, and a pooling."""

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, 2, 1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        self.last = nn.Conv2d(48, DIM, 3, 1, 1)
        self.pooling = pooling

    def descriptors(self, maps: Tensor) -> Tensor:
        """Maps of the first layers (batch, 48, 8, 8) to unit descriptors (batch, 64, 8, 8)."""
        return F.normalize(self.last(maps), dim=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the first layers to unit vectors (batch, out)."""
        return F.normalize(self.pooling(self.descriptors(maps)))

    def with_pooling(self, pooling: nn.Module) -> "Encoder":
        """A copy of the convolutions under another pooling."""
        other = copy.deepcopy(self)
        other.pooling = pooling
        return other

    @torch.no_grad()
    def describe(self, images: Tensor) -> np.ndarray:
        """Images (batch, 3, 64, 64) to unit vectors."""
        return torch.cat([self(self.first(part)) for part in images.split(256)]).numpy()

    @torch.no_grad()
    def frames(self, images: Tensor) -> Tensor:
        """All descriptors of some images, (count, 64)."""
        return self.descriptors(self.first(images)).flatten(2).mT.flatten(0, 1)


Describe = Callable[[Tensor], np.ndarray]
