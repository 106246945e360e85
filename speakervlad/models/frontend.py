"""Front ends: what lies between a waveform and the input of a network; no torch.

``FrontEnd`` is a set of parameters. Framing is a matter of the framework; from there on numpy
arrays (inference, for every runtime) and torch tensors (``models/spectrogram.py``, inside the
module that is trained) go through the same functions: ``spectra``, ``FrontEnd.compress``,
``FrontEnd.limit`` and ``normalise``.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from speakervlad.schema import Fraction, NonNegative, Range, Seconds
from speakervlad.sound import SAMPLE_RATE
from speakervlad.threads import one_blas_thread

NORM_EPSILON = 1e-5
# Frames of one matrix product, whose results stay in the processor's cache. Fewer are padded with
# zeros, because the last bits of a row depend on the size of the product.
BLOCK_FRAMES = 128
# Kaldi's samples are of 16 bits; the machine epsilon of float32 keeps its logarithms finite.
KALDI_SCALE = 32768.0
KALDI_FLOOR = 2.0**-23
# The step of 24-bit samples: nothing is amplified that is below it.
LEAST_PEAK = 2.0**-23

Normalisation = Literal["frequency", "time", "time_mean", "none"]
# "reflect", "zeros": frames are centred, and what is missing at the ends of a signal is its mirror
# image or zeros. "cut": only frames that lie in the signal ("snip edges" in Kaldi).
Edges = Literal["reflect", "zeros", "cut"]
# Far beyond any use, and low enough that matrices of these sizes fill no memory.
FrameSize = Annotated[int, Range(at_least=16, at_most=4096)]
MelCount = Annotated[int, Range(at_least=1, at_most=512)]
Hertz = Annotated[float, Range(at_least=0, at_most=SAMPLE_RATE / 2)]
Floor = Annotated[float, Range(above=0, at_most=1)]
# A numpy array or a torch tensor; torch itself need not be installed.
Array = Any

# Of the phase, which goes from 0 to 2 pi over a window.
WINDOWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hann": lambda phase: 0.5 - 0.5 * np.cos(phase),
    "hamming": lambda phase: 0.54 - 0.46 * np.cos(phase),
    # Kaldi's: like Hamming's, but zero at the ends.
    "povey": lambda phase: (0.5 - 0.5 * np.cos(phase)) ** 0.85,
}


class Framing(NamedTuple):
    """Where frames lie in a signal.

    Attributes:
        hop: samples from one frame to the next.
        span: samples that the first frame needs; 0 where it is centred on the first sample.
    """

    hop: int
    span: int

    def num_frames(self, num_samples: int) -> int:
        """Frames of so many samples."""
        return 1 + (num_samples - self.span) // self.hop

    def num_samples(self, num_frames: int) -> int:
        """The fewest samples that give so many frames."""
        return (num_frames - 1) * self.hop + self.span

    def time_of(self, frame: Array) -> Array:
        """The middle of a frame of this number, in seconds."""
        return (frame * self.hop + self.span / 2) / SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Short-time spectra of samples at 16 kHz; by default, logarithms of 80 mel bands.

    The frames are those of the GhostVLAD release (Xie et al., "Utterance-level aggregation for
    speaker recognition in the wild", ICASSP 2019): 25 ms periodic Hann window, 10 ms hop, every
    frame standardised. ``linear`` has its 257 linear magnitudes, too.

    Args:
        n_fft: FFT length in samples; the spectrum has ``n_fft // 2 + 1`` bins.
        win_length: length of the window in samples, centred in ``n_fft``.
        hop_length: step between frames in samples.
        window: its shape: ``hann``, ``hamming``, or Kaldi's ``povey``.
        periodic: whether the window's first sample would follow on its last; symmetric without.
        edges: see ``Edges``.
        scale: samples are multiplied by it; Kaldi's are of 16 bits, and its scale is 32768.
        peak: before that, recordings are brought to this magnitude of their largest sample, so that
            their level does not matter to ``log_floor``; 0 leaves them as they are.
        remove_mean: subtract a frame's mean from it.
        preemphasis: ``a`` in ``x[n] - a x[n - 1]``, in every frame, whose ``x[-1]`` is its
            ``x[0]``.
        num_mels: triangular filters over the powers, equally spaced on the HTK mel scale, and the
            natural logarithm of what they pass; 0 leaves linear magnitudes.
        f_min: lower edge of the first filter in Hz.
        f_max: upper edge of the last filter in Hz.
        triangles: a row of ``TRIANGLES``: a filter's sides are straight on an axis in Hz or in mel,
            or straight in Hz and as wide above the middle as below (SpeechBrain's).
        log_floor: added to every power before the logarithm; or, if ``clip_floor``, the least
            power.
        clip_floor: see ``log_floor``.
        relative_floor: added as well, times the mean power of the frame's bands: what a quiet
            recording keeps of its spectrum does not depend on its level.
        decibels: 10 times the logarithm to the base of 10 instead of the natural one.
        range_db: values further below the loudest of the recording are raised to that distance;
            0 raises none.
        normalise: ``frequency`` standardises every frame over its bins, as the GhostVLAD release
            does; ``time``, every bin over the recording (CMVN); ``time_mean`` subtracts the mean
            of every bin alone, which takes a fixed channel out of log spectra.
        mirror: in evaluation, append the time-reversed signal to itself (the GhostVLAD release).
        min_seconds: shorter signals are repeated until they last this long.
    """

    n_fft: FrameSize = 512
    win_length: FrameSize = 400
    hop_length: FrameSize = 160
    window: str = "hann"
    periodic: bool = True
    edges: Edges = "reflect"
    scale: float = 1.0
    peak: float = 0.0
    remove_mean: bool = False
    preemphasis: float = 0.0
    num_mels: Annotated[int, Range(at_least=0, at_most=512)] = 80
    f_min: float = 20.0
    f_max: float = 7600.0
    triangles: str = "hertz"
    log_floor: Floor = 1e-6
    clip_floor: bool = False
    relative_floor: Fraction = 0.0
    decibels: bool = False
    range_db: float = 0.0
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

    @property
    def whole(self) -> bool:
        """Whether a value of the spectrogram depends on all others, apart from ``normalise``."""
        return self.range_db > 0 or self.peak > 0

    @property
    def framing(self) -> "Framing":
        """Where frames lie in a signal."""
        return Framing(self.hop_length, self.win_length if self.edges == "cut" else 0)

    def num_frames(self, num_samples: int) -> int:
        """Frames of a signal of so many samples, at least ``min_samples``, in evaluation."""
        return self.framing.num_frames(num_samples)

    def of_at_least(self, num_frames: int) -> "FrontEnd":
        """The same, but shorter signals are repeated until they give so many frames."""
        if self.num_frames(self.min_samples) >= num_frames:
            return self
        return replace(self, min_seconds=self.framing.num_samples(num_frames) / SAMPLE_RATE)

    def crop_samples(self, num_frames: int) -> int:
        """Samples of a training crop that yields ``num_frames`` frames of real signal."""
        return (num_frames - 1) * self.hop_length + (self.framing.span or self.n_fft)

    @property
    def extension(self) -> tuple[int, int]:
        """Samples that centred frames need before and after a signal."""
        before = self.n_fft // 2 - (self.n_fft - self.win_length) // 2
        return (0, 0) if self.edges == "cut" else (before, self.win_length - before)

    @property
    def crop_margin(self) -> int:
        """Samples at both ends of a training crop that no window covers."""
        return 0 if self.edges == "cut" else (self.n_fft - self.win_length) // 2

    @functools.cached_property
    def analysis(self) -> np.ndarray:
        """float32 (win_length, 2 x bins): a frame's samples to real and imaginary parts.

        Scale, removal of the mean, pre-emphasis, window and transform are linear. The bins are
        those that a filter looks at.
        """
        length = self.win_length
        cosines, sines = self._waves(np.arange(length) - self._middle)
        matrix = self._window[:, None] * np.concatenate([cosines, sines], axis=1)
        if self.preemphasis:
            emphasis = np.eye(length) - self.preemphasis * np.eye(length, k=-1)
            emphasis[0, 0] -= self.preemphasis
            matrix = emphasis.T @ matrix
        if self.remove_mean:
            matrix = matrix - matrix.mean(axis=0)
        return (self.scale * matrix).astype(np.float32)

    @functools.cached_property
    def filters(self) -> np.ndarray | None:
        """Mel filters (bins, mels), float32, of the bins of ``analysis``; None without."""
        return None if self._all_filters is None else self._all_filters[:, self._seen].T

    def level(self, samples: Array, xp: Any) -> Array:  # noqa: ANN401 - a module
        """Signals (..., samples) at the level that ``peak`` asks for; silence stays silence.

        Args:
            samples: a numpy array or a torch tensor.
            xp: numpy or torch.
        """
        if not self.peak:
            return samples
        largest = xp.amax(xp.abs(samples), -1, keepdims=True)
        return samples * (self.peak / xp.clip(largest, LEAST_PEAK, None))

    def compress(self, powers: Array, xp: Any) -> Array:  # noqa: ANN401 - a module
        """What ``spectra`` returns (..., frames, bins), in logarithms if there are mel filters.

        Args:
            powers: a numpy array or a torch tensor.
            xp: numpy or torch; both have the functions that are used, by the same names.
        """
        if not self.num_mels:
            return powers
        if self.clip_floor:
            powers = xp.clip(powers, self.log_floor, None)
        elif self.relative_floor:
            mean = powers.mean(axis=-1, keepdims=True)
            powers = powers + (self.log_floor + self.relative_floor * mean)
        else:
            powers = powers + self.log_floor
        return xp.log(powers)

    def limit(self, features: Array, xp: Any) -> Array:  # noqa: ANN401
        """Logarithms of whole signals (..., bins, frames), within their range and in their unit."""
        decibel = math.log(10) / 10
        if self.range_db:
            floor = xp.amax(features, (-2, -1), keepdims=True) - self.range_db * decibel
            features = xp.maximum(features, floor)
        return features / decibel if self.decibels else features

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Spectrogram (bins, ``num_frames``) of float32 samples, float32, not normalised."""
        frames = self._frames(self.level(samples, np))
        features = np.empty((self.num_bins, len(frames)), np.float32)
        with one_blas_thread():
            for start in range(0, len(frames), BLOCK_FRAMES):
                block = frames[start : start + BLOCK_FRAMES]
                missing = BLOCK_FRAMES - len(block)
                if missing:
                    block = np.pad(block, ((0, missing), (0, 0)))
                found = self.compress(self._spectra(block), np)
                features[:, start : start + BLOCK_FRAMES] = found[: BLOCK_FRAMES - missing].T
        return self.limit(features, np)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        """Overlapping views (frames, win_length)."""
        mode = "reflect" if self.edges == "reflect" else "constant"
        samples = np.pad(samples, self.extension, mode=mode)
        views = np.lib.stride_tricks.sliding_window_view(samples, self.win_length)
        return views[:: self.hop_length]

    def _spectra(self, frames: np.ndarray) -> np.ndarray:
        """What ``spectra`` returns, in half the multiplications where that is possible.

        If samples are only multiplied by an even window, a transform about its middle is one of
        cosines over the even part of a frame and of sines over its odd part: ahead of numpy's FFT
        at this length, and of ``analysis`` by 7 % of the time of the smallest encoder that ships.
        """
        if not self._folds:
            return spectra(np.ascontiguousarray(frames), self.analysis, self.filters)
        half = self.win_length // 2
        right, left = frames[:, half:], frames[:, half - (not self.periodic) :: -1][:, :half]
        cosines, sines = self._bases
        real, imaginary = (right + left) @ cosines, (right - left) @ sines
        real *= real
        imaginary *= imaginary
        real += imaginary
        return np.sqrt(real, out=real) if self.filters is None else real @ self.filters

    @property
    def _folds(self) -> bool:
        """Whether samples are only multiplied by a window that is even about its middle."""
        is_even = not self.periodic or abs(self._window[0]) < 1e-12
        return is_even and not (self.win_length % 2 or self.preemphasis or self.remove_mean)

    @property
    def _middle(self) -> float:
        """Of the window, in samples."""
        return (self.win_length - (not self.periodic)) / 2

    @functools.cached_property
    def _window(self) -> np.ndarray:
        """float64 (win_length,)."""
        return WINDOWS[self.window](np.pi * np.arange(self.win_length) / self._middle)

    def _waves(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines (times, bins) of the bins that a filter looks at, float64."""
        bins = np.arange(self.n_fft // 2 + 1)[self._seen]
        angles = 2 * np.pi * np.outer(times, bins) / self.n_fft
        return np.cos(angles), np.sin(angles)

    @functools.cached_property
    def _bases(self) -> tuple[np.ndarray, np.ndarray]:
        """Windowed cosines and sines (win_length / 2, bins) from the middle on.

        A middle sample, which there is in a periodic window, counts once.
        """
        half = self.win_length // 2
        window = self.scale * self._window[half:, None]
        cosines, sines = self._waves(np.arange(half, self.win_length) - self._middle)
        cosines, sines = window * cosines, window * sines
        if self.periodic:
            cosines[0] /= 2
        return cosines.astype(np.float32), sines.astype(np.float32)

    @functools.cached_property
    def _all_filters(self) -> np.ndarray | None:
        if not self.num_mels:
            return None
        return mel_filters(self.num_mels, self.n_fft, self.f_min, self.f_max, self.triangles)

    @functools.cached_property
    def _seen(self) -> slice:
        """Bins that a mel filter looks at; all of them without filters."""
        return slice(None) if self._all_filters is None else _span(self._all_filters)


def spectra(frames: Array, analysis: Array, filters: Array | None) -> Array:
    """Magnitudes (..., frames, bins) of framed samples, or powers that filters pass.

    Args:
        frames: (..., frames, win_length), a numpy array or a torch tensor, as all are.
        analysis: (win_length, 2 x bins), see ``FrontEnd.analysis``.
        filters: (bins, mels), or None.
    """
    parts = frames @ analysis
    num_bins = parts.shape[-1] // 2
    powers = parts[..., :num_bins] ** 2 + parts[..., num_bins:] ** 2
    return powers**0.5 if filters is None else powers @ filters


def _span(filters: np.ndarray) -> slice:
    """From the first to the last bin that is not zero in all filters."""
    (seen,) = np.nonzero(filters.any(axis=0))
    return slice(int(seen.min(initial=filters.shape[1])), int(seen.max(initial=0)) + 1)


class Statistics(NamedTuple):
    """Of every bin over a whole recording, float32 (bins, 1)."""

    mean: np.ndarray
    deviation: np.ndarray


def normalise(features: Array, kind: Normalisation, statistics: Statistics | None = None) -> Array:
    """Spectrograms (..., bins, frames) as the network takes them.

    Args:
        features: what ``FrontEnd.features`` returns, a numpy array or a torch tensor.
        kind: over which axis, and whether by the deviation too.
        statistics: those of the whole recording, where ``features`` are a part of it.
    """
    if kind == "none":
        return features
    axis = -2 if kind == "frequency" else -1
    mean = features.mean(axis=axis, keepdims=True) if statistics is None else statistics.mean
    centred = features - mean
    if kind == "time_mean":
        return centred
    if statistics is None:
        deviation = (centred**2).mean(axis=axis, keepdims=True) ** 0.5
    else:
        deviation = statistics.deviation
    return centred / (deviation + NORM_EPSILON)


def mel_filters(
    num_mels: int, n_fft: int, f_min: float, f_max: float, triangles: str = "hertz"
) -> np.ndarray:
    """Triangles of height 1 on the HTK mel scale, 2595 log10(1 + f / 700): float32 (mels, bins).

    Written out because whoever loads an encoder shall need neither torchaudio nor librosa; equal
    to ``librosa.filters.mel(htk=True, norm=None)``, to ``torchaudio.compliance.kaldi``'s with
    ``triangles="mel"``, to SpeechBrain's with ``triangles="equal_sides"``.
    """
    bottom, top = to_mel(np.array([f_min, f_max]))
    edges = np.linspace(bottom, top, num_mels + 2)
    bins = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    return TRIANGLES[triangles](edges, bins).clip(min=0).astype(np.float32)


def to_mel(hertz: np.ndarray) -> np.ndarray:
    """The HTK mel scale."""
    return 2595 * np.log10(1 + hertz / 700)


def to_hertz(mel: np.ndarray) -> np.ndarray:
    """The inverse of ``to_mel``."""
    return 700 * (10 ** (mel / 2595) - 1)


def _between(edges: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Straight sides from edge to edge, negative outside: (edges - 2, bins)."""
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.minimum(rising, falling)


def _equal_sides(edges: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Both sides as wide as the lower one."""
    width = (edges[1:-1] - edges[:-2])[:, None]
    return 1 - np.abs(bins - edges[1:-1, None]) / width


# Edges in mel and bins in Hz to filters, negative outside of their triangles.
TRIANGLES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "hertz": lambda edges, bins: _between(to_hertz(edges), bins),
    "mel": lambda edges, bins: _between(edges, to_mel(bins)),
    "equal_sides": lambda edges, bins: _equal_sides(to_hertz(edges), bins),
}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, for ceil(size / stride) outputs; the odd one goes to the end.

    What Keras calls "same". With a stride it depends on ``size``: a network's exporter would keep
    that of the length that it has seen, so along time it is applied before the exported graph.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def linear(
    *, normalise: Normalisation = "frequency", mirror: bool = False, min_seconds: Seconds = 0.0
) -> FrontEnd:
    """The front end of the GhostVLAD release."""
    return FrontEnd(
        num_mels=0,
        f_min=0.0,
        f_max=0.0,
        log_floor=1.0,
        normalise=normalise,
        mirror=mirror,
        min_seconds=min_seconds,
    )


def log_mel(
    *,
    num_mels: MelCount = 80,
    log_floor: Floor = 1e-6,
    relative_floor: Fraction = 0.0,
    normalise: Normalisation = "frequency",
    mirror: bool = False,
    min_seconds: Seconds = 0.0,
) -> FrontEnd:
    """Logarithms of mel bands, 20 to 7600 Hz, of the same frames."""
    return FrontEnd(
        num_mels=num_mels,
        log_floor=log_floor,
        relative_floor=relative_floor,
        normalise=normalise,
        mirror=mirror,
        min_seconds=min_seconds,
    )


def kaldi_fbank(
    *,
    num_mels: MelCount = 80,
    f_min: Hertz = 20.0,
    f_max: Hertz = SAMPLE_RATE / 2,
    window: Literal["povey", "hamming"] = "povey",
    preemphasis: Fraction = 0.97,
    scale: Annotated[float, Range(above=0, at_most=KALDI_SCALE)] = 1.0,
    log_floor: Floor = KALDI_FLOOR,
    peak: Fraction = 0.0,
    normalise: Normalisation = "time_mean",
    min_seconds: Seconds = 0.0,
) -> FrontEnd:
    """Kaldi's filter bank without dither, minus its mean over the recording.

    3D-Speaker takes it of samples in [-1, 1]; WeSpeaker and Kaldi, of 16-bit samples
    (``scale: 32768``), the former with a Hamming window. Of samples in [-1, 1] its floor hides what
    is quiet in a quiet recording: ``peak`` (none of the three knows it) takes the level out.
    """
    return FrontEnd(
        window=window,
        periodic=False,
        edges="cut",
        scale=scale,
        peak=peak,
        remove_mean=True,
        preemphasis=preemphasis,
        num_mels=num_mels,
        f_min=f_min,
        f_max=f_max,
        triangles="mel",
        log_floor=log_floor,
        clip_floor=True,
        normalise=normalise,
        min_seconds=min_seconds,
    )


def speechbrain_fbank(
    *,
    num_mels: MelCount = 80,
    f_min: Hertz = 0.0,
    f_max: Hertz = SAMPLE_RATE / 2,
    range_db: NonNegative = 80.0,
    normalise: Normalisation = "time_mean",
    min_seconds: Seconds = 0.0,
) -> FrontEnd:
    """SpeechBrain's ``Fbank``, minus its mean over the recording, as its ECAPA-TDNN takes it."""
    return FrontEnd(
        n_fft=400,
        window="hamming",
        edges="zeros",
        num_mels=num_mels,
        f_min=f_min,
        f_max=f_max,
        triangles="equal_sides",
        log_floor=1e-10,
        clip_floor=True,
        decibels=True,
        range_db=range_db,
        normalise=normalise,
        min_seconds=min_seconds,
    )


FRONT_ENDS: dict[str, Callable[..., FrontEnd]] = {
    "linear": linear,
    "log_mel": log_mel,
    "kaldi_fbank": kaldi_fbank,
    "speechbrain_fbank": speechbrain_fbank,
}
