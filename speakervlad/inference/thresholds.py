"""The decision thresholds that an encoder folder carries."""

import json
from pathlib import Path

from speakervlad.errors import InputError

THRESHOLDS_NAME = "thresholds.json"


def read_threshold(folder: Path) -> float:
    """The cosine at which misses and false alarms balanced on the encoder's validation trials.

    Raises:
        InputError: the encoder was never validated, or its file is damaged.
    """
    path = folder / THRESHOLDS_NAME
    if not path.is_file():
        raise InputError(f"{folder}: holds no {THRESHOLDS_NAME}. Pass --threshold.")
    try:
        return float(json.loads(path.read_text())["eer"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: holds no threshold 'eer'. Pass --threshold.") from error
