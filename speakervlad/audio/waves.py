"""Sound of which any span can be read: in memory, in a file, decoded to disk; and parts of such."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from speakervlad.audio.quality import Level
from speakervlad.audio.speech import Span
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


class SpeechWave:
    """The speech of a wave, one span directly behind the other.

    Args:
        wave: the recording.
        spans: first sample of each span and the one behind its last, in order.
        in_pieces: whether it is to be heard in pieces, as a stream finds them.
    """

    def __init__(
        self, wave: Wave, spans: Sequence[Span] | np.ndarray, *, in_pieces: bool = False
    ) -> None:
        self.wave = wave
        self.in_pieces = in_pieces
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
