"""Sound of which any span can be read: in memory, in a file, decoded to disk; and parts of such."""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from speakervlad.audio.quality import Level
from speakervlad.audio.reading import load_audio
from speakervlad.audio.speech import Span
from speakervlad.errors import InputError
from speakervlad.sound import SAMPLE_RATE

# Of a wave that is read from its beginning to its end.
BLOCK_SAMPLES = 30 * SAMPLE_RATE


class Wave(Protocol):
    """Mono samples at 16 kHz of known length."""

    @property
    def num_samples(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """float32 samples ``start`` to ``stop``."""
        ...


class SampleWave:
    """Samples in memory.

    Args:
        samples: float32 (samples,).
        level: of the samples, if it was measured while they were decoded.
    """

    def __init__(self, samples: np.ndarray, level: Level | None = None) -> None:
        self.samples = samples
        self.level = level
        self.num_samples = len(samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.samples[start:stop]


class FileWave:
    """A long file, read span by span; silence is noticed when its end has been read."""

    def __init__(self, path: Path, num_samples: int, channel: int | None) -> None:
        self.path = path
        self.num_samples = num_samples
        self.channel = channel
        self._level = Level()

    def read(self, start: int, stop: int) -> np.ndarray:
        span = load_audio(self.path, channel=self.channel, start=start, num_samples=stop - start)
        self._level.add(span)
        if stop == self.num_samples:
            self._level.check(str(self.path))
        return span


class SpooledWave:
    """A long file that can only be decoded in order: once, into a temporary file of 230 MB an hour.

    It is decoded when it is asked for something, and removed when the wave is collected.

    Args:
        name: of the file, for errors.
        blocks: its samples.
        level: what measures them as they come.
    """

    def __init__(self, name: str, blocks: Iterator[np.ndarray], level: Level) -> None:
        self._name = name
        self._blocks = blocks
        self._level = level

    @property
    def num_samples(self) -> int:
        return self._spool[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        samples = self.unchecked(start, stop)
        self._level.check(self._name)
        return samples

    def unchecked(self, start: int, stop: int) -> np.ndarray:
        """As ``read``, of silence too."""
        file = self._spool[0]
        file.seek(4 * start)
        return np.frombuffer(bytearray(file.read(4 * (stop - start))), np.float32)

    def unchecked_blocks(self) -> Iterator[np.ndarray]:
        """All of it in pieces of some seconds, silence too."""
        for start in range(0, self.num_samples, BLOCK_SAMPLES):
            yield self.unchecked(start, min(start + BLOCK_SAMPLES, self.num_samples))

    @cached_property
    def _spool(self) -> tuple[BinaryIO, int]:
        """All samples in float32, and their number.

        Raises:
            InputError: the file is damaged, or there is no room for its samples.
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


class SpeechWave:
    """The speech of a wave, one span directly behind the other.

    Args:
        wave: the recording.
        spans: first sample of each span and the one behind its last, in order.
    """

    def __init__(self, wave: Wave, spans: Sequence[Span] | np.ndarray) -> None:
        self.wave = wave
        self.spans = np.array(spans).reshape(-1, 2)
        self._ends = np.cumsum(self.spans[:, 1] - self.spans[:, 0])
        self.num_samples = int(self._ends[-1]) if len(spans) else 0

    def seconds_in(self, windows: np.ndarray) -> np.ndarray:
        """How much speech there is in windows (windows, 2) of the recording, all in seconds."""
        edges = self.spans.ravel()
        heard = np.stack([np.concatenate([[0], self._ends[:-1]]), self._ends], axis=1).ravel()
        begin, end = np.interp(windows.T * SAMPLE_RATE, edges, heard)
        return (end - begin) / SAMPLE_RATE

    def read(self, start: int, stop: int) -> np.ndarray:
        # Where samples lie in the recording, less where they lie here, is one number for each span.
        shifts = self.spans[:, 1] - self._ends
        touched = np.flatnonzero((self._ends > start) & (self.spans[:, 0] - shifts < stop))
        return np.concatenate(
            [np.zeros(0, np.float32)]
            + [
                self.wave.read(
                    int(max(self.spans[row, 0], start + shifts[row])),
                    int(min(self.spans[row, 1], stop + shifts[row])),
                )
                for row in touched
            ]
        )


def blocks_of(wave: Wave) -> Iterator[np.ndarray]:
    """The samples of a wave in pieces of some seconds."""
    for start in range(0, wave.num_samples, BLOCK_SAMPLES):
        yield wave.read(start, min(start + BLOCK_SAMPLES, wave.num_samples))


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
