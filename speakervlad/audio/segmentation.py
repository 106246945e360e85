"""Where somebody speaks in a recording of any kind: ``speech`` of the Python API."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from speakervlad.audio.reading import counted_blocks
from speakervlad.audio.recording import Audio, blocks_of, name_of, split_channel
from speakervlad.audio.speech import SpeechFinder, speech_spans
from speakervlad.errors import InputError
from speakervlad.progress import Track, silent
from speakervlad.sound import SAMPLE_RATE


class Speech(NamedTuple):
    """Where somebody speaks in a recording.

    Attributes:
        segments: float64 (segments, 2), begin and end of each in seconds; sorted and apart.
        seconds: duration of the recording.
    """

    segments: np.ndarray
    seconds: float

    @property
    def spoken_seconds(self) -> float:
        """How long somebody speaks."""
        return float((self.segments[:, 1] - self.segments[:, 0]).sum())


def speech(
    audio: Audio, *, channel: int | None = None, sample_rate: float = SAMPLE_RATE
) -> np.ndarray:
    """Find where somebody speaks.

    The recording is read once, piece by piece: hours of it need no more memory than seconds.

    Args:
        audio: as for ``Embedder.embed``; silence too.
        channel: of a file with several; their mean by default.
        sample_rate: of samples, in Hz; files know their own.

    Returns:
        float64 (segments, 2), begin and end of each in seconds; sorted and apart. No rows where
        nobody speaks.

    Raises:
        InputError: the audio is missing, damaged or empty.
    """
    return find_speech(audio, channel=channel, sample_rate=sample_rate).segments


def find_speech(
    audio: Audio,
    *,
    channel: int | None = None,
    sample_rate: float = SAMPLE_RATE,
    track: Track = silent,
) -> Speech:
    """As ``speech``, with the duration of the recording; ``track`` reports progress.

    Raises:
        InputError: as ``speech``.
    """
    finder = SpeechFinder()
    counted = counted_blocks(split_channel(audio)[0]) if isinstance(audio, str | Path) else None
    blocks = track(blocks_of(audio, channel, sample_rate=sample_rate), "searching", counted)
    spans = list(speech_spans(blocks, finder))
    if not finder.num_samples:
        raise InputError(f"{name_of(audio)}: holds no samples.")
    segments = np.array(spans, np.float64).reshape(-1, 2) / SAMPLE_RATE
    return Speech(segments, finder.num_samples / SAMPLE_RATE)
