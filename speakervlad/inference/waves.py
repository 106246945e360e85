"""Recordings as something to read spans from, so that hours of audio need not fit into memory."""

import logging
import tempfile
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from speakervlad.data.audio import (
    SAMPLE_RATE,
    audio_info,
    check_speech,
    is_band_limited,
    read_audio,
    read_speech,
    speech_blocks,
)
from speakervlad.errors import InputError

logger = logging.getLogger(__name__)

# Of these a span is one seek, and equals the slice of the whole; others are decoded in order.
SEEKABLE_SUFFIXES = frozenset((".wav", ".flac", ".aiff", ".aif", ".au", ".w64"))
# Smaller files are read whole, without a look at their header.
SPAN_BYTES = 4_000_000
SPAN_SECONDS = 300
NOTICE_SECONDS = 10
# So much of a file that is decoded in order is kept in memory; the rest of it waits on disk.
MEMORY_SECONDS = 120


class Wave(Protocol):
    """Mono samples at 16 kHz of known length."""

    @property
    def num_samples(self) -> int: ...

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


class SpooledWave:
    """A long file that can only be decoded in order: once, into a temporary file of 230 MB an hour.

    It is decoded when it is asked for something, and removed when the wave is collected.

    Args:
        name: of the file, for errors.
        blocks: its samples.
    """

    def __init__(self, name: str, blocks: Iterator[np.ndarray]) -> None:
        self._name = name
        self._blocks = blocks

    @property
    def num_samples(self) -> int:
        return self._spool[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        file = self._spool[0]
        file.seek(4 * start)
        return np.frombuffer(bytearray(file.read(4 * (stop - start))), np.float32)

    @cached_property
    def _spool(self) -> tuple[BinaryIO, int]:
        """All samples in float32, and their number.

        Raises:
            InputError: the file is damaged or silent, or there is no room for its samples.
        """
        try:
            file = tempfile.TemporaryFile(prefix="speakervlad.")  # noqa: SIM115 - the wave holds it
            for block in self._blocks:
                file.write(block.data)
            return file, file.tell() // 4
        except OSError as error:
            raise InputError(
                f"{self._name}: its samples, 230 MB an hour, cannot be kept in "
                f"{tempfile.gettempdir()} ({error.strerror or error}). Set TMPDIR to another."
            ) from error


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
    if path.suffix.lower() not in SEEKABLE_SUFFIXES:
        return _open_in_order(path, channel)
    if _is_large(path):
        num_samples = audio_info(path).num_samples
        if num_samples > SPAN_SECONDS * SAMPLE_RATE:
            notice = min(num_samples, NOTICE_SECONDS * SAMPLE_RATE)
            _notice_telephone(path, read_audio(path, channel=channel, num_samples=notice))
            return FileWave(path, num_samples, channel)
    return SampleWave(read_speech(path, channel=channel))


def _open_in_order(path: Path, channel: int | None) -> Wave:
    """In memory if it is short, on disk if it is not; how long it is shows as it is decoded."""
    blocks = speech_blocks(path, channel=channel)
    begin, num_samples = [], 0
    for block in blocks:
        begin.append(block)
        num_samples += len(block)
        if num_samples > MEMORY_SECONDS * SAMPLE_RATE:
            break
    samples = np.concatenate(begin)
    _notice_telephone(path, samples)
    if num_samples > MEMORY_SECONDS * SAMPLE_RATE:
        return SpooledWave(str(path), chain([samples], blocks))
    return SampleWave(samples)


def _notice_telephone(path: Path, waveform: np.ndarray) -> None:
    if is_band_limited(waveform):
        logger.warning("%s: no energy above 4 kHz: upsampled telephone audio?", path)


def _is_large(path: Path) -> bool:
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
