"""What was said last, every half second of speech: sums that add up to those of any window."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from speakervlad.audio.samples import Samples
from speakervlad.audio.waves import SampleWave
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.stream import EncoderStream
from speakervlad.models.sums import PoolingSums
from speakervlad.sound import SAMPLE_RATE

# Seconds of speech from hop to hop, and of what the network hears to the end of each.
HOP, WINDOW = 0.5, 1.5
# The network does not hear over longer pauses, behind which somebody else may speak. Seconds.
PAUSE = 0.5
# Less before a pause is no hop of its own, but goes with the one before.
LEAST = 0.25
# Samples are heard in pieces of at most so many seconds, of which nothing is forgotten.
PIECE = 1.0


class Hop(NamedTuple):
    """Half a second of speech, or what was left of it before a pause.

    Attributes:
        start: when it begins, in seconds of the recording.
        end: when it ends.
        begins: whether it is the first after a pause.
        seconds: of its speech.
        sums: of its frames, of which the network heard the 1.5 s to its end at most.
    """

    start: float
    end: float
    begins: bool
    seconds: float
    sums: PoolingSums


class Hops:
    """The hops of a stream, each as soon as its speech is certain.

    Args:
        frames: makes the vectors.
        stream: takes the samples.
    """

    def __init__(self, frames: FrameEncoder, stream: EncoderStream) -> None:
        self.frames = frames
        self.stream = stream
        # Samples of the speech: where it went on after the last pause, and what hops have had.
        self._begin = self._done = stream.num_spoken

    def add(self, samples: Samples) -> Iterator[Hop]:
        """Hear samples, see ``EncoderStream.add``, and yield the hops that are complete now."""
        piece = max(1, round(PIECE * self.stream.sample_rate))
        count = len(samples)
        for start in range(0, max(count, 1), piece):
            self.stream.add(samples if count <= piece else samples[start : start + piece])
            yield from self._complete()

    def finish(self) -> Iterator[Hop]:
        """Yield what is left when the recording ends."""
        self.stream.finish()
        yield from self._complete()
        yield from self._until(self.stream.num_spoken)

    def _complete(self) -> Iterator[Hop]:
        hop, pause = round(HOP * SAMPLE_RATE), round(PAUSE * SAMPLE_RATE)
        while True:
            end, pauses = self._done + hop, self.stream.pause_behind(self._done, pause)
            if pauses is not None and pauses <= end:
                yield from self._until(pauses)
                self._begin = self._done = pauses
            elif end <= self.stream.num_spoken:
                yield self._hop(end)
            else:
                return

    def _until(self, end: int) -> Iterator[Hop]:
        """What is left before a pause, if it is enough."""
        least = round(LEAST * SAMPLE_RATE)
        if end - self._done >= least:
            yield self._hop(end)

    def _hop(self, end: int) -> Hop:
        begin = max(self._begin, end - round(WINDOW * SAMPLE_RATE))
        sums = last_sums(self.frames, self.stream.spoken(begin, end), end - self._done)
        start, place = (
            self.stream.place_of(self._done) / SAMPLE_RATE,
            self.stream.place_of(end, is_end=True) / SAMPLE_RATE,
        )
        begins = self._done == self._begin
        seconds = (end - self._done) / SAMPLE_RATE
        self._done = end
        return Hop(start, place, begins, seconds, sums)


def last_sums(encoder: FrameEncoder, samples: np.ndarray, count: int) -> PoolingSums:
    """The sums of the frames of the last samples, heard with those before them.

    Args:
        encoder: makes the frames; of a network without frames, the one of all samples counts in
            their place, with the weight of the last ones.
        samples: float32 (samples,) at 16 kHz.
        count: how many are the last.
    """
    grid, parts = encoder.ends.grid, list(encoder.frames_of(SampleWave(samples), mirror=False))
    frames = np.concatenate([frames for frames, _ in parts], axis=1)
    weights = (
        np.concatenate([weights for _, weights in parts if weights is not None], axis=1)
        if parts[0][1] is not None
        else None
    )
    empty = PoolingSums.empty(encoder.ends.pooling)
    if not grid.has_frames:
        return empty.add(frames, None if weights is None else weights * count / len(samples))
    before = (len(samples) - count) / SAMPLE_RATE
    first = min(int(np.searchsorted(grid.times(frames.shape[1]), before)), frames.shape[1] - 1)
    return empty.add(frames[:, first:], None if weights is None else weights[:, first:])
