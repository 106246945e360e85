"""CAM++: a densely connected time delay network whose layers are masked by their context.

Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware
Masking", Interspeech 2023.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from speakervlad.models.resnets import BasicBlock
from speakervlad.models.trunk import FeatureMap, Spectrograms, Trunk, Width, scaled
from speakervlad.schema import Fraction, Range

# Output frames of a segment: a mask knows the mean of its segment and that of the recording.
SEGMENT = 100

LayerCount = Annotated[int, Range(at_least=1, at_most=256)]
Sequences = Float[Tensor, "batch channel frame"]


class MaskedDenseLayer(nn.Module):
    """Append to the input a convolution of it, scaled by a mask.

    ``h`` is the input through a bottleneck of four times the growth, ``e_s`` its mean over segment
    s, ``e`` that over the recording: ``conv(h) * sigmoid(W_2 relu(W_1 (e + e_s) + b_1) + b_2)``.
    """

    def __init__(self, in_channels: int, growth: int, dilation: int, momentum: float) -> None:
        super().__init__()
        hidden = 4 * growth
        self.reduce = nn.Sequential(
            _before(in_channels, momentum),
            nn.Conv1d(in_channels, hidden, 1, bias=False),
            _before(hidden, momentum),
        )
        self.conv = nn.Conv1d(hidden, growth, 3, padding=dilation, dilation=dilation, bias=False)
        self.mask = nn.Sequential(
            nn.Conv1d(hidden, hidden // 2, 1),
            nn.ReLU(),
            nn.Conv1d(hidden // 2, growth, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Sequences) -> Float[Tensor, "batch more_channels frame"]:
        hidden = self.reduce(x)
        masks = self.mask(hidden.mean(dim=2, keepdim=True) + segment_means(hidden))
        return torch.cat([x, self.conv(hidden) * masks[:, :, segment_numbers(hidden)]], dim=1)


def segment_means(x: Sequences) -> Float[Tensor, "batch channel segment"]:
    """Means over segments; the last may be shorter."""
    # Zeros for the longest rest there can be: padding must not depend on the length.
    sums, counts = (
        F.avg_pool1d(F.pad(part, (0, SEGMENT - 1)), SEGMENT)
        for part in (x, torch.ones_like(x[:1, :1]))
    )
    return sums / counts


def segment_numbers(x: Sequences) -> Int[Tensor, " frame"]:
    """The segment that each frame belongs to."""
    counted = torch.ones_like(x[0, 0], dtype=torch.int64).cumsum(dim=0)
    return (counted - 1) // SEGMENT


class CAMPPlus(Trunk):
    """Residual blocks over time and frequency, then dense blocks over time at half its resolution.

    With its defaults the network of the paper.

    Args:
        num_bins: rows of the spectrogram.
        layers: dense layers of every block; their dilation is 1 in the first and 2 in the others.
        width: multiplies the number of channels of every layer, see ``scaled``.
        batch_norm_momentum: weight of the newest batch in the running statistics.
    """

    num_rows = 1
    frame_stride = 2
    frame_context = None

    def __init__(
        self,
        num_bins: int = 80,
        *,
        layers: tuple[LayerCount, ...] = (12, 24, 16),
        width: Width = 1.0,
        batch_norm_momentum: Fraction = 0.01,
    ) -> None:
        super().__init__()
        momentum, growth = batch_norm_momentum, scaled(32, width)
        strides = ((2, 1), 1, (2, 1), 1)
        self.front = nn.Sequential(
            nn.Conv2d(1, growth, 3, 1, 1, bias=False),
            nn.BatchNorm2d(growth, momentum=momentum),
            nn.ReLU(),
            *(BasicBlock(growth, growth, stride, momentum) for stride in strides),
            nn.Conv2d(growth, growth, 3, (2, 1), 1, bias=False),
            nn.BatchNorm2d(growth, momentum=momentum),
            nn.ReLU(),
        )
        channels = scaled(128, width)
        self.halve = nn.Conv1d(-(-num_bins // 8) * growth, channels, 5, 2, 2, bias=False)
        self.halve_norm = _before(channels, momentum)
        self.dense = nn.Sequential()
        for block, num_layers in enumerate(layers):
            for _ in range(num_layers):
                dilation = 1 if block == 0 else 2
                self.dense.append(MaskedDenseLayer(channels, growth, dilation, momentum))
                channels += growth
            self.dense.append(_before(channels, momentum))
            self.dense.append(nn.Conv1d(channels, channels // 2, 1, bias=False))
            channels //= 2
        self.last_norm = _before(channels, momentum)
        self.channels = channels

    def convolve(self, spectrograms: Spectrograms) -> FeatureMap:
        rows = self.front(spectrograms.unsqueeze(1))
        frames = self.halve_norm(self.halve(rows.flatten(1, 2)))
        return self.last_norm(self.dense(frames)).unsqueeze(2)


def _before(channels: int, momentum: float) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(channels, momentum=momentum), nn.ReLU())
