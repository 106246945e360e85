"""Scores of trials: cosines, models of several recordings, mean subtraction, S-norm, AS-norm."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.progress import track
from speakervlad.scoring.enrolment import Enrolment
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings
from speakervlad.tables.manifest import load_manifest
from speakervlad.tables.names import required_rows

logger = logging.getLogger(__name__)

BLOCK = 8192
ROWS_PER_BLOCK = 1024
UNIT_TOLERANCE = 1e-2


class MadeByEncoder(Protocol):
    """Embeddings or a calibration: with the fingerprint of its encoder, where that is known."""

    @property
    def encoder(self) -> str | None: ...


class Calibrator(MadeByEncoder, Protocol):
    """What turns scores into log-likelihood ratios, such as a ``Calibration``."""

    def log_likelihood_ratio(self, scores: np.ndarray) -> np.ndarray: ...


class TrialScorer(MadeByEncoder, Protocol):
    """What scores trials other than by the cosine, such as a ``Plda``."""

    def trial_scores(self, embeddings: Embeddings, trials: Trials) -> np.ndarray: ...


def score(
    trials: Trials,
    embeddings: Embeddings,
    *,
    enrolment: Enrolment | None = None,
    mean_of: Embeddings | None = None,
    cohort: Embeddings | None = None,
    top: int | None = 300,
    plda: TrialScorer | None = None,
    calibration: Calibrator | None = None,
) -> np.ndarray:
    """Score a trial list, as the command ``score`` does.

    Args:
        trials: the pairs.
        embeddings: of all their recordings.
        enrolment: the recordings of the speaker models that the trials name.
        mean_of: embeddings whose mean is subtracted from all others first.
        cohort: embeddings of other speakers, for AS-norm.
        top: nearest members of the cohort that count; None for all (S-norm).
        plda: scores the trials instead of the cosine; it subtracts a mean of its own.
        calibration: turns the scores into log-likelihood ratios.

    Returns:
        (num_trials,) cosines or PLDA's log-likelihood ratios, or what normalisation and
        calibration make of them.

    Raises:
        InputError: something is missing or does not fit, or other encoders made it; see the
            functions below. Or PLDA beside a mean or a cohort.
    """
    tables = {"embeddings": embeddings, "mean": mean_of, "cohort": cohort}
    check_same_encoder(tables | {"PLDA": plda, "calibration": calibration})
    if plda is not None and (mean_of is not None or cohort is not None):
        raise InputError("PLDA has a mean of its own, and AS-norm is of cosines. Give one of them.")
    if mean_of is not None:
        embeddings = subtract_mean(embeddings, mean_of)
        cohort = None if cohort is None else subtract_mean(cohort, mean_of)
    if enrolment is not None:
        embeddings = with_models(embeddings, enrolment, trials)
    if plda is not None:
        scores = plda.trial_scores(embeddings, trials)
    elif cohort is None:
        scores = cosine_scores(embeddings, trials)
    else:
        scores = adaptive_s_norm(embeddings, trials, cohort, top).scores
    if calibration is not None:
        scores = calibration.log_likelihood_ratio(scores)
    warn_of_unknown_encoders(tables)
    return scores


def check_same_encoder(tables: Mapping[str, MadeByEncoder | None]) -> None:
    """Refuse embeddings, and a calibration, that different encoders made.

    Args:
        tables: by what they are, for messages.

    Raises:
        InputError: two of them name different encoders.
    """
    named = {what: made.encoder for what, made in tables.items() if made is not None}
    known = {what: encoder for what, encoder in named.items() if encoder}
    if len(set(known.values())) > 1:
        said = ", ".join(f"{what} of {encoder[:12]}" for what, encoder in known.items())
        raise InputError(f"made by different encoders: {said}. Use one encoder for all.")


def warn_of_unknown_encoders(tables: Mapping[str, Embeddings | None]) -> None:
    """Log, once, where it cannot be told whether one encoder made all of several embeddings."""
    given = {what: table.encoder for what, table in tables.items() if table is not None}
    unknown = [what for what, encoder in given.items() if encoder is None]
    if unknown and len(given) > 1:
        logger.warning(
            "%s: the file does not say which encoder made it (older files do not). Take care that "
            "it was the same.",
            " and ".join(unknown),
        )


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


def cosine_scores(embeddings: Embeddings, trials: Trials) -> np.ndarray:
    """(num_trials,) float32 cosine similarity of both sides of every trial.

    Raises:
        InputError: utterances without an embedding (all counted, the first few named).
    """
    vectors = unit_vectors(embeddings)
    rows = embeddings.rows(trials.names.tolist())
    return paired_dot(vectors, rows[trials.enrol], vectors, rows[trials.test])


def paired_dot(
    left: np.ndarray,
    left_rows: np.ndarray,
    right: np.ndarray,
    right_rows: np.ndarray,
) -> np.ndarray:
    """(num_pairs,) dot products of chosen rows of two (num, dim) matrices, block by block."""
    scores = np.empty(len(left_rows), dtype=np.float32)
    starts = range(0, len(scores), BLOCK)
    for start in track(starts, "scoring", total=len(starts)):
        block = slice(start, start + BLOCK)
        scores[block] = np.einsum("td,td->t", left[left_rows[block]], right[right_rows[block]])
    return scores


def with_models(embeddings: Embeddings, enrolment: Enrolment, trials: Trials) -> Embeddings:
    """The embeddings, and one for every model that the trials name.

    A model is the mean of the length-normalised embeddings of its recordings. Where an embedding of
    a part is missing, that of the whole recording stands in, and a warning says so.

    Raises:
        InputError: models that are not enrolled (looks swapped when they stand on the test side),
            recordings without an embedding, or a model named like an utterance.
    """
    models = [name for name in trials.enrol_names.tolist() if name not in embeddings.index.exact]
    unknown = [name for name in models if name not in enrolment.recordings]
    if unknown:
        raise _unknown_models(unknown, models, enrolment, trials)
    if not models:
        return embeddings
    recordings = [enrolment.recordings[model] for model in models]
    rows = _rows_of(embeddings, [name for names in recordings for name in names])
    lengths = np.array([len(names) for names in recordings])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    sums = np.add.reduceat(unit_vectors(embeddings)[rows], starts, axis=0)
    return embeddings.with_vectors(
        np.concatenate([embeddings.ids, np.array(models)]),
        np.concatenate([embeddings.vectors, sums / lengths[:, None]]),
    )


def _unknown_models(
    unknown: list[str], models: list[str], enrolment: Enrolment, trials: Trials
) -> InputError:
    on_test_side = sum(name in enrolment.recordings for name in trials.test_names.tolist())
    if len(unknown) == len(models) and on_test_side:
        return InputError(
            f"the models stand in the test column of the trials ({on_test_side} of them, such as "
            f"{trials.test_names[0]}). Swap the columns: enrolment first."
        )
    return InputError(
        f"{len(unknown)} of {len(models)} models are not in the enrolment list: "
        f"{first_few(unknown)}. Give the list that belongs to these trials."
    )


def _rows_of(embeddings: Embeddings, names: list[str]) -> np.ndarray:
    """Rows of recordings; a part that has no embedding falls back to its whole recording."""
    rows = embeddings.index.find(names)
    parts = [position for position in np.flatnonzero(rows < 0) if "@" in names[position]]
    if parts:
        logger.warning(
            "%d enrolment segments have no embedding; the whole recordings stand in: %s",
            len(parts),
            first_few(names[position] for position in parts),
        )
    whole = list(names)
    for position in parts:
        whole[position] = names[position].rpartition("@")[0]
    return embeddings.rows(whole)


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
    return embeddings.with_vectors(embeddings.ids, embeddings.vectors - of.vectors.mean(axis=0))


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
    return embeddings.with_vectors(names, sums / np.linalg.norm(sums, axis=1, keepdims=True))


def load_cohort(path: str | Path, manifest_path: str | Path | None = None) -> Embeddings:
    """Read cohort embeddings, averaged by the speakers of a manifest where one is given.

    Raises:
        InputError: embeddings that the manifest does not have.
    """
    cohort = load_embeddings(path)
    if manifest_path is None:
        return cohort
    manifest = load_manifest(manifest_path)
    rows = required_rows(manifest, cohort.ids)
    return speaker_means(cohort, np.asarray(manifest.speaker_names)[manifest.speaker_indices[rows]])


def adaptive_s_norm(
    embeddings: Embeddings,
    trials: Trials,
    cohort: Embeddings,
    top: int | None = 300,
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
    scores = cosine_scores(embeddings, trials)
    rows = embeddings.rows(trials.names.tolist())
    means, deviations = cohort_statistics(unit_vectors(embeddings)[rows], unit_vectors(cohort), top)
    flat = trials.names[deviations < 1e-6]
    if len(flat):
        raise InputError(
            f"the {top} nearest cohort scores of {len(flat)} recordings are all alike: "
            f"{first_few(flat)}. Use a cohort of different speakers."
        )
    sides = [(scores - means[side]) / deviations[side] for side in (trials.enrol, trials.test)]
    return NormalisedScores((sides[0] + sides[1]) / 2, means[trials.enrol], means[trials.test])


def cohort_statistics(
    vectors: np.ndarray, cohort: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the ``top`` highest cosines of every row with a cohort.

    Args:
        vectors: (num_rows, dim) unit vectors.
        cohort: (num_cohort, dim) unit vectors.
        top: how many of the highest cosines count.

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
