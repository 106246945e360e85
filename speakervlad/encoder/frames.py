"""From recordings to unit vectors around a network, in numpy: the same for every runtime.

A runtime computes ``describe``: a piece of spectrogram in, frame descriptors and the weights of the
pooling out. Chunks, spectrograms, sums, windows and projection are here, once.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np

from speakervlad.audio.waves import MirroredWave, SampleWave, SpeechWave, Wave
from speakervlad.config import PIECE_SECONDS
from speakervlad.errors import InputError, check_range
from speakervlad.models.frontend import (
    Framing,
    FrontEnd,
    Statistics,
    normalise,
    same_padding,
)
from speakervlad.models.sums import Finish, PoolingSums
from speakervlad.schema import from_dict
from speakervlad.sound import SAMPLE_RATE
from speakervlad.texts import parse_json

# Longer signals are computed in chunks: it bounds the memory and costs the chunks' context.
CHUNK_SECONDS = 20
# The spectrogram of longer signals is computed again for its chunks, once its mean is known.
KEPT_SECONDS = 300
# Of a piece, where every frame sees all of its piece: a rest that is shorter joins the last one.
LEAST_PIECE_SECONDS = 2.0
# From one frame to the next where windows stand for frames.
DENSE_SECONDS = 0.05
# Frames and strides of an exported encoder that are beyond any use.
MAX_SIZE = 65_536
# To which shorter signals may be repeated there.
MAX_REPEATED_SECONDS = 60
# Frames at a cut are reflections of the signal; both lie in what is thrown away.
EDGE_FRAMES = 2

# (bins, frames), padded for the network, to descriptors (dim, frames) and weights (rows, frames).
Describe = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


class Chunk(NamedTuple):
    """Samples ``start`` to ``stop``, of whose output frames ``first`` to ``last`` are kept.

    ``last`` is None in the last chunk, which keeps all.
    """

    start: int
    stop: int
    first: int
    last: int | None


class FrameGrid(NamedTuple):
    """Where an encoder's frames lie in time.

    Attributes:
        hop: samples per spectrogram frame.
        stride: spectrogram frames per output frame.
        context: spectrogram frames that an output frame sees on either side; None for all.
        span: samples that the first spectrogram frame needs, see ``Framing``.
        has_frames: see ``Ends``.
    """

    hop: int
    stride: int
    context: int | None
    span: int = 0
    has_frames: bool = True

    @property
    def framing(self) -> Framing:
        """Where the spectrogram's frames lie."""
        return Framing(self.hop, self.span)

    def num_frames(self, num_samples: int) -> int:
        """Output frames of so many samples."""
        return math.ceil(self.framing.num_frames(num_samples) / self.stride)

    def times(self, count: int) -> np.ndarray:
        """The middles of so many output frames, float64 seconds."""
        return self.framing.time_of(np.arange(count) * self.stride)

    def frames_of(self, seconds: float) -> int:
        """Output frames of so much signal, about."""
        return max(1, round(seconds * SAMPLE_RATE / self.hop / self.stride))


def plan_chunks(num_samples: int, grid: FrameGrid, chunk_frames: int) -> list[Chunk]:
    """Cut into chunks of about ``chunk_frames`` output frames and their context on both sides.

    The output frames kept are those of the whole signal, each once. Every chunk starts at a
    multiple of the total stride and is as long as the whole modulo that stride, so that strided
    layers with "same" padding, whose alignment depends on the length, see what they would see.
    """
    assert grid.context is not None
    total = grid.framing.num_frames(num_samples)
    count = max(1, round(total / (chunk_frames * grid.stride)))
    margin = -(-(grid.context + EDGE_FRAMES) // grid.stride) + 1
    chunks = []
    for number in range(count):
        keep = number * chunk_frames
        begin = max(0, keep - margin)
        end = (keep + chunk_frames + margin) * grid.stride + total % grid.stride
        is_last = number == count - 1
        stop = num_samples if is_last or end >= total else grid.framing.num_samples(end)
        last = None if is_last else keep + chunk_frames - begin
        chunks.append(Chunk(begin * grid.stride * grid.hop, stop, keep - begin, last))
    return chunks


def plan_pieces(num_samples: int, seconds: float) -> list[Chunk]:
    """Cut at multiples of so many seconds, each piece for itself.

    The rest is a piece of its own, or part of the last one if it is shorter than 2 s. Where the
    cuts are depends on nothing but the recording, so that its embedding does not either.
    """
    piece = round(seconds * SAMPLE_RATE)
    count, rest = divmod(num_samples, piece)
    count += rest >= LEAST_PIECE_SECONDS * SAMPLE_RATE
    cuts = [piece * number for number in range(max(count, 1))]
    return [Chunk(start, stop, 0, None) for start, stop in pairwise([*cuts, num_samples])]


@dataclass(frozen=True)
class Projection:
    """Pooled vector to unit embedding, as the trained module does.

    Attributes:
        weight: (dim, pooled).
        bias: (dim,).
        relu: whether a ReLU follows.
        mean: (dim,), subtracted after that.
        scale: (dim,), multiplied with after that.
    """

    weight: np.ndarray
    bias: np.ndarray
    relu: bool
    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, pooled: np.ndarray) -> np.ndarray:
        """float32 (dim,) of length 1, of ``pooled`` (pooled,); of several, (vectors, dim)."""
        embedding = (self.weight @ pooled.T).T + self.bias
        if self.relu:
            embedding = np.maximum(embedding, 0)
        embedding = (embedding - self.mean) * self.scale
        norms = np.linalg.norm(embedding, axis=-1, keepdims=True)
        return embedding / np.maximum(norms, np.float32(1e-12))


@dataclass(frozen=True)
class Ends:
    """Everything of an encoder but the network between spectrogram and descriptors.

    Attributes:
        front_end: waveform to spectrogram.
        stride: spectrogram frames per output frame.
        context: spectrogram frames that an output frame sees on either side; None for all.
        stem_padding: kernel and stride of the network's first layer along time, see ``Trunk``.
        pooling: moments of the descriptors to a pooled vector.
        projection: pooled vector to embedding.
        piece_seconds: of a piece, where ``context`` is None.
        has_frames: whether the network gives frames; one of others gives the embedding of a piece,
            which counts as one frame with the weight of its length.
    """

    front_end: FrontEnd
    stride: int
    context: int | None
    stem_padding: tuple[int, int]
    pooling: Finish
    projection: Projection
    piece_seconds: float = PIECE_SECONDS
    has_frames: bool = True

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return len(self.projection.bias)

    @property
    def grid(self) -> FrameGrid:
        """Where the output frames lie in time."""
        hop, span = self.front_end.framing
        return FrameGrid(hop, self.stride, self.context, span, self.has_frames)

    def to_notes(self) -> str:
        """Everything but the arrays, as text."""
        return json.dumps(
            {
                "front_end": asdict(self.front_end),
                "stride": self.stride,
                "context": self.context,
                "stem_padding": self.stem_padding,
                "pooling": self.pooling.to_notes(),
                "relu": self.projection.relu,
                "piece_seconds": self.piece_seconds,
            }
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, by the names under which ``from_notes`` takes them."""
        projection = self.projection
        return {
            **self.pooling.arrays(),
            "projection_weight": projection.weight,
            "projection_bias": projection.bias,
            "projection_mean": projection.mean,
            "projection_scale": projection.scale,
        }

    @classmethod
    def from_notes(cls, text: str, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse of ``to_notes`` and ``arrays``.

        Raises:
            ValueError, KeyError, TypeError: they are none, or numbers beyond any use.
        """
        notes: dict[str, Any] = parse_json(text)
        kernel, padded_stride = notes["stem_padding"]
        sizes = {"stride": notes["stride"], "kernel": kernel, "stem stride": padded_stride}
        for name, size in (sizes | {"context": notes["context"] or 0}).items():
            check_range(name, int(size), at_least=name != "context", at_most=MAX_SIZE)
        piece_seconds = float(notes.get("piece_seconds", PIECE_SECONDS))
        check_range("piece_seconds", piece_seconds, at_least=2, at_most=3600)
        weight, bias, mean, scale = (
            arrays[f"projection_{name}"] for name in ("weight", "bias", "mean", "scale")
        )
        return cls(
            front_end_of(notes),
            int(notes["stride"]),
            None if notes["context"] is None else int(notes["context"]),
            (int(kernel), int(padded_stride)),
            Finish.from_notes(notes["pooling"], arrays),
            Projection(weight, bias, bool(notes["relu"]), mean, scale),
            piece_seconds,
        )


def front_end_of(notes: Mapping[str, Any]) -> FrontEnd:
    """The front end of ``Ends.to_notes``.

    Raises:
        ValueError, KeyError: it is none, or has numbers beyond any use.
    """
    values = notes["front_end"]
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name}={value}: must be finite.")
    front_end = from_dict(FrontEnd, values, "front end")
    check_range("min_seconds", front_end.min_seconds, at_most=MAX_REPEATED_SECONDS)
    return front_end


class FrameEncoder:
    """An encoder as sums over its frames: a network, and what is around it.

    Args:
        ends: what is around the network.
        describe: the network.

    Attributes:
        chunk_frames: output frames of a chunk.
    """

    def __init__(self, ends: Ends, describe: Describe) -> None:
        self.ends = ends
        self.describe = describe
        self.chunk_frames: int = ends.grid.frames_of(CHUNK_SECONDS)

    def embed(self, wave: Wave) -> np.ndarray:
        """Unit vector (dim,) of a whole recording."""
        return self.finish(self.sums(wave))

    def enrol(self, waves: Sequence[Wave]) -> np.ndarray:
        """Unit vector (dim,) of all frames of some recordings."""
        total, *others = (self.sums(wave) for wave in waves)
        for other in others:
            total = total.merge(other)
        return self.finish(total)

    def sums(self, wave: Wave, weights: list[np.ndarray] | None = None) -> PoolingSums:
        """The sums of a recording, to merge with those of others or to finish.

        Args:
            wave: the recording.
            weights: where to add those of its frames too, (rows, frames) chunk by chunk, without
                frames of a mirror image or a repetition.
        """
        return self._sums_of(wave, weights, mirror=self.ends.front_end.mirror)

    def weights(self, wave: Wave) -> np.ndarray:
        """The weights (rows, frames) of all frames of a recording, which is not mirrored."""
        parts: list[np.ndarray] = []
        self._sums_of(wave, parts, mirror=False)
        return np.concatenate(parts, axis=1)

    def finish(self, sums: PoolingSums) -> np.ndarray:
        """Unit vector (dim,) of all frames of some sums."""
        return self.ends.projection(sums.finish())

    def embed_windows(self, wave: Wave, spans: np.ndarray) -> np.ndarray:
        """Unit vectors (windows, dim) of spans of one recording, which is not mirrored.

        The network sees the recording once, and a window pools the frames whose centres lie in it.
        Where every frame sees the whole recording, windows are cut out and computed one by one.

        Args:
            wave: the recording.
            spans: (windows, 2) seconds, sorted.
        """
        if self.ends.context is None:
            cuts = np.rint(spans * SAMPLE_RATE).astype(int).tolist()
            parts = (SampleWave(wave.read(start, stop)) for start, stop in cuts)
            return np.stack([self.finish(self._sums_of(part, mirror=False)) for part in parts])
        windows = self._frame_ranges(spans, wave.num_samples)
        vectors = np.empty((len(windows), self.ends.dim), np.float32)
        empty = PoolingSums.empty(self.ends.pooling)
        open_sums: dict[int, PoolingSums] = {}
        begin = 0
        for frames, weights in self.frames(wave, mirror=False):
            end = begin + frames.shape[1]
            for row in np.flatnonzero((windows[:, 0] < end) & (windows[:, 1] > begin)).tolist():
                part = slice(max(0, windows[row, 0] - begin), windows[row, 1] - begin)
                weights_part = None if weights is None else weights[:, part]
                open_sums[row] = open_sums.get(row, empty).add(frames[:, part], weights_part)
                if windows[row, 1] <= end:
                    vectors[row] = self.finish(open_sums.pop(row))
            begin = end
        for row, sums in open_sums.items():
            vectors[row] = self.finish(sums)
        return vectors

    def parts(self, wave: Wave) -> Iterator[tuple[int, Wave]]:
        """Yield what is heard for itself, and the sample that it begins with; see ``plan_pieces``.

        That is all of a recording, but pieces where every frame sees all of its recording, and
        pieces where only speech counts, which a stream finds one after the other.
        """
        in_pieces = isinstance(wave, SpeechWave) and wave.in_pieces
        if self.ends.context is not None and not in_pieces:
            yield 0, wave
            return
        pieces = plan_pieces(wave.num_samples, self.ends.piece_seconds)
        for piece in pieces:
            whole = len(pieces) == 1
            yield piece.start, wave if whole else SampleWave(wave.read(piece.start, piece.stop))

    def frames(self, wave: Wave, *, mirror: bool) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield descriptors and weights, chunk by chunk, each frame once."""
        for _, part in self.parts(wave):
            yield from self.frames_of(part, mirror=mirror)

    def frames_of(
        self, part: Wave, *, mirror: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """As ``frames``, of one of ``parts``."""
        wave = self._extended(part, mirror)
        plan = self._plan(wave.num_samples)
        front_end, padding = self.ends.front_end, self.ends.stem_padding

        def compute() -> Iterator[np.ndarray]:
            return (front_end.features(wave.read(chunk.start, chunk.stop)) for chunk in plan)

        short = wave.num_samples <= KEPT_SECONDS * SAMPLE_RATE
        kept = list(compute()) if short else None
        statistics = self._statistics(plan, kept or compute())
        for chunk, features in zip(plan, kept or compute(), strict=True):
            spectrogram = normalise(features, front_end.normalise, statistics)
            before, after = same_padding(spectrogram.shape[1], *padding)
            frames, weights = self.describe(np.pad(spectrogram, ((0, 0), (before, after))))
            kept = slice(chunk.first, chunk.last)
            yield frames[:, kept], None if weights is None else weights[:, kept]

    def window_frames(
        self, wave: Wave, start: int, stop: int, window: float, hop: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield what stands for frames where a network has none: vectors of windows around them.

        The windows lie within the stretch, or are all of it if it is shorter.

        Args:
            wave: the recording, which is not mirrored.
            start: first sample of a stretch of it.
            stop: the sample behind its last.
            window: seconds of a window.
            hop: seconds from window to window.

        Yields:
            Samples in the middle of some frames (frames,), their vectors (dim, frames), which are
            one and the same, and their weights (1, frames).
        """
        length, step = round(window * SAMPLE_RATE), max(1, round(hop * SAMPLE_RATE))
        for begin in range(start, stop, step):
            end = min(begin + step, stop)
            first = max(start, min((begin + end - length) // 2, stop - length))
            part = SampleWave(wave.read(first, min(stop, first + length)))
            vector, _ = next(self.frames(part, mirror=False))
            count = max(1, round((end - begin) / SAMPLE_RATE / DENSE_SECONDS))
            middles = begin + (np.arange(count) + 0.5) * (end - begin) / count
            weights = np.ones((1, count), np.float32)
            yield np.rint(middles).astype(int), np.repeat(vector, count, axis=1), weights

    def _sums_of(
        self, wave: Wave, collected: list[np.ndarray] | None = None, *, mirror: bool
    ) -> PoolingSums:
        """As ``sums``, which calls its list ``weights``."""
        empty = total = PoolingSums.empty(self.ends.pooling)
        for _, part in self.parts(wave):
            # Frames behind the part's own are of its mirror image or repetition.
            sums, own = empty, self.ends.grid.num_frames(part.num_samples)
            for frames, weights in self.frames_of(part, mirror=mirror):
                sums = sums.add(frames, weights)
                if collected is not None and weights is not None:
                    collected.append(weights[:, : max(0, own)])
                own -= frames.shape[1]
            total = total.merge(sums)
        return total

    def _frame_ranges(self, spans: np.ndarray, num_samples: int) -> np.ndarray:
        """Output frames (windows, 2) whose centres lie in the spans, at least one each."""
        grid = self.ends.grid
        positions = (spans - grid.framing.time_of(0)) * SAMPLE_RATE / grid.hop / grid.stride
        first_to_stop = np.rint(positions).astype(int)
        frames_for_sure = max(1, grid.framing.num_frames(num_samples) // grid.stride)
        first = np.clip(first_to_stop[:, 0], 0, frames_for_sure - 1)
        return np.stack([first, np.maximum(first_to_stop[:, 1], first + 1)], axis=1)

    def _plan(self, num_samples: int) -> list[Chunk]:
        if self.ends.context is None:
            return [Chunk(0, num_samples, 0, None)]
        return plan_chunks(num_samples, self.ends.grid, self.chunk_frames)

    def _extended(self, wave: Wave, mirror: bool) -> Wave:
        """Mirrored and repeated as the front end does in evaluation."""
        if mirror:
            wave = MirroredWave(wave)
        shortest = self.ends.front_end.min_samples
        if wave.num_samples < shortest:
            return SampleWave(np.resize(wave.read(0, wave.num_samples), shortest))
        return wave

    def _statistics(self, plan: list[Chunk], computed: Iterable[np.ndarray]) -> Statistics | None:
        """Those of the features of all chunks; None where frames do without."""
        front_end = self.ends.front_end
        if len(plan) == 1 or front_end.normalise not in ("time", "time_mean"):
            return None
        total, squares, count = np.zeros(()), np.zeros(()), 0
        for chunk, features in zip(plan, computed, strict=True):
            first = chunk.first * self.ends.stride
            last = None if chunk.last is None else chunk.last * self.ends.stride
            exact = features[:, first:last].astype(np.float64)
            total = total + exact.sum(axis=1, keepdims=True)
            squares = squares + np.square(exact).sum(axis=1, keepdims=True)
            count += exact.shape[1]
        mean = np.asarray(total / count)
        deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
        return Statistics(mean.astype(np.float32), deviation.astype(np.float32))
