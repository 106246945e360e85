"""Sliding windows over a recording."""

import math
from typing import NamedTuple

import numpy as np

from speakervlad.audio.waves import SpeechWave
from speakervlad.errors import InputError


class Windows(NamedTuple):
    """Sliding windows instead of whole recordings, in seconds."""

    length: float
    hop: float


def window_spans(seconds: float, windows: Windows) -> np.ndarray:
    """(windows, 2) seconds: as many as cover the recording; the last ends with it.

    Raises:
        InputError: windows below 0.2 s, or a hop that is not positive.
    """
    if windows.length < 0.2 or not windows.hop > 0:
        raise InputError(
            f"window={windows.length}, hop={windows.hop}: windows last 0.2 s at least, and their "
            "hop is positive."
        )
    count = 1 + math.ceil(max(0.0, seconds - windows.length) / windows.hop - 1e-9)
    starts = np.arange(count) * windows.hop
    starts = starts[starts < seconds]
    return np.stack([starts, np.minimum(starts + windows.length, seconds)], axis=1)


def spoken_spans(spans: np.ndarray, speech: SpeechWave) -> np.ndarray:
    """Those of some spans of which at least half is speech.

    Raises:
        InputError: none is.
    """
    kept = spans[speech.seconds_in(spans) >= (spans[:, 1] - spans[:, 0]) / 2]
    if not len(kept):
        raise InputError("less than half of every window is speech. Take shorter windows.")
    return kept
