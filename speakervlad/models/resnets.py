"""Two-dimensional residual networks: bottlenecks as in the GhostVLAD release, and basic blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.frontend import same_padding
from speakervlad.models.trunk import FeatureMap, Spectrograms, Trunk, Width, scaled
from speakervlad.schema import Fraction


@dataclass(frozen=True)
class Stage:
    """A row of bottleneck blocks: 1x1 ``inner[0]``, 3x3 ``inner[1]``, 1x1 ``out``."""

    inner: tuple[int, int]
    out: int
    num_blocks: int
    stride: int


THIN_STAGES = (
    Stage((48, 48), 96, 2, 1),
    Stage((96, 96), 128, 3, 2),
    Stage((128, 128), 256, 3, 2),
    Stage((256, 256), 512, 3, 2),
)
WIDE_STAGES = (
    Stage((64, 64), 256, 3, 1),
    Stage((128, 128), 512, 3, 2),
    Stage((256, 256), 1024, 3, 1),
    Stage((512, 512), 2048, 3, 2),
)


class Bottleneck(nn.Module):
    """ResNet v1 bottleneck with the stride on the first 1x1 convolution (not on the 3x3).

    With ``project`` the shortcut is a strided 1x1 convolution, else the input itself.
    """

    def __init__(
        self,
        in_channels: int,
        inner: tuple[int, int],
        out: int,
        stride: int = 1,
        *,
        project: bool = False,
        momentum: float,
    ) -> None:
        super().__init__()
        self.reduce = _convolution(in_channels, inner[0], 1, stride)
        self.reduce_norm = _norm(inner[0], momentum)
        self.conv = _convolution(inner[0], inner[1], 3)
        self.conv_norm = _norm(inner[1], momentum)
        self.increase = _convolution(inner[1], out, 1)
        self.increase_norm = _norm(out, momentum)
        self.shortcut = nn.Sequential()
        if project:
            self.shortcut.append(_convolution(in_channels, out, 1, stride))
            self.shortcut.append(_norm(out, momentum))

    def forward(self, x: Float[Tensor, "b c f t"]) -> Float[Tensor, "b d g s"]:
        y = F.relu(self.reduce_norm(self.reduce(x)))
        y = F.relu(self.conv_norm(self.conv(y)))
        return F.relu(self.increase_norm(self.increase(y)) + self.shortcut(x))


class BottleneckResNet(Trunk):
    """Stem, max-pooling and stages of bottlenecks, then max-pooling over frequency.

    With its defaults the "thin ResNet-34" of Xie et al. (2019): 3.7 million parameters, 1/16 time
    resolution.

    Args:
        num_bins: rows of the spectrogram.
        stages: the literal architecture.
        stem_stride: stride of the 7x7 stem, with the padding that Keras calls "same".
        stem_pool: whether 2x2 max-pooling follows the stem.
        width: multiplies the number of channels of every layer, see ``scaled``.
        batch_norm_momentum: weight of the newest batch in the running statistics.

    Raises:
        ValueError: fewer than 3 rows are left for the last pooling.
    """

    def __init__(
        self,
        num_bins: int = 257,
        *,
        stages: Sequence[Stage] = THIN_STAGES,
        stem_stride: int = 1,
        stem_pool: bool = True,
        width: Width = 1.0,
        batch_norm_momentum: Fraction = 0.01,
    ) -> None:
        super().__init__()
        momentum = batch_norm_momentum
        channels = scaled(64, width)
        self.stem_stride = stem_stride
        self.stem_pool = stem_pool
        self.stem = nn.Conv2d(1, channels, 7, stem_stride, bias=False)
        self.stem_padding = (7, stem_stride)
        self.row_padding = same_padding(num_bins, 7, stem_stride)
        self.stem_norm = _norm(channels, momentum)
        self.stages = nn.Sequential()
        for stage in stages:
            inner = (scaled(stage.inner[0], width), scaled(stage.inner[1], width))
            out = scaled(stage.out, width)
            self.stages.append(_build_stage(channels, inner, out, stage, momentum))
            channels = out
        self.channels = channels
        self.num_rows = self._rows(num_bins, stages)
        self.frame_stride, self.frame_context = _reach(stages, stem_stride, stem_pool)

    def convolve(self, spectrograms: Spectrograms) -> FeatureMap:
        x = F.pad(spectrograms.unsqueeze(1), (0, 0, *self.row_padding))
        x = F.relu(self.stem_norm(self.stem(x)))
        x = self.stages(F.max_pool2d(x, 2) if self.stem_pool else x)
        return F.max_pool2d(x, (3, 1), stride=(2, 1))

    def _rows(self, num_bins: int, stages: Sequence[Stage]) -> int:
        rows = -(-num_bins // self.stem_stride) // (2 if self.stem_pool else 1)
        for stage in stages:
            rows = -(-rows // stage.stride)
        if rows < 3:
            raise ValueError(f"{num_bins} frequency bins are too few: use at least 40.")
        return (rows - 3) // 2 + 1


# Channels, blocks and stride of the stages; He et al. 2016 at a quarter and a half of the width.
BASIC_STAGES = ((32, 3, 1), (64, 4, 2), (128, 6, 2), (256, 3, 2))


class BasicBlock(nn.Module):
    """ResNet v1 basic block: two 3x3 convolutions, the stride on the first.

    Where the shape changes the shortcut is a strided 1x1 convolution, else the input itself. A pair
    of strides is that of rows and of frames.
    """

    def __init__(
        self, in_channels: int, out: int, stride: int | tuple[int, int], momentum: float
    ) -> None:
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
    """3x3 stem and four stages of basic blocks, 1/8 of the time resolution.

    Args:
        num_bins: rows of the spectrogram.
        width: multiplies the number of channels of every layer, see ``scaled``.
        batch_norm_momentum: weight of the newest batch in the running statistics.
    """

    def __init__(
        self, num_bins: int = 80, *, width: Width = 1.0, batch_norm_momentum: Fraction = 0.01
    ) -> None:
        super().__init__()
        channels = scaled(BASIC_STAGES[0][0], width)
        self.stem = nn.Conv2d(1, channels, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels, momentum=batch_norm_momentum)
        self.stages = nn.Sequential()
        self.num_rows, self.frame_stride, self.frame_context = num_bins, 1, 1
        for stage_channels, num_blocks, first_stride in BASIC_STAGES:
            out = scaled(stage_channels, width)
            for stride in (first_stride, *[1] * (num_blocks - 1)):
                self.stages.append(BasicBlock(channels, out, stride, batch_norm_momentum))
                self.frame_context += self.frame_stride * (1 + stride)
                self.frame_stride *= stride
                self.num_rows = -(-self.num_rows // stride)
                channels = out
        self.channels = channels

    def convolve(self, spectrograms: Spectrograms) -> FeatureMap:
        return self.stages(F.relu(self.stem_norm(self.stem(spectrograms.unsqueeze(1)))))


def _build_stage(
    in_channels: int, inner: tuple[int, int], out: int, stage: Stage, momentum: float
) -> nn.Sequential:
    first = Bottleneck(in_channels, inner, out, stage.stride, project=True, momentum=momentum)
    rest = [Bottleneck(out, inner, out, momentum=momentum) for _ in range(stage.num_blocks - 1)]
    return nn.Sequential(first, *rest)


def _reach(stages: Sequence[Stage], stem_stride: int, stem_pool: bool) -> tuple[int, int]:
    """Step and one-sided reach in frames: 3 of the stem, 1 of its pooling, 1 of every 3x3."""
    stride, reach = (2 * stem_stride, 3 + stem_stride) if stem_pool else (stem_stride, 3)
    for stage in stages:
        stride *= stage.stride
        reach += stage.num_blocks * stride
    return stride, reach


def _convolution(in_channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out, kernel, stride, kernel // 2, bias=False)


def _norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    # Keras's epsilon: torch's 1e-5 moves the published embeddings by 3.7 %.
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=momentum)
