"""The thin ResNet-34 and its kin: bottlenecks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.standard_resnet import StandardResNet34
from speakervlad.models.trunk import Trunk, scaled


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

    Args:
        num_bins, width, batch_norm_momentum: as of every ``Trunk``.
        stages: the literal architecture.
        stem_stride: stride of the 7x7 stem, with the padding that Keras calls "same".
        stem_pool: whether 2x2 max-pooling follows the stem.
    """

    def __init__(
        self,
        num_bins: int,
        stages: Sequence[Stage],
        *,
        stem_stride: int = 1,
        stem_pool: bool = True,
        width: float = 1.0,
        batch_norm_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        momentum = batch_norm_momentum
        channels = scaled(64, width)
        self.stem_stride = stem_stride
        self.stem_pool = stem_pool
        self.stem = nn.Conv2d(1, channels, 7, stem_stride, bias=False)
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

    def forward(
        self, spectrogram: Float[Tensor, "batch freq time"]
    ) -> Float[Tensor, "batch channel row frame"]:
        x = _pad_same(spectrogram.unsqueeze(1), self.stem.kernel_size[0], self.stem_stride)
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


class ThinResNet34(BottleneckResNet):
    """The "thin ResNet-34" of Xie et al. (2019): 3.7 million parameters, 1/16 time resolution."""

    def __init__(
        self, num_bins: int = 257, *, width: float = 1.0, batch_norm_momentum: float = 0.01
    ) -> None:
        super().__init__(
            num_bins, THIN_STAGES, width=width, batch_norm_momentum=batch_norm_momentum
        )


class StridedThinResNet34(BottleneckResNet):
    """The thin ResNet-34 with a strided stem in place of the max-pooling after it.

    The same resolutions everywhere else; the stem and what follows it at full resolution, a third
    of a training step on CPUs, cost a quarter.
    """

    def __init__(
        self, num_bins: int = 64, *, width: float = 1.0, batch_norm_momentum: float = 0.01
    ) -> None:
        super().__init__(
            num_bins,
            THIN_STAGES,
            stem_stride=2,
            stem_pool=False,
            width=width,
            batch_norm_momentum=batch_norm_momentum,
        )


class WideResNet34(BottleneckResNet):
    """The release's "resnet34l": strided stem, 2048 output channels, stage 4 unstrided."""

    def __init__(
        self, num_bins: int = 257, *, width: float = 1.0, batch_norm_momentum: float = 0.01
    ) -> None:
        super().__init__(
            num_bins,
            WIDE_STAGES,
            stem_stride=2,
            width=width,
            batch_norm_momentum=batch_norm_momentum,
        )


TRUNKS = {
    "thin_resnet34": ThinResNet34,
    "strided_thin_resnet34": StridedThinResNet34,
    "wide_resnet34": WideResNet34,
    "standard_resnet34": StandardResNet34,
}


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


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad so that the output has ceil(n / stride) rows and columns; the odd one goes to the end."""
    padding = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)
