"""Front ends: waveforms in, normalised spectrograms out; run on the device, inside the module."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.precision import at_least_float32

SAMPLE_RATE = 16000
NORM_EPSILON = 1e-5

Spectrogram = Float[Tensor, "batch freq time"]


def standardise_over_frequency(spectrogram: Spectrogram) -> Spectrogram:
    """Zero mean, unit population deviation of every *frame* (as the GhostVLAD release does)."""
    mean = spectrogram.mean(dim=1, keepdim=True)
    deviation = spectrogram.std(dim=1, keepdim=True, correction=0)
    return (spectrogram - mean) / (deviation + NORM_EPSILON)


def standardise_over_time(spectrogram: Spectrogram) -> Spectrogram:
    """Zero mean, unit population deviation of every *bin* over the utterance (CMVN)."""
    mean = spectrogram.mean(dim=2, keepdim=True)
    deviation = spectrogram.std(dim=2, keepdim=True, correction=0)
    return (spectrogram - mean) / (deviation + NORM_EPSILON)


def centre_over_time(spectrogram: Spectrogram) -> Spectrogram:
    """Zero mean of every bin over the utterance: removes a fixed channel from log spectra (CMN)."""
    return spectrogram - spectrogram.mean(dim=2, keepdim=True)


NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "frequency": standardise_over_frequency,
    "time": standardise_over_time,
    "time_mean": centre_over_time,
    "none": lambda spectrogram: spectrogram,
}


class ShortTimeFourier(nn.Module):
    """What all front ends share: framing, windowing, mirroring, repeat-padding.

    Training crops carry their own context: in training mode frames are not centred, so a crop of
    ``crop_samples(n)`` samples yields exactly ``n`` frames of real signal. In evaluation mode the
    signal is reflected by ``n_fft / 2`` at both ends and yields ``1 + samples // hop_length``
    frames, twice as many when mirrored.

    Args:
        n_fft: FFT length in samples; the spectrum has ``n_fft // 2 + 1`` bins.
        win_length: length of the periodic Hann window in samples, centred in ``n_fft``.
        hop_length: step between frames in samples.
        mirror: in evaluation, append the time-reversed signal to itself (the GhostVLAD release).
        min_seconds: shorter signals are repeated until they last this long.
        normalise: a name of ``NORMALISATIONS``.
    """

    def __init__(
        self,
        *,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        mirror: bool = False,
        min_seconds: float = 0.0,
        normalise: str = "frequency",
    ) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.mirror = mirror
        self.min_samples = max(n_fft, round(min_seconds * SAMPLE_RATE))
        self.normalisation = normalise
        self.normalise = NORMALISATIONS[normalise]
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)
        self.window: Tensor

    @property
    def num_bins(self) -> int:
        """Rows of the spectrogram."""
        return self.n_fft // 2 + 1

    def crop_samples(self, num_frames: int) -> int:
        """Samples of a training crop that yields ``num_frames`` frames."""
        return (num_frames - 1) * self.hop_length + self.n_fft

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> Spectrogram:
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.normalise(self.features(self.extend(at_least_float32(waveforms))))

    def features(self, waveforms: Float[Tensor, "batch samples"]) -> Spectrogram:
        """The spectrogram of the signal as it is: neither extended nor normalised."""
        return self.magnitudes(waveforms)

    def magnitudes(self, waveforms: Float[Tensor, "batch samples"]) -> Spectrogram:
        """|STFT|, unscaled: a full-scale sine peaks near ``win_length / 4``."""
        spectrum = torch.stft(
            waveforms,
            self.n_fft,
            self.hop_length,
            self.window.numel(),
            self.window,
            center=not self.training,
            pad_mode="reflect",
            return_complex=True,
        )
        return spectrum.abs()

    def extend(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch longer"]:
        """Mirror (evaluation only), then repeat what is too short."""
        if self.mirror and not self.training:
            waveforms = torch.cat([waveforms, waveforms.flip(-1)], dim=-1)
        num_samples = waveforms.shape[-1]
        if num_samples < self.min_samples:
            waveforms = waveforms.repeat(1, math.ceil(self.min_samples / num_samples))
            waveforms = waveforms[:, : self.min_samples]
        return waveforms


class LinearSpectrogram(ShortTimeFourier):
    """Linear magnitude spectrogram, by default exactly the front end of the GhostVLAD release.

    Xie et al., "Utterance-level aggregation for speaker recognition in the wild", ICASSP 2019:
    257 bins, 25 ms periodic Hann window, 10 ms hop, every frame standardised over frequency.
    """


class LogMelSpectrogram(ShortTimeFourier):
    """Natural logarithm of mel-weighted powers.

    Args:
        num_mels: triangular filters, equally spaced on the HTK mel scale.
        f_min: lower edge of the first filter in Hz.
        f_max: upper edge of the last filter in Hz.
        log_floor: added to every power before the logarithm.
        n_fft: see ``ShortTimeFourier``, as for the arguments below.
        win_length: window length in samples.
        hop_length: step in samples.
        mirror: append the reversed signal in evaluation.
        min_seconds: repeat shorter signals.
        normalise: a name of ``NORMALISATIONS``.
    """

    def __init__(
        self,
        num_mels: int = 80,
        *,
        f_min: float = 20.0,
        f_max: float = 7600.0,
        log_floor: float = 1e-6,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        mirror: bool = False,
        min_seconds: float = 0.0,
        normalise: str = "time_mean",
    ) -> None:
        super().__init__(
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            mirror=mirror,
            min_seconds=min_seconds,
            normalise=normalise,
        )
        self.num_mels = num_mels
        self.log_floor = log_floor
        filters = mel_filters(num_mels, n_fft, f_min, f_max)
        self.register_buffer("filters", filters, persistent=False)
        self.filters: Tensor

    @property
    def num_bins(self) -> int:
        return self.num_mels

    def features(self, waveforms: Float[Tensor, "batch samples"]) -> Spectrogram:
        powers = self.magnitudes(waveforms).square()
        return torch.log(self.filters @ powers + self.log_floor)


def mel_filters(
    num_mels: int, n_fft: int, f_min: float, f_max: float
) -> Float[Tensor, "mels freq"]:
    """Triangles of height 1 on the HTK mel scale, 2595 log10(1 + f / 700).

    Written out because whoever loads an encoder shall need neither torchaudio nor librosa; equal
    to ``librosa.filters.mel(htk=True, norm=None)``.
    """
    top, bottom = (2595 * math.log10(1 + f / 700) for f in (f_max, f_min))
    mels = torch.linspace(bottom, top, num_mels + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = torch.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0).float()


FRONT_ENDS = {"linear": LinearSpectrogram, "log_mel": LogMelSpectrogram}
