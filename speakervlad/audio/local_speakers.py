"""Which of up to three speakers speak, every 17 ms, in windows of 10 s: one, two at once, nobody.

The network is pyannote's segmentation-3.0 (https://huggingface.co/pyannote/segmentation-3.0, MIT;
Plaquet and Bredin, "Powerset multi-class cross entropy loss for neural speaker diarization",
Interspeech 2023), made into ONNX by ``recipes/segmentation``; it lies in ``pyannote/`` with its
licence. Who is speaker 0, 1 or 2 holds within a window only.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from speakervlad.onnx import graph_runner
from speakervlad.sound import SAMPLE_RATE
from speakervlad.threads import available_cores

# Samples from frame to frame, those that a frame is made from, and where the first has its centre.
FRAME_SAMPLES, SEEN_SAMPLES, FIRST_CENTRE = 270, 991, 495
# A window of 10 s, and frames from window to window: 2.4975 s, so that frames of windows coincide.
WINDOW_SAMPLES = 10 * SAMPLE_RATE
WINDOW_FRAMES = 1 + (WINDOW_SAMPLES - SEEN_SAMPLES) // FRAME_SAMPLES
STEP_FRAMES = 148
# Windows that the network hears at once, whose recurrent layers then cost less, and batches that
# are heard at the same time at most.
BATCH, MOST_BATCHES = 4, 8

# Whom each class of the network stands for: (classes, local speakers).
POWERSET = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], bool
)
# From here on classes stand for two at once.
FIRST_PAIR = 4


@dataclass(frozen=True)
class LocalSpeakers:
    """What the network says of a recording. 12 MB an hour.

    Attributes:
        num_samples: of the recording, at 16 kHz.
        starts: (windows,) first frame of each window.
        classes: uint8 (windows, frames of a window): rows of ``POWERSET``.
        speech: float32 (frames,), probability that somebody speaks, the mean of all windows.
        overlap: float32 (frames,), probability that two speak at once.
    """

    num_samples: int
    starts: np.ndarray
    classes: np.ndarray
    speech: np.ndarray
    overlap: np.ndarray

    def __len__(self) -> int:
        return len(self.speech)

    def edges(self) -> np.ndarray:
        """(frames + 1,) samples where frames begin and the last one ends."""
        return frame_edges(len(self), self.num_samples)

    def counts(self) -> np.ndarray:
        """(frames,) how many speak: the rounded mean over windows (pyannote's speaker count)."""
        total, heard = np.zeros(len(self)), np.zeros(len(self))
        speaking = POWERSET.sum(axis=1)
        for start, classes in zip(self.starts.tolist(), self.classes, strict=True):
            part = slice(start, start + WINDOW_FRAMES)
            count = len(total[part])
            total[part] += speaking[classes[:count]]
            heard[part] += 1
        return np.rint(total / heard).astype(int)


def frame_edges(num_frames: int, num_samples: int) -> np.ndarray:
    """(frames + 1,) samples where frames begin and the last one ends, half way between centres."""
    edges = FIRST_CENTRE - FRAME_SAMPLES // 2 + FRAME_SAMPLES * np.arange(num_frames + 1)
    edges[0], edges[-1] = 0, num_samples
    return edges


# Of windows of samples (windows, 160000), the logarithms of the probabilities of classes (windows,
# frames, classes); float32.
Scores = Callable[[np.ndarray], np.ndarray]


def scores_by(run: Callable[[np.ndarray], np.ndarray]) -> Scores:
    """What runs ``network_file`` as ``Scores``."""
    return lambda windows: run(windows[:, None])


def batch_scores(windows: np.ndarray) -> np.ndarray:
    """``Scores`` in onnxruntime."""
    return scores_by(graph_runner(network_file()))(windows)


def window_scores(window: np.ndarray) -> np.ndarray:
    """The same of one window of samples (160000,): float32 (frames, classes)."""
    return batch_scores(window[None])[0]


class LocalSpeakerFinder:
    """Hears samples that arrive piece by piece; one for each recording.

    Windows are heard in batches, on all cores; the last 10 s are kept until the end, which the last
    window ends with.

    Args:
        scores: the network. Several threads call it.

    Attributes:
        num_samples: how many have arrived.
    """

    def __init__(self, scores: Scores = batch_scores) -> None:
        self._scores = scores
        self._batches = min(available_cores(), MOST_BATCHES)
        self._unheard: list[np.ndarray] = []
        self.num_samples = 0
        self._waiting = np.zeros(0, np.float32)
        # First sample of what waits, and first frame of the next window.
        self._begin = self._next = 0
        self._starts: list[int] = []
        self._windows: list[Heard] = []

    def add(self, samples: np.ndarray) -> None:
        """Hear float32 samples (samples,) at 16 kHz."""
        self.num_samples += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        while self._next * FRAME_SAMPLES + WINDOW_SAMPLES <= self.num_samples:
            self._hear(self._next)
            self._next += STEP_FRAMES
        # What the last window may need, which begins where the recording allows.
        needless = max(0, self.num_samples - WINDOW_SAMPLES - FRAME_SAMPLES) - self._begin
        needless = min(needless, self._next * FRAME_SAMPLES - self._begin)
        if needless > 0:
            self._waiting, self._begin = self._waiting[needless:], self._begin + needless

    def finish(self) -> LocalSpeakers:
        """What was heard when the recording ends; no frames of no samples."""
        count = 1 + max(0, self.num_samples - SEEN_SAMPLES) // FRAME_SAMPLES
        count = count if self.num_samples else 0
        last = max(0, count - WINDOW_FRAMES)
        if count and (not self._starts or self._starts[-1] < last):
            self._hear(last)
        self._hear_batches()
        return merged(self.num_samples, count, np.array(self._starts, int), self._windows)

    def _hear(self, start: int) -> None:
        begin = start * FRAME_SAMPLES - self._begin
        window = self._waiting[begin : begin + WINDOW_SAMPLES]
        self._starts.append(start)
        self._unheard.append(np.pad(window, (0, WINDOW_SAMPLES - len(window))))
        if len(self._unheard) == BATCH * self._batches:
            self._hear_batches()

    def _hear_batches(self) -> None:
        """Hear what waits; how it is divided depends on the recording alone."""
        waiting, self._unheard = self._unheard, []
        batches = [np.stack(waiting[at : at + BATCH]) for at in range(0, len(waiting), BATCH)]
        with ThreadPoolExecutor(self._batches) as pool:
            for scores in pool.map(self._scores, batches):
                self._windows += map(heard_in, scores)


class Heard(NamedTuple):
    """A window.

    Attributes:
        classes: uint8 (frames,), rows of ``POWERSET``.
        probabilities: float16 (2, frames), that somebody speaks, and that two do.
    """

    classes: np.ndarray
    probabilities: np.ndarray


def hear_window(samples: np.ndarray, scores: Scores = batch_scores) -> Heard:
    """What the network says of a window of float32 samples (160000,)."""
    return heard_in(scores(samples[None])[0])


def heard_in(scores: np.ndarray) -> Heard:
    """The same of ``window_scores``."""
    probabilities = np.exp(scores.T)
    two = probabilities[FIRST_PAIR:].sum(axis=0)
    heard = np.stack([1 - probabilities[0], two]).astype(np.float16)
    return Heard(scores.argmax(axis=1).astype(np.uint8), heard)


def merged(
    num_samples: int, num_frames: int, starts: np.ndarray, windows: Sequence[Heard]
) -> LocalSpeakers:
    """What windows say together: the means of their probabilities, 0 where there is none.

    Args:
        num_samples: that the frames are of, at 16 kHz.
        num_frames: how many there are.
        starts: (windows,) first frame of each window.
        windows: what was heard in them.
    """
    total = np.zeros((2, num_frames), np.float32)
    heard = np.zeros(num_frames, np.float32)
    for start, (_, probabilities) in zip(starts.tolist(), windows, strict=True):
        part = slice(start, start + WINDOW_FRAMES)
        total[:, part] += probabilities[:, : len(heard[part])]
        heard[part] += 1
    classes = np.array([each.classes for each in windows], np.uint8).reshape(-1, WINDOW_FRAMES)
    return LocalSpeakers(num_samples, starts, classes, *(total / np.maximum(heard, 1)))


def local_speakers(blocks: Iterable[np.ndarray], scores: Scores = batch_scores) -> LocalSpeakers:
    """What the network says of a recording.

    Args:
        blocks: float32 samples (samples,) at 16 kHz that follow one another, of any lengths.
        scores: see ``LocalSpeakerFinder``.
    """
    finder = LocalSpeakerFinder(scores)
    for block in blocks:
        finder.add(block)
    return finder.finish()


@cache
def network_file() -> bytes:
    """The network, an ONNX file of ``samples`` (windows, 1, samples) to ``scores``."""
    return (files("speakervlad.audio") / "pyannote" / "segmentation_3.onnx").read_bytes()
