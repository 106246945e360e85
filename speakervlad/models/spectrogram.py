"""Front ends in torch: waveforms in, normalised spectrograms out, on the device, in the module."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.frontend import NORM_EPSILON, FrontEnd
from speakervlad.models.precision import at_least_float32

Features = Float[Tensor, "batch freq time"]
Waveforms = Float[Tensor, "batch samples"]


class Spectrogram(nn.Module):
    """What ``FrontEnd`` describes, for batches of waveforms.

    Training crops carry their own context: in training mode frames are not centred, so a crop of
    ``crop_samples(n)`` samples yields exactly ``n`` frames of real signal. In evaluation mode the
    signal is reflected by ``n_fft / 2`` at both ends and yields ``1 + samples // hop_length``
    frames, twice as many when mirrored.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.spec = front_end
        self.register_buffer("window", torch.hann_window(front_end.win_length), persistent=False)
        filters = front_end.filters
        self.register_buffer(
            "filters", None if filters is None else torch.from_numpy(filters), persistent=False
        )
        self.window: Tensor
        self.filters: Tensor | None

    def forward(self, waveforms: Waveforms) -> Features:
        with torch.autocast(waveforms.device.type, enabled=False):
            features = self.features(self.extend(at_least_float32(waveforms)))
            return normalise(features, self.spec.normalise)

    def features(self, waveforms: Waveforms) -> Features:
        """The spectrogram of the signal as it is: neither extended nor normalised."""
        spec = self.spec
        magnitudes = torch.stft(
            waveforms,
            spec.n_fft,
            spec.hop_length,
            spec.win_length,
            self.window,
            center=not self.training,
            pad_mode="reflect",
            return_complex=True,
        ).abs()
        if self.filters is None:
            return magnitudes
        powers = self.filters @ magnitudes.square()
        floor = spec.log_floor + spec.relative_floor * powers.mean(dim=1, keepdim=True)
        return torch.log(powers + floor)

    def extend(self, waveforms: Waveforms) -> Float[Tensor, "batch longer"]:
        """Mirror (evaluation only), then repeat what is too short."""
        if self.spec.mirror and not self.training:
            waveforms = torch.cat([waveforms, waveforms.flip(-1)], dim=-1)
        num_samples, shortest = waveforms.shape[-1], self.spec.min_samples
        if num_samples < shortest:
            waveforms = waveforms.repeat(1, math.ceil(shortest / num_samples))[:, :shortest]
        return waveforms


def normalise(features: Features, kind: str) -> Features:
    """Standardise as ``frontend.normalise`` does."""
    if kind == "none":
        return features
    axis = 1 if kind == "frequency" else 2
    centred = features - features.mean(dim=axis, keepdim=True)
    if kind == "time_mean":
        return centred
    return centred / (features.std(dim=axis, keepdim=True, correction=0) + NORM_EPSILON)
