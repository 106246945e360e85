"""Front ends: what lies between a waveform and the input of a network; no torch.

``FrontEnd`` is a set of parameters. Inference computes it here, in numpy, for every runtime;
``models/spectrogram.py`` computes the same in torch, inside the module that is trained.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np

from speakervlad.schema import Range, Seconds, Share
from speakervlad.sound import SAMPLE_RATE
from speakervlad.threads import one_blas_thread

NORM_EPSILON = 1e-5
BLOCK_FRAMES = 128
# "frequency": every frame over its bins, as the GhostVLAD release does. "time": every bin over the
# recording (CMVN). "time_mean": its mean alone, which takes a fixed channel out of log spectra.
Normalisation = Literal["frequency", "time", "time_mean", "none"]


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Short-time spectra, by default exactly the front end of the GhostVLAD release.

    Xie et al., "Utterance-level aggregation for speaker recognition in the wild", ICASSP 2019:
    257 linear magnitudes, 25 ms periodic Hann window, 10 ms hop, every frame standardised.

    Args:
        n_fft: FFT length in samples; the spectrum has ``n_fft // 2 + 1`` bins.
        win_length: length of the periodic Hann window in samples, centred in ``n_fft``.
        hop_length: step between frames in samples.
        num_mels: triangular filters over the powers, equally spaced on the HTK mel scale, and the
            natural logarithm of what they pass; 0 leaves linear magnitudes.
        f_min: lower edge of the first filter in Hz.
        f_max: upper edge of the last filter in Hz.
        log_floor: added to every power before the logarithm.
        relative_floor: the same, times the mean power of the frame's bands: what a quiet recording
            keeps of its spectrum does not depend on its level.
        normalise: a ``Normalisation``.
        mirror: in evaluation, append the time-reversed signal to itself (the GhostVLAD release).
        min_seconds: shorter signals are repeated until they last this long.
    """

    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    num_mels: Annotated[int, Range(at_least=1, at_most=512)] = 80
    f_min: float = 20.0
    f_max: float = 7600.0
    log_floor: Annotated[float, Range(above=0, at_most=1)] = 1e-6
    relative_floor: Share = 0.0
    normalise: Normalisation = "frequency"
    mirror: bool = False
    min_seconds: Seconds = 0.0

    @property
    def num_bins(self) -> int:
        """Rows of the spectrogram."""
        return self.num_mels or self.n_fft // 2 + 1

    @property
    def min_samples(self) -> int:
        """Length in samples up to which shorter signals are repeated."""
        return max(self.n_fft, round(self.min_seconds * SAMPLE_RATE))

    def crop_samples(self, num_frames: int) -> int:
        """Samples of a training crop that yields ``num_frames`` frames of real signal."""
        return (num_frames - 1) * self.hop_length + self.n_fft

    @functools.cached_property
    def filters(self) -> np.ndarray | None:
        """Mel filters (mels, bins), float32; None without."""
        if not self.num_mels:
            return None
        return mel_filters(self.num_mels, self.n_fft, self.f_min, self.f_max)

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Spectrogram (bins, 1 + samples // hop_length), float32, not normalised.

        The signal (float32) is reflected by ``n_fft / 2`` at both ends, as torch's ``stft`` does.
        """
        padded = np.pad(samples, self.n_fft // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop_length]
        features = np.empty((self.num_bins, len(frames)), np.float32)
        # Blocks whose intermediate results stay in the processor's cache.
        with one_blas_thread():
            for start in range(0, len(frames), BLOCK_FRAMES):
                part = features[:, start : start + BLOCK_FRAMES]
                self._block(frames[start : start + BLOCK_FRAMES], part)
        return features

    def _block(self, frames: np.ndarray, out: np.ndarray) -> None:
        """The spectrogram (bins, frames) of framed samples (frames, n_fft)."""
        powers = self._powers(frames)
        if not self.num_mels:
            np.sqrt(powers.T, out=out)
            return
        for rows, bins, filters in self._bands:
            out[rows] = filters @ powers[:, bins].T
        floor = np.float32(self.log_floor)
        if self.relative_floor:
            floor = floor + np.float32(self.relative_floor) * out.mean(axis=0)
        out += floor
        np.log(out, out=out)

    def _powers(self, frames: np.ndarray) -> np.ndarray:
        """|STFT|^2 (frames, bins), unscaled: a full-scale sine peaks near ``(win_length / 4)^2``.

        The window is even about its middle, so a transform about the middle is one of cosines over
        the even part of a frame and of sines over its odd part: a quarter of the multiplications
        of the plain transform, and ahead of numpy's FFT at this length.
        """
        middle, reach = self.n_fft // 2, self.win_length // 2
        right = frames[:, middle : middle + reach]
        left = frames[:, middle : middle - reach : -1]
        cosines, sines = self._bases
        real, imaginary = (right + left) @ cosines, (right - left) @ sines
        real *= real
        imaginary *= imaginary
        real += imaginary
        return real

    @functools.cached_property
    def _bases(self) -> tuple[np.ndarray, np.ndarray]:
        """Windowed cosines and sines (win_length / 2, bins); the middle sample counts once.

        With mel filters, of the bins that a filter looks at.
        """
        steps = np.arange(self.win_length // 2)
        window = 0.5 + 0.5 * np.cos(2 * np.pi * steps / self.win_length)
        bins = np.arange(self.n_fft // 2 + 1)[self._seen]
        angles = 2 * np.pi * np.outer(steps, bins) / self.n_fft
        cosines, sines = (wave * window[:, None] for wave in (np.cos(angles), np.sin(angles)))
        cosines[0] /= 2
        return cosines.astype(np.float32), sines.astype(np.float32)

    @functools.cached_property
    def _seen(self) -> slice:
        """Bins that a mel filter looks at; all of them without filters."""
        return slice(None) if self.filters is None else _span(self.filters)

    @functools.cached_property
    def _bands(self) -> list[tuple[slice, slice, np.ndarray]]:
        """A few groups of neighbouring filters: rows, the bins that they look at, their weights."""
        assert self.filters is not None
        filters, bands = self.filters[:, self._seen], []
        for rows in np.array_split(np.arange(self.num_mels), min(4, self.num_mels)):
            bins = _span(filters[rows])
            part = np.ascontiguousarray(filters[rows, bins])
            bands.append((slice(rows[0], rows[-1] + 1), bins, part))
        return bands


def _span(filters: np.ndarray) -> slice:
    """From the first to the last bin that is not zero in all filters."""
    (seen,) = np.nonzero(filters.any(axis=0))
    return slice(int(seen.min(initial=filters.shape[1])), int(seen.max(initial=0)) + 1)


class Statistics(NamedTuple):
    """Of every bin over a whole recording, float32 (bins, 1)."""

    mean: np.ndarray
    deviation: np.ndarray


def normalise(
    features: np.ndarray, kind: Normalisation, statistics: Statistics | None = None
) -> np.ndarray:
    """A spectrogram (bins, frames) as the network takes it.

    Args:
        features: what ``FrontEnd.features`` returns.
        kind: over which axis, and whether by the deviation too.
        statistics: those of the whole recording, where ``features`` are a part of it.
    """
    if kind == "none":
        return features
    if statistics is None:
        axis = 0 if kind == "frequency" else 1
        mean = features.mean(axis=axis, keepdims=True)
        deviation = features.std(axis=axis, keepdims=True) if kind != "time_mean" else mean
        statistics = Statistics(mean, deviation)
    centred = features - statistics.mean
    return centred if kind == "time_mean" else centred / (statistics.deviation + NORM_EPSILON)


def mel_filters(num_mels: int, n_fft: int, f_min: float, f_max: float) -> np.ndarray:
    """Triangles of height 1 on the HTK mel scale, 2595 log10(1 + f / 700): float32 (mels, bins).

    Written out because whoever loads an encoder shall need neither torchaudio nor librosa; equal
    to ``librosa.filters.mel(htk=True, norm=None)``.
    """
    top, bottom = (2595 * math.log10(1 + f / 700) for f in (f_max, f_min))
    edges = 700 * (10 ** (np.linspace(bottom, top, num_mels + 2) / 2595) - 1)
    bins = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.minimum(rising, falling).clip(min=0).astype(np.float32)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, for ceil(size / stride) outputs; the odd one goes to the end.

    What Keras calls "same". With a stride it depends on ``size``: a network's exporter would keep
    that of the length that it has seen, so along time it is applied before the exported graph.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


_FRAMES = {"n_fft": 512, "win_length": 400, "hop_length": 160}
FRONT_ENDS: dict[str, Callable[..., FrontEnd]] = {
    "linear": functools.partial(
        FrontEnd, **_FRAMES, num_mels=0, f_min=0.0, f_max=0.0, log_floor=1.0, relative_floor=0.0
    ),
    "log_mel": functools.partial(FrontEnd, **_FRAMES, f_min=20.0, f_max=7600.0),
}
