"""What all trunks have in common: spectrograms in, feature maps out."""

from torch import nn


class Trunk(nn.Module):
    """A convolutional network ``(batch, freq, time) -> (batch, channel, row, frame)``.

    A subclass takes ``num_bins`` (rows of the spectrogram), ``width`` (multiplies every channel
    count, see ``scaled``) and ``batch_norm_momentum`` (weight of the newest batch in the running
    statistics).

    Attributes:
        channels: channels of the feature map.
        num_rows: frequency rows of the feature map.
        frame_stride: spectrogram frames per frame of the feature map.
        frame_context: spectrogram frames that one of its frames sees on either side.
    """

    channels: int
    num_rows: int
    frame_stride: int
    frame_context: int


def scaled(channels: int, width: float) -> int:
    """Channels of a wider or narrower layer: a multiple of 8, at least 8, unless width is 1."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)
