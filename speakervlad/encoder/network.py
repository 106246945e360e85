"""A trained encoder taken apart: the network that runtimes compute, and what is around it."""

import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from speakervlad.encoder.frames import Ends, Projection
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.precision import at_least_float32
from speakervlad.models.trunk import Trunk


class Network(nn.Module):
    """Padded spectrograms to descriptors and pooling weights: what is exported.

    A copy in evaluation mode.

    Args:
        encoder: is not changed.
        fold: fold batch norms into the convolutions before them.
    """

    def __init__(self, encoder: SpeakerEncoder, *, fold: bool = True) -> None:
        super().__init__()
        trunk = _Convolve(encoder.trunk).eval()
        self.trunk = fuse(trunk) if fold else copy.deepcopy(trunk)
        self.descriptors = copy.deepcopy(encoder.descriptors)
        self.pooling = copy.deepcopy(encoder.pooling)
        self.eval().requires_grad_(False)

    def forward(self, spectrogram: Tensor) -> tuple[Tensor, Tensor | None]:
        feature_map = self.trunk(spectrogram)
        frames = self.descriptors(feature_map)
        guide = feature_map.flatten(1, 2) if self.pooling.guided else None
        guide = None if guide is None else at_least_float32(guide)
        weights = self.pooling.weights(at_least_float32(frames), guide)
        return self.pooling.moments_of(frames, guide), weights

    def in_precision(self, dtype: torch.dtype) -> Self:
        """The trunk and descriptors in another type, channels last; the weights in float32."""
        for part in (self.trunk, self.descriptors):
            part.to(dtype=dtype).to(memory_format=torch.channels_last)  # pyright: ignore
        return self


class _Convolve(nn.Module):
    """A trunk as a function of padded spectrograms, for ``torch.fx``."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, spectrogram: Tensor) -> Tensor:
        return self.trunk.convolve(spectrogram)


def ends_of(encoder: SpeakerEncoder) -> Ends:
    """What is around the network of an encoder, for numpy."""
    front_end, projection = encoder.front_end.spec, encoder.projection
    linear, norm = projection.linear, projection.norm
    mean, scale = torch.zeros(projection.dim), torch.ones(projection.dim)
    if isinstance(norm, nn.BatchNorm1d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, scale = norm.running_mean, (norm.running_var + norm.eps).rsqrt()
    return Ends(
        front_end,
        encoder.trunk.frame_stride,
        None if encoder.pooling.whole or front_end.whole else encoder.trunk.frame_context,
        encoder.trunk.stem_padding,
        encoder.pooling.finish(),
        Projection(
            _array(linear.weight), _array(linear.bias), projection.relu, _array(mean), _array(scale)
        ),
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy().copy()
