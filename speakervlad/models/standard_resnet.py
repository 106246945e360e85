"""The ResNet-34 of most speaker recognition recipes: basic blocks, no max-pooling."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.trunk import Trunk, scaled

# Channels, blocks and stride of the stages; He et al. 2016 at a quarter and a half of the width.
STAGES = ((32, 3, 1), (64, 4, 2), (128, 6, 2), (256, 3, 2))


class BasicBlock(nn.Module):
    """ResNet v1 basic block: two 3x3 convolutions, the stride on the first.

    Where the shape changes the shortcut is a strided 1x1 convolution, else the input itself.
    """

    def __init__(self, in_channels: int, out: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out, momentum=momentum)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out, momentum=momentum)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out:
            self.shortcut.append(nn.Conv2d(in_channels, out, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out, momentum=momentum))

    def forward(self, x: Float[Tensor, "b c f t"]) -> Float[Tensor, "b d g s"]:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class StandardResNet34(Trunk):
    """3x3 stem and four stages of basic blocks, 1/8 of the time resolution."""

    def __init__(
        self, num_bins: int = 80, *, width: float = 1.0, batch_norm_momentum: float = 0.1
    ) -> None:
        super().__init__()
        channels = scaled(STAGES[0][0], width)
        self.stem = nn.Conv2d(1, channels, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels, momentum=batch_norm_momentum)
        self.stages = nn.Sequential()
        self.num_rows, self.frame_stride, self.frame_context = num_bins, 1, 1
        for stage_channels, num_blocks, first_stride in STAGES:
            out = scaled(stage_channels, width)
            for stride in (first_stride, *[1] * (num_blocks - 1)):
                self.stages.append(BasicBlock(channels, out, stride, batch_norm_momentum))
                self.frame_context += self.frame_stride * (1 + stride)
                self.frame_stride *= stride
                self.num_rows = -(-self.num_rows // stride)
                channels = out
        self.channels = channels

    def forward(
        self, spectrogram: Float[Tensor, "batch freq time"]
    ) -> Float[Tensor, "batch channel row frame"]:
        return self.stages(F.relu(self.stem_norm(self.stem(spectrogram.unsqueeze(1)))))
