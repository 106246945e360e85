"""Scores of trials: cosine similarity in blocks, and the score file."""

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.evaluation.trials import Trials
from speakervlad.progress import Track, silent

BLOCK = 8192


def unit_vectors(embeddings: Embeddings) -> np.ndarray:
    """(num_utterances, dim) float32 rows of length 1.

    Raises:
        InputError: an embedding of zeros has no direction.
    """
    norms = np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    silent_ids = embeddings.ids[norms[:, 0] == 0]
    if len(silent_ids):
        raise InputError(
            f"{len(silent_ids)} embeddings are all zeros: {first_few(silent_ids)}. "
            "Look at these recordings; an all-zero vector has no cosine."
        )
    return embeddings.vectors / norms


def cosine_scores(embeddings: Embeddings, trials: Trials, track: Track = silent) -> np.ndarray:
    """(num_trials,) float32 cosine similarity of both sides of every trial.

    Raises:
        InputError: utterances without an embedding (all counted, the first few named).
    """
    vectors = unit_vectors(embeddings)
    rows = embeddings.rows(trials.names.tolist())
    return paired_dot(vectors, rows[trials.enrol], vectors, rows[trials.test], track)


def paired_dot(
    left: np.ndarray,
    left_rows: np.ndarray,
    right: np.ndarray,
    right_rows: np.ndarray,
    track: Track = silent,
) -> np.ndarray:
    """(num_pairs,) dot products of chosen rows of two (num, dim) matrices, block by block."""
    scores = np.empty(len(left_rows), dtype=np.float32)
    starts = range(0, len(scores), BLOCK)
    for start in track(starts, "scoring", total=len(starts)):
        block = slice(start, start + BLOCK)
        scores[block] = np.einsum("td,td->t", left[left_rows[block]], right[right_rows[block]])
    return scores
