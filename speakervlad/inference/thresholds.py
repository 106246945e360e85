"""The decision thresholds that an encoder carries."""

import json
from pathlib import Path

from speakervlad.errors import InputError

THRESHOLDS_NAME = "thresholds.json"


def read_threshold(encoder: Path) -> float:
    """The cosine at which misses and false alarms balanced on the encoder's validation trials.

    Args:
        encoder: a folder, or a file that ``export`` wrote.

    Raises:
        InputError: the encoder was never validated, or its file is damaged.
    """
    text = _from_file(encoder) if encoder.is_file() else _from_folder(encoder)
    if text is None:
        raise InputError(f"{encoder}: holds no {THRESHOLDS_NAME}. Pass --threshold.")
    try:
        return float(json.loads(text)["eer"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{encoder}: its {THRESHOLDS_NAME} holds no threshold 'eer'. Pass --threshold."
        ) from error


def _from_folder(folder: Path) -> str | None:
    path = folder / THRESHOLDS_NAME
    return path.read_text() if path.is_file() else None


def _from_file(path: Path) -> str | None:
    from speakervlad.inference.onnx_backend import OnnxBackend

    return OnnxBackend(path).notes.get(THRESHOLDS_NAME)
