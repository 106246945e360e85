"""Score and embedding normalisation: mean subtraction, S-norm and adaptive S-norm."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.evaluation.interchange import load_embeddings
from speakervlad.evaluation.scoring import cosine_scores, unit_vectors
from speakervlad.evaluation.speakers import required_rows
from speakervlad.evaluation.trials import Trials
from speakervlad.progress import Track, silent

logger = logging.getLogger(__name__)

ROWS_PER_BLOCK = 1024
UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True)
class NormalisedScores:
    """Scores after S-norm, and the cohort statistics they came from.

    Attributes:
        scores: (num_trials,) float32.
        enrol_mean: (num_trials,) mean cohort score of the enrolment side, a quality measure.
        test_mean: (num_trials,) mean cohort score of the test side.
    """

    scores: np.ndarray
    enrol_mean: np.ndarray
    test_mean: np.ndarray


def subtract_mean(embeddings: Embeddings, of: Embeddings) -> Embeddings:
    """Move the origin to the mean of other embeddings, usually those of the training set.

    Raises:
        InputError: different dimensions.
    """
    _check_dims(embeddings, of, "the embeddings whose mean is subtracted")
    warn_unless_unit(of, "the embeddings whose mean is subtracted")
    return Embeddings(embeddings.ids, embeddings.vectors - of.vectors.mean(axis=0))


def speaker_means(embeddings: Embeddings, speakers: np.ndarray) -> Embeddings:
    """One length-normalised mean per speaker, the usual cohort.

    Args:
        embeddings: utterances.
        speakers: (num_utterances,) str: the speaker of each.
    """
    names, codes = np.unique(speakers, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names)))
    sums = np.add.reduceat(unit_vectors(embeddings)[order], starts, axis=0)
    return Embeddings(names, sums / np.linalg.norm(sums, axis=1, keepdims=True))


def load_cohort(path: str | Path, manifest_path: str | Path | None = None) -> Embeddings:
    """Read cohort embeddings, averaged by the speakers of a manifest where one is given.

    Raises:
        InputError: embeddings that the manifest does not have.
    """
    cohort = load_embeddings(path)
    if manifest_path is None:
        return cohort
    manifest = Manifest.load(manifest_path)
    rows = required_rows(manifest, cohort.ids)
    return speaker_means(cohort, np.asarray(manifest.speaker_names)[manifest.speaker_indices[rows]])


def adaptive_s_norm(
    embeddings: Embeddings,
    trials: Trials,
    cohort: Embeddings,
    top: int | None = 300,
    track: Track = silent,
) -> NormalisedScores:
    """AS-norm of cosine scores (Matejka et al., 2017).

    ``((s - mean_e) / std_e + (s - mean_t) / std_t) / 2``, where mean and standard deviation are of
    the ``top`` highest cosines between one side and the cohort; ``top=None`` takes the whole cohort
    (S-norm).

    Raises:
        InputError: different dimensions, a cohort smaller than ``top``, or one without spread.
    """
    _check_dims(embeddings, cohort, "the cohort")
    top = len(cohort) if top is None else top
    if not 2 <= top <= len(cohort):
        raise InputError(
            f"top {top} of a cohort of {len(cohort)}: choose between 2 and {len(cohort)}."
        )
    warn_about_cohort(embeddings, trials, cohort)
    scores = cosine_scores(embeddings, trials, track)
    rows = embeddings.rows(trials.names.tolist())
    means, deviations = cohort_statistics(
        unit_vectors(embeddings)[rows], unit_vectors(cohort), top, track
    )
    flat = trials.names[deviations < 1e-6]
    if len(flat):
        raise InputError(
            f"the {top} nearest cohort scores of {len(flat)} recordings are all alike: "
            f"{first_few(flat)}. Use a cohort of different speakers."
        )
    sides = [(scores - means[side]) / deviations[side] for side in (trials.enrol, trials.test)]
    return NormalisedScores((sides[0] + sides[1]) / 2, means[trials.enrol], means[trials.test])


def cohort_statistics(
    vectors: np.ndarray, cohort: np.ndarray, top: int, track: Track = silent
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the ``top`` highest cosines of every row with a cohort.

    Args:
        vectors: (num_rows, dim) unit vectors.
        cohort: (num_cohort, dim) unit vectors.
        top: how many of the highest cosines count.
        track: progress.

    Returns:
        Two (num_rows,) float32 arrays.
    """
    statistics = np.empty((2, len(vectors)), dtype=np.float32)
    starts = range(0, len(vectors), ROWS_PER_BLOCK)
    for start in track(starts, "cohort", total=len(starts)):
        block = slice(start, start + ROWS_PER_BLOCK)
        similarities = vectors[block] @ cohort.T
        similarities.partition(len(cohort) - top, axis=1)
        highest = similarities[:, len(cohort) - top :]
        statistics[0, block], statistics[1, block] = highest.mean(axis=1), highest.std(axis=1)
    return statistics[0], statistics[1]


def warn_about_cohort(embeddings: Embeddings, trials: Trials, cohort: Embeddings) -> None:
    """Log what makes AS-norm go wrong silently: test recordings in the cohort, odd lengths."""
    shared = trials.names[cohort.index.find(trials.names.tolist()) >= 0]
    if len(shared):
        logger.warning(
            "%d recordings of the trials are in the cohort too: %s. Their statistics are too high; "
            "use other speakers as cohort.",
            len(shared),
            first_few(shared),
        )
    warn_unless_unit(embeddings, "the embeddings")
    warn_unless_unit(cohort, "the cohort")


def warn_unless_unit(embeddings: Embeddings, what: str) -> None:
    """Log when vectors are not of length 1, as encoders that end in a normalisation write them."""
    lengths = np.linalg.norm(embeddings.vectors, axis=1)
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
        logger.warning(
            "%s are not length-normalised (%.3g to %.3g). Cosines ignore that, means do not.",
            what,
            lengths.min(),
            lengths.max(),
        )


def _check_dims(embeddings: Embeddings, other: Embeddings, what: str) -> None:
    if embeddings.dim != other.dim:
        raise InputError(
            f"{what} have {other.dim} dimensions, the embeddings {embeddings.dim}. "
            "Compute both with the same encoder."
        )
