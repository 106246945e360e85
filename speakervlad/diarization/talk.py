"""Where somebody speaks, where two do and where the speaker changes: two detectors, one pass."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from speakervlad.audio.local_speakers import (
    FIRST_CENTRE,
    FIRST_PAIR,
    FRAME_SAMPLES,
    WINDOW_FRAMES,
    LocalSpeakerFinder,
    LocalSpeakers,
    Scores,
    batch_scores,
)
from speakervlad.audio.speech import FRAME_SAMPLES as SILERO_SAMPLES
from speakervlad.audio.speech import SpeechFinder
from speakervlad.sound import SAMPLE_RATE

FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE
# Speech is where so much of the segmentation's log odds and the rest of Silero's reach the bound.
SEGMENTATION_SHARE, BOUND = 0.7, -0.5
# It is clear enough to tell voices where the mean of both does.
CLEAR_SHARE = 0.5
# Shorter pauses count as speech, shorter speech is dropped. Seconds.
SHORTEST_PAUSE, SHORTEST_SPEECH = 0.2, 0.1
# Two speak at once from this probability on, for so many seconds at least.
OVERLAP, SHORTEST_OVERLAP = 0.5, 0.1
# Probabilities nearer to 0 or 1 count as this near.
SURE = 1e-3
# Windows that hear a change of speaker within so many seconds of each other hear the same one.
SAME_CHANGE = 0.1


@dataclass(frozen=True)
class Talk:
    """What two detectors heard in a recording; masks and times are of the frames of ``local``.

    Attributes:
        local: pyannote's segmentation.
        silero: float32 (frames,), Silero's probability of speech.
        share: of the segmentation's log odds, in those that decide what is speech.
        bound: that they exceed there.
    """

    local: LocalSpeakers
    silero: np.ndarray
    share: float = SEGMENTATION_SHARE
    bound: float = BOUND

    def speech(self) -> np.ndarray:
        """(frames,) bool: whether somebody speaks."""
        return smoothed(self.odds(self.share) > self.bound, SHORTEST_PAUSE, SHORTEST_SPEECH)

    def clear(self) -> np.ndarray:
        """(frames,) bool: whether speech is clear enough to tell whose it is."""
        return smoothed(self.odds(CLEAR_SHARE) > 0, SHORTEST_PAUSE, SHORTEST_SPEECH)

    def odds(self, share: float) -> np.ndarray:
        """(frames,) log odds of speech: so much of the segmentation's, the rest of Silero's."""
        return share * log_odds(self.local.speech) + (1 - share) * log_odds(self.silero)

    def overlap(self) -> np.ndarray:
        """(frames,) bool: whether two speak at once."""
        return smoothed(self.local.overlap > OVERLAP, 0.0, SHORTEST_OVERLAP)

    def changes(self) -> np.ndarray:
        """(frames,): in which share of the windows another speaker goes on near a frame's begin."""
        total, heard = np.zeros(len(self.local)), np.zeros(len(self.local))
        for start, classes in zip(self.local.starts.tolist(), self.local.classes, strict=True):
            part = slice(start, start + WINDOW_FRAMES)
            count = len(total[part])
            total[part] += _changes(classes[:count])
            heard[part] += 1
        reach = round(SAME_CHANGE / FRAME_SECONDS)
        near = np.convolve(total / np.maximum(heard, 1), np.ones(2 * reach + 1), "same")
        return near.clip(0, 1)


def listen(blocks: Iterable[np.ndarray], scores: Scores = batch_scores) -> Talk:
    """Hear a recording.

    Args:
        blocks: float32 samples (samples,) at 16 kHz that follow one another, of any lengths.
        scores: the segmentation's network.
    """
    local, silero = LocalSpeakerFinder(scores), _Listener()
    for block in blocks:
        local.add(block)
        silero.add(block)
    silero.finish()
    found = local.finish()
    middles = FIRST_CENTRE + FRAME_SAMPLES * np.arange(len(found))
    theirs = SILERO_SAMPLES * (np.arange(len(silero.heard)) + 0.5)
    heard = np.interp(middles, theirs, silero.heard) if len(found) else np.zeros(0)
    return Talk(found, heard.astype(np.float32))


class _Listener(SpeechFinder):
    """Keeps every probability."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    def probabilities(self, block: np.ndarray) -> list[float]:
        found = super().probabilities(block)
        self.heard += found
        return found


def _changes(classes: np.ndarray) -> np.ndarray:
    """Whether the speaker of each frame of a window is another than the last one who was alone."""
    alone = (classes > 0) & (classes < FIRST_PAIR)
    at = np.flatnonzero(alone)
    found = np.zeros(len(classes), bool)
    found[at[1:]] = classes[at[1:]] != classes[at[:-1]]
    return found


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """float64 natural logarithms of p / (1 - p)."""
    bounded = probabilities.astype(np.float64).clip(SURE, 1 - SURE)
    return np.log(bounded / (1 - bounded))


def runs(mask: np.ndarray) -> np.ndarray:
    """(runs, 2): first index of each run of True, and the one behind its last."""
    return np.flatnonzero(np.diff(np.pad(mask.astype(np.int8), 1))).reshape(-1, 2)


def smoothed(mask: np.ndarray, pause: float, sound: float) -> np.ndarray:
    """Without short runs: inner ones of False first, then those of True; in seconds."""
    smooth = mask.copy()
    for start, stop in runs(~mask).tolist():
        if start > 0 and stop < len(mask) and (stop - start) * FRAME_SECONDS < pause:
            smooth[start:stop] = True
    for start, stop in runs(smooth).tolist():
        if (stop - start) * FRAME_SECONDS < sound:
            smooth[start:stop] = False
    return smooth
