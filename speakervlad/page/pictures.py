"""A recording as something to look at: spectrogram, and where its frames go, as rows of bytes."""

import base64
from collections.abc import Iterator

import numpy as np

from speakervlad.audio.recording import Recording
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.explain import RANGE_DB, spectrogram_of

# About as many as a screen has pixels in a row.
MAX_COLUMNS, MAX_ROWS = 800, 128


def picture(embedder: Encoder, recording: Recording, shares: np.ndarray | None) -> dict:
    """Spectrogram and weights over time, as ``explain`` draws them.

    Args:
        embedder: whose clusters they are.
        recording: what is drawn.
        shares: (clusters + ghosts, frames) of an encoder with clusters.

    Returns:
        ``seconds``; ``spectrogram`` and, of an encoder with clusters, ``weights``, each a ``grid``;
        the number of ``clusters``, which are the first rows of the weights.
    """
    found: dict = {"seconds": recording.seconds}
    if shares is not None:
        found["weights"] = grid(reduced(shares, MAX_COLUMNS))
        found["clusters"] = embedder.check_clusters().count
    samples = recording.whole.read(0, recording.whole.num_samples)
    rows = reduced(reduced(spectrogram_of(samples), MAX_COLUMNS).T, MAX_ROWS).T
    return found | {"spectrogram": grid(1 + rows / RANGE_DB)}


def reduced(rows: np.ndarray, columns: int) -> np.ndarray:
    """Means of neighbouring columns, (rows, at most ``columns``)."""
    count = min(columns, rows.shape[1])
    starts = np.linspace(0, rows.shape[1], count, endpoint=False).astype(int)
    widths = np.diff(np.append(starts, rows.shape[1]))
    return np.add.reduceat(rows, starts, axis=1) / widths


def grid(values: np.ndarray) -> dict:
    """(rows, columns) in [0, 1] as bytes in base64, row by row."""
    shades = np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)
    rows, columns = shades.shape
    data = base64.b64encode(shades.tobytes()).decode()
    return {"rows": rows, "columns": columns, "bytes": data}


def peaks(blocks: Iterator[np.ndarray], num_samples: int, columns: int) -> list[float]:
    """The largest magnitude in each of some equal parts of ``num_samples`` samples in blocks."""
    found, begin = np.zeros(columns, np.float32), 0
    for block in blocks:
        places = (np.arange(begin, begin + len(block)) * columns // num_samples).clip(
            0, columns - 1
        )
        np.maximum.at(found, places, np.abs(block))
        begin += len(block)
    return found.round(3).tolist()
