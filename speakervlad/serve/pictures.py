"""A recording as something to look at: spectrogram, and where its frames go, as rows of bytes."""

import base64

import numpy as np

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.inference.engine import Embedder

# A screen has hardly more.
MAX_COLUMNS = 800
# Of the spectrogram below its loudest column, in natural logarithms of power: 70 dB.
RANGE = 7 * np.log(10)


def picture(embedder: Embedder, samples: np.ndarray) -> dict:
    """Spectrogram and weights over time.

    Args:
        embedder: whose spectrogram and clusters they are.
        samples: float32 (samples,) at 16 kHz.

    Returns:
        ``spectrogram`` and, of an encoder with clusters, ``weights``, each a ``grid``; the numbers
        of ``clusters`` and ``ghosts``.
    """
    front_end = embedder.backend.ends.front_end
    features = reduced(front_end.features(samples))
    if not front_end.num_mels:
        features = 2 * np.log(features + 1e-5)
    top = np.quantile(features, 0.998)
    levels = np.clip(1 + (features - top) / RANGE, 0, 1)
    found: dict = {"seconds": len(samples) / SAMPLE_RATE, "spectrogram": grid(levels)}
    finish = embedder.backend.ends.pooling
    if finish.weighting == "clusters" and finish.centers is not None:
        weights = reduced(embedder.assignments(samples))
        found |= {"weights": grid(weights), "clusters": len(finish.centers)}
    return found


def reduced(rows: np.ndarray, columns: int = MAX_COLUMNS) -> np.ndarray:
    """Means of neighbouring columns, (rows, at most ``columns``)."""
    count = min(columns, rows.shape[1])
    starts = np.linspace(0, rows.shape[1], count, endpoint=False).astype(int)
    widths = np.diff(np.append(starts, rows.shape[1]))
    return np.add.reduceat(rows, starts, axis=1) / widths


def grid(values: np.ndarray) -> dict:
    """(rows, columns) in [0, 1] as bytes in base64, row by row."""
    shades = np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)
    rows, columns = shades.shape
    return {
        "rows": rows,
        "columns": columns,
        "bytes": base64.b64encode(shades.tobytes()).decode(),
    }


def waveform(blocks: "np.ndarray", columns: int = 2 * MAX_COLUMNS) -> list[float]:
    """The largest magnitude in each of some equal parts of samples (samples,)."""
    starts = np.linspace(0, len(blocks), min(columns, len(blocks)), endpoint=False).astype(int)
    return np.maximum.reduceat(np.abs(blocks), starts).round(4).tolist()
