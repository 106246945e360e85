"""The speech of a recording as frames of one pass of the trunk, and sums over any of them."""

from dataclasses import dataclass

import numpy as np

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.inference.frames import FrameEncoder
from speakervlad.inference.waves import Wave
from speakervlad.models.sums import PoolingSums
from speakervlad.progress import Track, silent


class SpeechWave:
    """The speech of a wave without what is between.

    Args:
        wave: the whole recording.
        spans: (segments, 2) samples, sorted and disjoint.
    """

    def __init__(self, wave: Wave, spans: np.ndarray) -> None:
        self.wave = wave
        self.spans = spans
        # Where each segment begins once they are joined, and where the last ends.
        self.joints = np.concatenate([[0], np.cumsum(spans[:, 1] - spans[:, 0])])
        self.num_samples = int(self.joints[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        first = int(np.searchsorted(self.joints, start, "right")) - 1
        last = int(np.searchsorted(self.joints, stop, "left"))
        parts = [np.zeros(0, np.float32)]
        for row in range(first, last):
            shift = int(self.spans[row, 0] - self.joints[row])
            begin = max(start, int(self.joints[row])) + shift
            end = min(stop, int(self.joints[row + 1])) + shift
            parts.append(self.wave.read(begin, end))
        return np.concatenate(parts)


@dataclass(frozen=True)
class SpeechFrames:
    """Descriptors and pooling weights of all speech of a recording, in its order.

    12 MB for an hour of speech with the encoder that ships.

    Attributes:
        encoder: what they were computed by.
        descriptors: float32 (dim, frames).
        weights: float32 (rows, frames), if the pooling has weights.
        step: samples from frame to frame; frame n has its centre at ``n * step`` of the joined
            speech.
        spans: (segments, 2) samples of the recording that the speech was joined from.
        joints: (segments + 1,) samples of the joined speech where they begin and the last ends.
    """

    encoder: FrameEncoder
    descriptors: np.ndarray
    weights: np.ndarray | None
    step: int
    spans: np.ndarray
    joints: np.ndarray

    def __len__(self) -> int:
        return self.descriptors.shape[1]

    @property
    def seconds(self) -> float:
        """From frame to frame."""
        return self.step / SAMPLE_RATE

    def frame_spans(self) -> np.ndarray:
        """(segments, 2) frames whose centres lie in each segment; some have none."""
        edges = np.minimum(-(-self.joints // self.step), len(self))
        return np.stack([edges[:-1], edges[1:]], axis=1)

    def sums(self, which: slice | np.ndarray) -> PoolingSums:
        """The sums of some frames."""
        weights = None if self.weights is None else self.weights[:, which]
        empty = PoolingSums.empty(self.encoder.ends.pooling)
        return empty.add(self.descriptors[:, which], weights)

    def vector(self, which: slice | np.ndarray) -> np.ndarray:
        """float32 unit vector (dim,) of some frames."""
        return self.encoder.finish(self.sums(which))

    def vectors(self, spans: np.ndarray) -> np.ndarray:
        """float32 unit vectors (spans, dim) of spans (spans, 2) of frames."""
        return np.stack([self.vector(slice(start, stop)) for start, stop in spans.tolist()])


def speech_frames(
    encoder: FrameEncoder, wave: Wave, segments: np.ndarray, track: Track = silent
) -> SpeechFrames:
    """Run the trunk once over the speech of a recording.

    Args:
        encoder: network and what is around it.
        wave: the recording.
        segments: (segments, 2) seconds of speech, sorted and disjoint; at least one.
        track: reports progress.
    """
    spans = np.rint(segments * SAMPLE_RATE).astype(int).clip(0, wave.num_samples)
    spans = spans[spans[:, 1] > spans[:, 0]]
    speech = SpeechWave(wave, spans)
    parts = list(track(encoder.frames(speech, mirror=False), "listening"))
    weights = [weights for _, weights in parts if weights is not None]
    grid = encoder.ends.grid
    step = grid.hop * grid.stride
    # A short recording is repeated to the encoder's least length; what is repeated is no frame.
    count = max(1, -(-speech.num_samples // step))
    return SpeechFrames(
        encoder,
        np.concatenate([frames for frames, _ in parts], axis=1)[:, :count],
        np.concatenate(weights, axis=1)[:, :count] if weights else None,
        step,
        spans,
        speech.joints,
    )
