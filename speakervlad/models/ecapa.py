"""ECAPA-TDNN: a trunk of one-dimensional convolutions whose frames see the whole recording.

Desplanques et al., "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in TDNN
Based Speaker Verification", Interspeech 2020. Its pooling is ``AttentiveStatisticsPooling``.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.trunk import FeatureMap, Spectrograms, Trunk
from speakervlad.schema import Fraction, Range, Size

# Groups of channels of a Res2Net convolution, and the dilations of the blocks.
SCALE = 8
DILATIONS = (2, 3, 4)

Sequences = Float[Tensor, "batch channel frame"]
# What a convolution sees beyond the ends of a recording.
Padding = Literal["zeros", "reflect"]


class Res2Convolution(nn.Module):
    """Convolutions of groups of channels, each of which sees the result of the one before.

    ``y_1 = x_1``, ``y_2 = K_2(x_2)``, ``y_i = K_i(x_i + y_(i-1))``: Gao et al., "Res2Net", 2019,
    equation 1.
    """

    def __init__(
        self, channels: int, dilation: int, momentum: float, padding: Padding = "zeros"
    ) -> None:
        super().__init__()
        size = channels // SCALE
        self.layers = nn.ModuleList(
            _layer(size, size, 3, dilation, momentum=momentum, padding=padding)
            for _ in range(SCALE - 1)
        )

    def forward(self, x: Sequences) -> Sequences:
        groups = x.chunk(SCALE, dim=1)
        outputs = [groups[0], self.layers[0](groups[1])]
        for group, layer in enumerate(self.layers[1:], 2):
            outputs.append(layer(groups[group] + outputs[-1]))
        return torch.cat(outputs, dim=1)


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate that sees the means of all channels over the recording.

    ``s = sigmoid(W_2 relu(W_1 mean(x) + b_1) + b_2)``: equations 5 and 6 of the paper.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv1d(channels, hidden, 1)
        self.expand = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Sequences) -> Sequences:
        means = x.mean(dim=2, keepdim=True)
        return x * self.expand(F.relu(self.reduce(means))).sigmoid()


class SERes2Block(nn.Module):
    """Two dense layers around a Res2Net convolution, squeeze-excitation, and a shortcut."""

    def __init__(
        self, channels: int, dilation: int, hidden: int, momentum: float, padding: Padding = "zeros"
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(channels, channels, momentum=momentum),
            Res2Convolution(channels, dilation, momentum, padding),
            _layer(channels, channels, momentum=momentum),
            SqueezeExcitation(channels, hidden),
        )

    def forward(self, x: Sequences) -> Sequences:
        return x + self.body(x)


class ECAPATDNN(Trunk):
    """A convolution of five frames and three blocks, aggregated; frames at the full resolution.

    A last dense layer sees the outputs of all blocks.

    Args:
        num_bins: rows of the spectrogram.
        channels: channels of the convolution and the blocks; 512 or 1024 in the paper.
        out_channels: channels of the last layer.
        squeeze_dim: size of the hidden layer of squeeze-excitation.
        batch_norm_momentum: weight of the newest batch in the running statistics.
        summed: a block sees the sum of what all layers before it give (section 3.3 of the paper);
            else, as in SpeechBrain, what the one before it gives.
        last_norm: a batch norm behind the last layer.
        padding: see ``Padding``.
    """

    num_rows = 1
    frame_stride = 1
    frame_context = None

    def __init__(
        self,
        num_bins: int = 80,
        *,
        channels: Annotated[int, Range(at_least=8, at_most=65_536, multiple_of=SCALE)] = 512,
        out_channels: Size = 1536,
        squeeze_dim: Size = 128,
        batch_norm_momentum: Fraction = 0.01,
        summed: bool = True,
        last_norm: bool = False,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        momentum = batch_norm_momentum
        self.summed = summed
        if padding == "reflect":
            # A reflection is shorter than what is reflected.
            self.least_frames = max(DILATIONS) + 1
        self.stem = _layer(num_bins, channels, 5, momentum=momentum, padding=padding)
        self.blocks = nn.ModuleList(
            SERes2Block(channels, dilation, squeeze_dim, momentum, padding)
            for dilation in DILATIONS
        )
        self.last_norm = nn.BatchNorm1d(out_channels, momentum=momentum) if last_norm else None
        self.aggregate = nn.Conv1d(len(DILATIONS) * channels, out_channels, 1)
        self.channels = out_channels

    def convolve(self, spectrograms: Spectrograms) -> FeatureMap:
        seen = self.stem(spectrograms)
        outputs = []
        for block in self.blocks:
            outputs.append(block(seen))
            seen = seen + outputs[-1] if self.summed else outputs[-1]
        frames = F.relu(self.aggregate(torch.cat(outputs, dim=1)))
        return (frames if self.last_norm is None else self.last_norm(frames)).unsqueeze(2)


def _layer(
    in_channels: int,
    out: int,
    kernel: int = 1,
    dilation: int = 1,
    *,
    momentum: float,
    padding: Padding = "zeros",
) -> nn.Sequential:
    reach = kernel // 2 * dilation
    return nn.Sequential(
        nn.Conv1d(in_channels, out, kernel, padding=reach, dilation=dilation, padding_mode=padding),
        nn.ReLU(),
        nn.BatchNorm1d(out, momentum=momentum),
    )
