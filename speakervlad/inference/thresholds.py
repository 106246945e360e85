"""The decision thresholds that an encoder carries."""

import json
from collections.abc import Mapping
from pathlib import Path

from speakervlad.errors import InputError

THRESHOLDS_NAME = "thresholds.json"


def read_threshold(encoder: Path, notes: Mapping[str, str]) -> float:
    """The cosine at which misses and false alarms balanced on the encoder's validation trials.

    Args:
        encoder: a folder, or a file that ``export`` wrote.
        notes: what the file carries, as its backend read it; a ``thresholds.json`` beside the file
            comes first.

    Raises:
        InputError: the encoder was never validated, or its file is damaged.
    """
    path = companion(encoder, THRESHOLDS_NAME)
    text = path.read_text() if path.is_file() else notes.get(THRESHOLDS_NAME)
    if text is None:
        raise InputError(f"{encoder}: holds no {THRESHOLDS_NAME}. Pass --threshold.")
    try:
        return float(json.loads(text)["eer"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{encoder}: its {THRESHOLDS_NAME} holds no threshold 'eer'. Pass --threshold."
        ) from error


def companion(encoder: Path, name: str) -> Path:
    """A file that goes with an encoder: in its folder, or beside its exported file."""
    return (encoder if encoder.is_dir() else encoder.parent) / name
