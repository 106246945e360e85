"""Where somebody speaks: a network's probability of speech every 32 ms, and spans made of it.

The network is Silero VAD 6.2.3 (https://github.com/snakers4/silero-vad, MIT) in the form that takes
many frames at a time; it lies in ``silero/`` with its licence. A recording is heard from its
beginning, in blocks of one size, so how its samples arrive changes nothing, and a stream finds what
is found in the file.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from speakervlad.errors import InputError
from speakervlad.onnx import open_session
from speakervlad.sound import SAMPLE_RATE

FRAME_SAMPLES = 512
# Samples of the frame before that the network sees as well.
CONTEXT_SAMPLES = 64
# Of a block, 0.26 s: what a stream waits for. As fast as longer ones.
BLOCK_FRAMES = 8
STATE = (1, 1, 128)
# Probabilities that are kept, 20 s.
RECENT_FRAMES = 625

# Speech begins with a frame of at least the first probability and goes on with at least the second.
BEGIN, GO_ON = 0.5, 0.35
# Shorter pauses count as speech, shorter speech is dropped.
PAUSE_FRAMES, SPEECH_FRAMES = 8, 4
# Speech is taken from a little before its first frame to a little behind its last.
MARGIN_SAMPLES = 512

# With less, a voice can hardly be recognised, and it may be noise.
MIN_SPEECH_SECONDS = 0.25

Span = tuple[int, int]


class SpeechFinder:
    """Finds speech in samples that arrive piece by piece; one for each recording.

    Attributes:
        num_samples: how many have arrived.
        recent: probabilities of speech in the last frames.
    """

    def __init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)
        self._hidden = self._cell = np.zeros(STATE, np.float32)
        self.num_samples: int = 0
        self._num_frames = 0
        # First and last frame and one of the speech that has not ended yet.
        self._begin: int | None = None
        self._end = 0
        self.recent: deque[float] = deque(maxlen=RECENT_FRAMES)

    def add(self, samples: np.ndarray) -> list[Span]:
        """Hear float32 samples (samples,) at 16 kHz.

        Returns:
            The speech that has ended by now and was not returned before, as first sample and the
            one behind the last, counted from the first ``add``.
        """
        self.num_samples += len(samples)
        waiting = np.concatenate([self._waiting, samples])
        size = BLOCK_FRAMES * FRAME_SAMPLES
        stop = len(waiting) // size * size
        self._waiting = waiting[stop:]
        blocks = (waiting[start : start + size] for start in range(0, stop, size))
        return [span for block in blocks for span in self._hear(block)]

    def finish(self) -> list[Span]:
        """The speech that has not ended when the recording ends."""
        rest = np.pad(self._waiting, (0, -len(self._waiting) % FRAME_SAMPLES))
        return [*(self._hear(rest) if len(rest) else ()), *self._close()]

    @property
    def going_on(self) -> Span | None:
        """The speech that has not ended, up to where it is certain; None where there is none."""
        return None if self._begin is None else self._span(self._begin)

    @property
    def num_frames(self) -> int:
        """How many frames have a probability."""
        return self._num_frames

    @property
    def needed_from(self) -> int:
        """The first sample that speech which was not returned yet may begin with."""
        begin = self._num_frames if self._begin is None else self._begin
        return max(0, begin * FRAME_SAMPLES - MARGIN_SAMPLES)

    def state(self) -> dict[str, np.ndarray]:
        """What it remembers, for ``restore``."""
        begin = -1 if self._begin is None else self._begin
        return {
            "waiting": self._waiting,
            "context": self._context,
            "hidden": self._hidden,
            "cell": self._cell,
            "counts": np.array([self.num_samples, self._num_frames, begin, self._end], np.int64),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where the finder was that gave this state.

        Raises:
            KeyError, ValueError: it is none.
        """
        sizes = {"context": (CONTEXT_SAMPLES,), "hidden": STATE, "cell": STATE}
        found = {
            name: np.asarray(state[name], np.float32).reshape(size) for name, size in sizes.items()
        }
        self._context, self._hidden, self._cell = found.values()
        self._waiting = np.asarray(state["waiting"], np.float32).reshape(-1)
        counts = np.asarray(state["counts"], np.int64).reshape(4).tolist()
        self.num_samples, self._num_frames, begin, self._end = counts
        self._begin = None if begin < 0 else begin

    def probabilities(self, block: np.ndarray) -> list[float]:
        """Of speech in each of the frames that follow: whole ones, float32 (samples,)."""
        frames = block.reshape(-1, FRAME_SAMPLES)
        contexts = np.concatenate([self._context[None], frames[:-1, -CONTEXT_SAMPLES:]])
        self._context = frames[-1, -CONTEXT_SAMPLES:]
        heard = {"input": np.concatenate([contexts, frames], axis=1)}
        state = {"h": self._hidden, "c": self._cell}
        probabilities, self._hidden, self._cell = _network().run(
            ("speech_probs", "hn", "cn"), heard | state
        )
        return probabilities.reshape(-1).tolist()

    def _hear(self, block: np.ndarray) -> Iterator[Span]:
        probabilities = self.probabilities(block)
        for frame, probability in enumerate(probabilities, self._num_frames):
            if self._begin is None and probability >= BEGIN:
                self._begin = frame
            if self._begin is not None:
                if probability >= GO_ON:
                    self._end = frame + 1
                elif frame + 1 - self._end >= PAUSE_FRAMES:
                    yield from self._close()
        self._num_frames += len(probabilities)
        self.recent.extend(probabilities)

    def _close(self) -> Iterator[Span]:
        begin, self._begin = self._begin, None
        span = None if begin is None else self._span(begin)
        if span is not None:
            yield span

    def _span(self, begin: int) -> Span | None:
        """The speech from a frame to the last that is certain; None if that is too short."""
        if self._end - begin < SPEECH_FRAMES:
            return None
        stop = self._end * FRAME_SAMPLES + MARGIN_SAMPLES
        return max(0, begin * FRAME_SAMPLES - MARGIN_SAMPLES), min(stop, self.num_samples)


def speech_spans(
    blocks: Iterable[np.ndarray], finder: SpeechFinder | None = None
) -> Iterator[Span]:
    """Yield where somebody speaks, each span as soon as it has ended.

    Args:
        blocks: float32 samples (samples,) at 16 kHz that follow one another, of any lengths.
        finder: A new one, for callers who ask it afterwards how many samples there were.

    Yields:
        First sample and the one behind the last; in order, apart.
    """
    finder = finder or SpeechFinder()
    for block in blocks:
        yield from finder.add(block)
    yield from finder.finish()


class Speech(NamedTuple):
    """Where somebody speaks in a recording.

    Attributes:
        spans: int64 (segments, 2), first sample of each and the one behind its last; sorted, apart.
        num_samples: of the recording.
    """

    spans: np.ndarray
    num_samples: int

    @property
    def segments(self) -> np.ndarray:
        """float64 (segments, 2), begin and end of each in seconds."""
        return self.spans.astype(np.float64) / SAMPLE_RATE

    @property
    def seconds(self) -> float:
        """Duration of the recording."""
        return self.num_samples / SAMPLE_RATE

    @property
    def spoken_seconds(self) -> float:
        """How long somebody speaks."""
        return float((self.segments[:, 1] - self.segments[:, 0]).sum())


def find_spans(blocks: Iterable[np.ndarray]) -> Speech:
    """Where somebody speaks in float32 samples (samples,) at 16 kHz that follow one another."""
    finder = SpeechFinder()
    spans = list(speech_spans(blocks, finder))
    return Speech(np.array(spans, np.int64).reshape(-1, 2), finder.num_samples)


def spoken_blocks(blocks: Iterable[np.ndarray], spans: Iterable[Span]) -> Iterator[np.ndarray]:
    """Yield what lies in spans of blocks that follow one another, nothing of which is kept."""
    waiting, begin = iter(spans), 0
    start, stop = next(waiting, (0, 0))
    for block in blocks:
        end = begin + len(block)
        while start < end and start < stop:
            yield block[max(start - begin, 0) : stop - begin]
            if stop > end:
                break
            start, stop = next(waiting, (0, 0))
        begin = end


def check_spoken(num_spoken: int, num_samples: int, name: str, num_channels: int = 1) -> None:
    """Refuse a recording in which hardly anybody speaks.

    Args:
        num_spoken: samples of speech.
        num_samples: all samples.
        name: of the recording.
        num_channels: of its file.

    Raises:
        InputError: less than `MIN_SPEECH_SECONDS` of speech.
    """
    if num_spoken < MIN_SPEECH_SECONDS * SAMPLE_RATE:
        way_out = ", or choose a channel" if num_channels > 1 else ""
        raise InputError(
            f"{name}: {num_spoken / SAMPLE_RATE:.2f} s of speech found in "
            f"{num_samples / SAMPLE_RATE:.2f} s, at least {MIN_SPEECH_SECONDS:g} s are needed. "
            f"Record again{way_out}."
        )


@cache
def _network() -> Any:  # noqa: ANN401 - onnxruntime has no types
    """One for all recordings and threads: what it remembers of a recording is handed to it."""
    data = (files("speakervlad.audio") / "silero" / "silero_vad_16k_sequence.onnx").read_bytes()
    return open_session(data, threads=1)
