"""What torch and exported graphs do alike: chunks to frames, frames to sums, sums to vectors."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple, Self

import numpy as np

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.inference.chunks import Chunk, FrameGrid, plan_chunks
from speakervlad.inference.pooling_sums import PoolingSums
from speakervlad.inference.waves import MirroredWave, SampleWave, Wave

# Longer signals are computed in chunks: it bounds the memory and costs the chunks' context.
CHUNK_SECONDS = 20


class Layout(NamedTuple):
    """How frames come out of samples.

    Attributes:
        grid: where they lie in time.
        mirror: whether a recording is followed by its own reversal.
        min_samples: shorter ones are repeated until they last this long.
        normalisation: of the spectrogram, as in the config.
    """

    grid: FrameGrid
    mirror: bool
    min_samples: int
    normalisation: str

    def to_json(self) -> str:
        return json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        grid, *others = json.loads(text)
        return cls(FrameGrid(*grid), *others)


class Statistics(NamedTuple):
    """Of every bin over a whole recording, float32 (bins, 1).

    Attributes:
        mean: over the frames.
        deviation: of the population; None where it is not asked for.
    """

    mean: np.ndarray
    deviation: np.ndarray | None


class ChunkedBackend(ABC):
    """An encoder whose frames can be had chunk by chunk.

    Args:
        layout: of its frames.

    Attributes:
        chunk_frames: output frames of a chunk.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.grid = layout.grid
        frames_per_second = SAMPLE_RATE / self.grid.hop / self.grid.stride
        self.chunk_frames = round(CHUNK_SECONDS * frames_per_second)

    @property
    @abstractmethod
    def dim(self) -> int:
        """Size of an embedding."""

    @abstractmethod
    def empty(self) -> PoolingSums:
        """The sums of no frames."""

    @abstractmethod
    def finish(self, sums: Sequence[PoolingSums]) -> np.ndarray:
        """Unit vectors (sums, dim), each of all frames of one of them."""

    @abstractmethod
    def features(self, samples: np.ndarray) -> np.ndarray:
        """The spectrogram (bins, frames) of samples as they are, not normalised."""

    @abstractmethod
    def describe(self, samples: np.ndarray, statistics: Statistics | None) -> tuple[Any, Any]:
        """Descriptors ``(..., dim, frames)`` of samples as they are, and their guide or None.

        Args:
            samples: of a chunk.
            statistics: to normalise with; None if its own serve.
        """

    def embed(self, wave: Wave) -> np.ndarray:
        """Unit vector (dim,) of a whole recording."""
        return self.finish([self.sums(wave)])[0]

    def enrol(self, waves: Sequence[Wave]) -> np.ndarray:
        """Unit vector (dim,) of all frames of some recordings."""
        each = [self.sums(wave) for wave in waves]
        return self.finish([reduce(lambda one, other: one.merge(other), each)])[0]

    def embed_windows(self, wave: Wave, windows: np.ndarray) -> np.ndarray:
        """Unit vectors (windows, dim) of spans of one recording; the trunk sees it only once.

        Args:
            wave: the recording; it is not mirrored.
            windows: int (windows, 2), first and last + 1 output frame, sorted.
        """
        vectors = np.empty((len(windows), self.dim), np.float32)
        open_sums: dict[int, PoolingSums] = {}
        begin = 0
        for frames, guide in self.frames(wave, mirror=False):
            end = begin + frames.shape[-1]
            for row in np.flatnonzero((windows[:, 0] < end) & (windows[:, 1] > begin)).tolist():
                part = slice(max(0, windows[row, 0] - begin), windows[row, 1] - begin)
                known = open_sums.get(row, self.empty())
                guide_part = None if guide is None else guide[..., part]
                open_sums[row] = known.add(frames[..., part], guide_part)
            rows = [row for row in open_sums if windows[row, 1] <= end]
            if rows:
                vectors[rows] = self.finish([open_sums.pop(row) for row in rows])
            begin = end
        if open_sums:
            vectors[list(open_sums)] = self.finish(list(open_sums.values()))
        return vectors

    def sums(self, wave: Wave) -> PoolingSums:
        """The sums of a recording, to merge with those of others or to finish."""
        total = self.empty()
        for frames, guide in self.frames(wave, mirror=self.layout.mirror):
            total = total.add(frames, guide)
        return total

    def frames(self, wave: Wave, *, mirror: bool) -> Iterator[tuple[Any, Any]]:
        """Yield descriptors and guide, chunk by chunk, each frame once."""
        wave = self._extended(wave, mirror)
        plan = plan_chunks(wave.num_samples, self.grid, self.chunk_frames)
        statistics = self._statistics(wave, plan)
        for chunk in plan:
            frames, guide = self.describe(wave.read(chunk.start, chunk.stop), statistics)
            kept = slice(chunk.first, chunk.last)
            yield frames[..., kept], None if guide is None else guide[..., kept]

    def _extended(self, wave: Wave, mirror: bool) -> Wave:
        """Mirrored and repeated as the front end does in evaluation."""
        if mirror:
            wave = MirroredWave(wave)
        shortest = self.layout.min_samples
        if wave.num_samples < shortest:
            return SampleWave(np.resize(wave.read(0, wave.num_samples), shortest))
        return wave

    def _statistics(self, wave: Wave, plan: list[Chunk]) -> Statistics | None:
        """Those of the whole recording, from a first pass; None where frames do without."""
        kind = self.layout.normalisation
        if len(plan) == 1 or kind not in ("time", "time_mean"):
            return None
        total, squares, count = np.zeros(()), np.zeros(()), 0
        for chunk in plan:
            last = None if chunk.last is None else chunk.last * self.grid.stride
            features = self.features(wave.read(chunk.start, chunk.stop))
            exact = features[:, chunk.first * self.grid.stride : last].astype(np.float64)
            total = total + exact.sum(axis=1, keepdims=True)
            squares = squares + np.square(exact).sum(axis=1, keepdims=True)
            count += exact.shape[1]
        mean = np.asarray(total / count)
        if kind == "time_mean":
            return Statistics(mean.astype(np.float32), None)
        variance = np.maximum(squares / count - np.square(mean), 0)
        return Statistics(mean.astype(np.float32), np.sqrt(variance).astype(np.float32))
