"""Recordings as something to read spans from, so that hours of audio need not fit into memory."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np

from speakervlad.data.audio import (
    SAMPLE_RATE,
    audio_info,
    check_speech,
    is_band_limited,
    read_audio,
    read_speech,
)
from speakervlad.errors import InputError

logger = logging.getLogger(__name__)

# Of these a span is one seek, and equals the slice of the whole.
SEEKABLE_SUFFIXES = frozenset((".wav", ".flac", ".aiff", ".aif", ".au", ".w64"))
# Smaller files are read whole, without a look at their header.
SPAN_BYTES = 4_000_000
SPAN_SECONDS = 300
NOTICE_SECONDS = 10


class Wave(Protocol):
    """Mono samples at 16 kHz of known length."""

    num_samples: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """float32 samples ``start`` to ``stop``."""
        ...


class SampleWave:
    """Samples in memory, shape ``(samples,)``."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples
        self.num_samples = len(samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.samples[start:stop]


class FileWave:
    """A long file, read span by span; silence is noticed when its end has been read."""

    def __init__(self, path: Path, num_samples: int, channel: int | None) -> None:
        self.path = path
        self.num_samples = num_samples
        self.channel = channel
        self._heard = False

    def read(self, start: int, stop: int) -> np.ndarray:
        span = read_audio(self.path, channel=self.channel, start=start, num_samples=stop - start)
        self._heard = self._heard or bool(span.any())
        if stop == self.num_samples and not self._heard:
            raise InputError(f"{self.path}: silent, every sample is zero. Choose another channel.")
        return span


class MirroredWave:
    """A wave followed by its own reversal."""

    def __init__(self, wave: Wave) -> None:
        self.wave = wave
        self.num_samples = 2 * wave.num_samples

    def read(self, start: int, stop: int) -> np.ndarray:
        length = self.wave.num_samples
        parts = []
        if start < length:
            parts.append(self.wave.read(start, min(stop, length)))
        if stop > length:
            low, high = 2 * length - stop, 2 * length - max(start, length)
            parts.append(self.wave.read(low, high)[::-1])
        return np.concatenate(parts)


def open_wave(audio: str | Path | np.ndarray, channel: int | None = None) -> Wave:
    """A wave from a file or from samples; hours of wav or flac stay on disk.

    Raises:
        InputError: the audio is missing, damaged, empty, silent or shorter than 25 ms.
    """
    if isinstance(audio, np.ndarray):
        return SampleWave(_check_samples(audio))
    path = Path(audio)
    if _is_large(path):
        num_samples = audio_info(path).num_samples
        if num_samples > SPAN_SECONDS * SAMPLE_RATE:
            notice = min(num_samples, NOTICE_SECONDS * SAMPLE_RATE)
            begin = read_audio(path, channel=channel, num_samples=notice)
            if is_band_limited(begin):
                logger.warning("%s: no energy above 4 kHz: upsampled telephone audio?", path)
            return FileWave(path, num_samples, channel)
    return SampleWave(read_speech(path, channel=channel))


def _is_large(path: Path) -> bool:
    if path.suffix.lower() not in SEEKABLE_SUFFIXES:
        return False
    try:
        return path.stat().st_size > SPAN_BYTES
    except OSError:
        return False


def _check_samples(samples: np.ndarray) -> np.ndarray:
    if samples.ndim != 1:
        raise InputError(f"waveform of shape {samples.shape}: expected one dimension of samples.")
    if not np.isfinite(samples).all():
        raise InputError("waveform: some samples are not finite.")
    waveform = np.ascontiguousarray(samples, dtype=np.float32)
    check_speech(waveform, "waveform")
    return waveform
