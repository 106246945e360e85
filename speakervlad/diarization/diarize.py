"""A recording in, the turns of its speakers out."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.data.audio import SAMPLE_RATE, audio_info
from speakervlad.data.speech import speech_spans
from speakervlad.diarization.clustering import find_clusters
from speakervlad.diarization.frames import SpeechFrames, speech_frames
from speakervlad.diarization.resegmentation import resegment
from speakervlad.errors import InputError, check_range
from speakervlad.evaluation.turns import Turn, Turns
from speakervlad.extras import require
from speakervlad.inference.engine import Embedder, load_encoder
from speakervlad.inference.waves import Audio, blocks_of, open_wave
from speakervlad.progress import Track, silent

if TYPE_CHECKING:
    from speakervlad.people import PeopleStore

# A speaker's turns with a shorter pause between them are one.
PAUSE = 0.25


@dataclass(frozen=True)
class Speakers:
    """How many speakers there may be.

    Attributes:
        least: at least so many.
        most: at most so many.
        seconds: what one must say in all; shorter sounds are given to others.
    """

    least: int = 1
    most: int = 20
    seconds: float = 2.0

    def __post_init__(self) -> None:
        check_range("min_speakers", self.least, at_least=1)
        check_range("max_speakers", self.most, at_least=self.least)
        check_range("min_seconds", self.seconds, at_least=0.2)
