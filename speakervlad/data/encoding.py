"""Waveforms to audio files."""

import io
from pathlib import Path

import numpy as np
import soundfile

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.files import atomic_path


def write_audio(path: Path, samples: np.ndarray, *, subtype: str = "PCM_16") -> None:
    """Write mono samples (samples,) at 16 kHz in the format of the suffix; all of them or nothing.

    Raises:
        InputError: ``path`` cannot be written, or the disk is full.
    """
    # In memory first: of a full disk, libsndfile says "System error." and nothing else.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE, subtype=subtype, format=path.suffix[1:])
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())
