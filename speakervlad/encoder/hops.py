"""What was said last, every half second of speech: windows whose sums add up to longer ones."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from speakervlad.audio.samples import Samples
from speakervlad.audio.waves import SampleWave
from speakervlad.encoder.frames import FrameEncoder
from speakervlad.encoder.stream import EncoderStream
from speakervlad.models.sums import PoolingSums
from speakervlad.sound import SAMPLE_RATE

# Seconds of speech from hop to hop, and of the window that ends with each.
HOP, WINDOW = 0.5, 1.5
# Hops of a window; the windows of hops so far apart do not overlap.
APART = round(WINDOW / HOP)
# Windows do not reach over longer pauses, behind which somebody else may speak. Seconds.
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
        seconds: of speech in its window.
        sums: of the window of at most 1.5 s that ends with it.
        vector: float32 unit vector (dim,) of the window.
    """

    start: float
    end: float
    begins: bool
    seconds: float
    sums: PoolingSums
    vector: np.ndarray


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
        sums = self.frames.sums(SampleWave(self.stream.spoken(begin, end)))
        start, place = (
            self.stream.place_of(self._done) / SAMPLE_RATE,
            self.stream.place_of(end, is_end=True) / SAMPLE_RATE,
        )
        begins = self._done == self._begin
        self._done = end
        seconds = (end - begin) / SAMPLE_RATE
        return Hop(start, place, begins, seconds, sums, self.frames.finish(sums))
