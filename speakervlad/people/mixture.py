"""Two voices in one recording: found from the frames of its speech, with the times of both.

Windows of its speech are parted in two by their vectors, again and again until that changes
nothing; where the frames of both parts make vectors that are farther apart than those of one voice,
two people speak. Measured on development recordings: benchmarks/README.md.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from speakervlad.audio.recording import Recording
from speakervlad.audio.waves import SpeechWave
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.models.sums import PoolingSums
from speakervlad.sound import SAMPLE_RATE

# Seconds of a window, and from window to window; so many windows at most, however long it lasts.
WINDOW, HOP = 1.0, 0.25
MOST_WINDOWS = 400
# A voice speaks so many seconds at least, and such a share of all speech; less tells too little.
LEAST_SECONDS, LEAST_SHARE = 1.0, 0.05
# Seconds of speech for which the cosine of two vectors of a voice is half of what it may become.
HALF_KNOWN = 1.5
PASSES = 10

Span = tuple[float, float]


@dataclass(frozen=True)
class Mixture:
    """Two voices of one recording.

    Attributes:
        cosine: of both, as it would be after long speech.
        spans: begins and ends in seconds, of the voice that speaks first and of the other.
    """

    cosine: float
    spans: tuple[tuple[Span, ...], tuple[Span, ...]]

    @property
    def words(self) -> str:
        """When each of them speaks."""
        one, other = (describe_spans(spans) for spans in self.spans)
        return f"two voices, one at {one}, another at {other} (cosine {self.cosine:.2f})"


def describe_spans(spans: tuple[Span, ...], limit: int = 4) -> str:
    """``0.0-4.1, 9.0-12.5 s``."""
    shown = ", ".join(f"{begin:.1f}-{end:.1f}" for begin, end in spans[:limit])
    return f"{shown}{', ...' if len(spans) > limit else ''} s"


class Frames(NamedTuple):
    """Frames of speech: descriptors (dim, frames), weights (rows, frames), and times.

    Attributes:
        encoder: what they were computed by.
        descriptors: float32 (dim, frames).
        weights: float32 (rows, frames), if the pooling has weights.
        times: (frames,) seconds of their centres in the recording.
        step: seconds from frame to frame.
    """

    encoder: FrameEncoder
    descriptors: np.ndarray
    weights: np.ndarray | None
    times: np.ndarray
    step: float

    def vector(self, which: slice | np.ndarray) -> np.ndarray:
        """float32 unit vector (dim,) of a span of frames, or of those of a mask."""
        weights = None if self.weights is None else self.weights[:, which]
        empty = PoolingSums.empty(self.encoder.ends.pooling)
        return self.encoder.finish(empty.add(self.descriptors[:, which], weights))


def listen(encoder: FrameEncoder, recording: Recording) -> tuple[PoolingSums, Frames]:
    """The sums of what is heard of a recording, and the frames of its speech, in one pass.

    Raises:
        InputError: it cannot be embedded, or hardly anybody speaks in it.
    """
    wave, speech, grid = recording.wave, recording.speech, encoder.ends.grid
    if not grid.has_frames:
        return encoder.sums(wave), _window_frames(encoder, speech)
    empty = sums = PoolingSums.empty(encoder.ends.pooling)
    kept, weighted, centres = [], [], []
    for start, part in encoder.parts(wave):
        # Behind them are those of the mirrored part, or of one that is repeated for its shortness.
        of_part, own = empty, grid.num_frames(part.num_samples)
        centres.append(start + grid.times(own) * SAMPLE_RATE)
        for frames, weights in encoder.frames_of(part, mirror=encoder.ends.front_end.mirror):
            of_part = of_part.add(frames, weights)
            left = slice(0, max(0, own))
            kept.append(frames[:, left])
            weighted.append(weights if weights is None else weights[:, left])
            own -= frames.shape[1]
        sums = sums.merge(of_part)
    descriptors = np.concatenate(kept, axis=1)
    weights = None if weighted[0] is None else np.concatenate(weighted, axis=1)
    times, spoken = _times(np.concatenate(centres), speech, speech_only=recording.speech_only)
    return sums, Frames(
        encoder,
        descriptors[:, spoken],
        None if weights is None else weights[:, spoken],
        times[spoken],
        grid.hop * grid.stride / SAMPLE_RATE,
    )


def _window_frames(encoder: FrameEncoder, speech: SpeechWave) -> Frames:
    """What stands for the frames of a network without frames: the vectors of windows of speech."""
    hop = max(HOP, speech.num_samples / SAMPLE_RATE / MOST_WINDOWS)
    parts = list(encoder.window_frames(speech, 0, speech.num_samples, WINDOW, hop))
    centres, vectors, weights = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    times, _ = _times(centres, speech, speech_only=True)
    step = speech.num_samples / SAMPLE_RATE / len(times)
    return Frames(encoder, vectors, weights, times, step)


def _times(
    centres: np.ndarray, speech: SpeechWave, *, speech_only: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds in the recording of samples (frames,), and whether somebody speaks there."""
    begins, ends = speech.spans.T
    if not speech_only:
        row = np.searchsorted(begins, centres, "right") - 1
        return centres / SAMPLE_RATE, (row >= 0) & (centres < ends[row])
    joints = np.concatenate([[0], np.cumsum(ends - begins)])
    row = np.clip(np.searchsorted(joints, centres, "right") - 1, 0, len(begins) - 1)
    return (centres - joints[row] + begins[row]) / SAMPLE_RATE, centres < joints[-1]


def find_mixture(frames: Frames, apart: float) -> Mixture | None:
    """Both voices of a recording in which two people speak; None where one does.

    Args:
        frames: its speech.
        apart: cosine below which two voices are two people's; -1 where it is not known.
    """
    if apart <= -1:
        return None
    windows = _windows(frames)
    if len(windows) < 3:
        return None
    vectors = np.stack([frames.vector(slice(*window)) for window in windows.tolist()])
    found = [
        each for start in _starts(vectors) if (each := _parted(frames, windows, vectors, start))
    ]
    if not found:
        return None
    cosine, labels = min(found, key=lambda each: each[0])
    return Mixture(cosine, _spans(frames, labels)) if cosine < apart else None


def _windows(frames: Frames) -> np.ndarray:
    """(windows, 2) first frame of each and the one behind its last."""
    count = len(frames.times)
    length = max(1, round(WINDOW / frames.step))
    hop = max(1, round(HOP / frames.step), -(-count // MOST_WINDOWS))
    last = max(0, count - length)
    starts = np.unique([*range(0, last, hop), last])
    return np.stack([starts, np.minimum(starts + length, count)], axis=1)


def _starts(vectors: np.ndarray) -> list[np.ndarray]:
    """Masks (windows,) to begin with: by the direction of most variance, and by two far ones."""
    directions, _, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    cosines = vectors @ vectors.T
    one, other = np.unravel_index(cosines.argmin(), cosines.shape)
    along = directions[:, 0]
    return [along > 0, along > np.median(along), cosines[one] >= cosines[other]]


def _parted(
    frames: Frames, windows: np.ndarray, vectors: np.ndarray, start: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """The cosine of both parts, and which frames (frames,) are of the first; None if one is small.

    The less somebody says, the lower is a cosine, with the same voice too: it is divided by what is
    expected of so much speech, as diarization does.
    """
    first = start
    for _ in range(PASSES):
        if first.all() or not first.any():
            return None
        direction = _unit(vectors[first].mean(axis=0)) - _unit(vectors[~first].mean(axis=0))
        before, first = first, vectors @ direction > 0
        if (before == first).all():
            break
    labels = _majority(windows, vectors @ direction, len(frames.times))
    # Once more, from what all frames of a part say together.
    both = _vectors_of(frames, labels)
    if both is None:
        return None
    labels = _majority(windows, vectors @ (both[0] - both[1]), len(frames.times))
    both = _vectors_of(frames, labels)
    if both is None:
        return None
    seconds = np.array([labels.sum(), (~labels).sum()]) * frames.step
    expected = np.sqrt(np.prod(seconds / (seconds + HALF_KNOWN)))
    return float(both[0] @ both[1] / expected), labels


def _vectors_of(frames: Frames, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The vectors of both parts; None if one of them is too small to tell much."""
    seconds = np.array([labels.sum(), (~labels).sum()]) * frames.step
    if seconds.min() < max(LEAST_SECONDS, LEAST_SHARE * seconds.sum()):
        return None
    return frames.vector(labels), frames.vector(~labels)


def _majority(windows: np.ndarray, votes: np.ndarray, count: int) -> np.ndarray:
    """(frames,) bool: whether the windows around a frame vote for the first part."""
    ends = np.zeros(count + 1)
    np.add.at(ends, windows[:, 0], votes)
    np.subtract.at(ends, windows[:, 1], votes)
    return np.cumsum(ends)[:-1] > 0


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-12)


def _spans(frames: Frames, labels: np.ndarray) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """When each part is heard: runs of its frames, over pauses that are shorter than a window."""
    changes = (labels[1:] != labels[:-1]) | (np.diff(frames.times) > WINDOW)
    begins = np.concatenate([[0], np.flatnonzero(changes) + 1])
    ends = np.append(begins[1:], len(labels)) - 1
    half, times = frames.step / 2, frames.times.tolist()
    runs = [
        (bool(labels[begin]), (round(times[begin] - half, 2), round(times[end] + half, 2)))
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    ]
    first = runs[0][0]
    one, other = (
        tuple((max(0.0, begin), end) for label, (begin, end) in runs if label == part)
        for part in (first, not first)
    )
    return one, other
