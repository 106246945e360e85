"""What every trunk is: spectrograms in, feature maps out. The table is in ``trunks.py``."""

from typing import Annotated

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.errors import InputError
from speakervlad.models.frontend import same_padding
from speakervlad.schema import Range

Spectrograms = Float[Tensor, "batch freq time"]
FeatureMap = Float[Tensor, "batch channel row frame"]
Width = Annotated[float, Range(at_least=0.01, at_most=16)]


class Trunk(nn.Module):
    """A network ``(batch, freq, time) -> (batch, channel, row, frame)``.

    A subclass takes ``num_bins`` (rows of the spectrogram) and its options by keyword; it gives
    ``convolve`` and the attributes below. ``convolve`` must not depend on whether a length is odd:
    an exporter would keep what holds for the length it has seen.

    Attributes:
        channels: channels of the feature map.
        num_rows: frequency rows of the feature map.
        frame_stride: spectrogram frames per frame of the feature map.
        frame_context: spectrogram frames that one of its frames sees on either side; None where
            every frame sees the whole recording.
        least_frames: spectrogram frames that it needs; shorter recordings are repeated.
        stem_padding: kernel and stride of a first layer with "same" padding along time, which
            ``pad_time`` adds; (1, 1) for none.
    """

    channels: int
    num_rows: int
    frame_stride: int
    frame_context: int | None
    least_frames: int = 4
    stem_padding: tuple[int, int] = (1, 1)

    def forward(self, spectrograms: Spectrograms) -> FeatureMap:
        return self.convolve(self.pad_time(spectrograms))

    def first_stages(self, count: int) -> list[nn.Module]:
        """The stem and the first ``count`` members of ``stages``; nothing for a count of 0.

        Raises:
            InputError: the trunk has no such parts, or not so many.
        """
        parts = dict(self.named_children())
        stages = list(parts["stages"].children()) if "stages" in parts else []
        if count > len(stages):
            raise InputError(f"train.frozen_stages={count}: this trunk has {len(stages)} stages.")
        return [parts["stem"], parts["stem_norm"], *stages[:count]] if count else []

    def pad_time(self, spectrograms: Spectrograms) -> Float[Tensor, "batch freq longer"]:
        """Zeros before and after that ``convolve`` expects."""
        return F.pad(spectrograms, same_padding(spectrograms.shape[-1], *self.stem_padding))

    def convolve(self, spectrograms: Spectrograms) -> FeatureMap:
        """The feature map of padded spectrograms."""
        raise NotImplementedError


def scaled(channels: int, width: float) -> int:
    """Channels of a wider or narrower layer: a multiple of 8, at least 8, unless width is 1."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)
