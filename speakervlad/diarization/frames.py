"""The speech of a recording as frames of one pass of the trunk, and sums over any of them."""

from dataclasses import dataclass

import numpy as np

from speakervlad.audio.waves import SpeechWave
from speakervlad.encoder.frames import CHUNK_SECONDS, FrameEncoder
from speakervlad.models.sums import PoolingSums
from speakervlad.progress import Track, silent
from speakervlad.sound import SAMPLE_RATE

# Frames that are summed at once: their descriptors in double precision are 4 MB.
PIECE = 4096


@dataclass(frozen=True)
class SpeechFrames:
    """Descriptors and pooling weights of all speech of a recording, in its order.

    12 MB for an hour of speech with the encoder that ships.

    Attributes:
        encoder: what they were computed by.
        descriptors: float32 (dim, frames).
        weights: float32 (rows, frames), if the pooling has weights.
        step: samples from frame to frame; frame n has its centre at ``n * step`` of the speech.
        spans: (segments, 2) samples of the recording that the speech was joined from.
    """

    encoder: FrameEncoder
    descriptors: np.ndarray
    weights: np.ndarray | None
    step: int
    spans: np.ndarray

    def __len__(self) -> int:
        return self.descriptors.shape[1]

    @property
    def seconds(self) -> float:
        """From frame to frame."""
        return self.step / SAMPLE_RATE

    @property
    def joints(self) -> np.ndarray:
        """(segments + 1,) samples of the joined speech where segments begin and the last ends."""
        return np.concatenate([[0], np.cumsum(self.spans[:, 1] - self.spans[:, 0])])

    def segments(self) -> np.ndarray:
        """(segments, 2) frames whose centres lie in each segment; some have none."""
        edges = np.minimum(-(-self.joints // self.step), len(self))
        return np.stack([edges[:-1], edges[1:]], axis=1)

    def windows(self, length: float, hop: float) -> np.ndarray:
        """(windows, 2) frames: windows that cover each segment, the last of which ends with it.

        Args:
            length: seconds of a window; of a shorter segment, all of it is one window.
            hop: seconds from window to window.
        """
        longest, step = (max(1, round(seconds / self.seconds)) for seconds in (length, hop))
        found = []
        for first, stop in self.segments().tolist():
            last = max(first, stop - longest)
            starts = [*range(first, last, step), last] if stop > first else []
            found += [(start, min(start + longest, stop)) for start in starts]
        return np.array(found).reshape(-1, 2)

    def around(self, reach: float) -> np.ndarray:
        """(frames, 2): the frames within ``reach`` seconds of each that are of its segment."""
        numbers, reach = np.arange(len(self)), round(reach / self.seconds)
        first, stop = np.repeat(self.segments(), np.diff(self.segments())[:, 0], axis=0).T
        return np.stack(
            [np.maximum(numbers - reach, first), np.minimum(numbers + reach + 1, stop)], axis=1
        )

    def sums(self, which: slice | np.ndarray) -> PoolingSums:
        """The sums of some frames: a span, or a mask (frames,) of any of them."""
        total = PoolingSums.empty(self.encoder.ends.pooling)
        for part in [which] if isinstance(which, slice) else _pieces(which):
            weights = None if self.weights is None else self.weights[:, part]
            total = total.add(self.descriptors[:, part], weights)
        return total

    def vector(self, which: slice | np.ndarray) -> np.ndarray:
        """float32 unit vector (dim,) of some frames, as ``sums`` takes them."""
        return self.encoder.finish(self.sums(which))

    def vectors(self, spans: np.ndarray) -> np.ndarray:
        """float32 unit vectors (spans, dim) of spans (spans, 2) of frames."""
        found = np.empty((len(spans), self.encoder.ends.dim), np.float32)
        for row, (start, stop) in enumerate(spans.tolist()):
            found[row] = self.vector(slice(start, stop))
        return found


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    """The numbers of the frames of a mask, a few thousand at a time."""
    numbers = np.flatnonzero(mask)
    return np.array_split(numbers, 1 + len(numbers) // PIECE)


def speech_frames(encoder: FrameEncoder, speech: SpeechWave, track: Track = silent) -> SpeechFrames:
    """Run the trunk once over the speech of a recording, of which a chunk is in memory.

    Args:
        encoder: network and what is around it.
        speech: at least one sample of it.
        track: reports progress, chunk by chunk.
    """
    num_chunks = max(1, round(speech.num_samples / SAMPLE_RATE / CHUNK_SECONDS))
    grid = encoder.ends.grid
    step = grid.hop * grid.stride
    # Speech that is shorter than the encoder takes is repeated; what is repeated is no frame.
    count = max(1, -(-speech.num_samples // step))
    # Filled as chunks come, so that hours of frames are in memory once: descriptors, then weights.
    rows, done, dim = np.empty((0, 0), np.float32), 0, 0
    for frames, weights in track(encoder.frames(speech, mirror=False), "listening", num_chunks):
        part = (frames if weights is None else np.concatenate([frames, weights]))[:, : count - done]
        if not done:
            rows, dim = np.empty((len(part), count), np.float32), len(frames)
        rows[:, done : done + part.shape[1]] = part
        done += part.shape[1]
    weights = rows[dim:, :done] if len(rows) > dim else None
    return SpeechFrames(encoder, rows[:dim, :done], weights, step, speech.spans)
