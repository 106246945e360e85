"""Two-covariance PLDA: log-likelihood ratios of vectors instead of their cosines.

A speaker's mean is drawn from N(m, B), each of its vectors from N(mean, W) (N. Brümmer and E. de
Villiers, "The speaker partitioning problem", Odyssey 2010). Vectors are centred, reduced by LDA if
asked, and brought to one length before (D. Garcia-Romero and C. Espy-Wilson, Interspeech 2011).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.extras import require
from speakervlad.files import atomic_path
from speakervlad.scoring.scoring import BLOCK
from speakervlad.scoring.trials import Trials
from speakervlad.tables.arrays import load_npz
from speakervlad.tables.embeddings import Embeddings

ITERATIONS = 20
# Of the mean variance within speakers: what is added to it, so that few vectors can be inverted.
FLOOR = 1e-6


@dataclass(frozen=True)
class Plda:
    """A fitted model, in the coordinates in which W is the identity and B is diagonal.

    Attributes:
        centre: (dim,) subtracted first.
        reduce: (dim, kept): LDA, or the identity.
        mean: (kept,) of vectors of one length.
        rotate: (kept, kept): into these coordinates.
        between: (kept,) variances of the speakers' means, the largest first.
        encoder: fingerprint of the encoder whose vectors they were, where it is known.
    """

    centre: np.ndarray
    reduce: np.ndarray
    mean: np.ndarray
    rotate: np.ndarray
    between: np.ndarray
    encoder: str | None = None

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """(num, dim) vectors as (num, kept) in the model's coordinates.

        Raises:
            InputError: vectors of another size.
        """
        if vectors.shape[1] != len(self.centre):
            raise InputError(
                f"PLDA of {len(self.centre)} dimensions, embeddings of {vectors.shape[1]}. Fit it "
                "on embeddings of the same encoder."
            )
        return (_one_length((vectors - self.centre) @ self.reduce) - self.mean) @ self.rotate

    def scores(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(num,) log-likelihood ratios, natural, of rows of two (num, kept) projected matrices.

        In these coordinates both sums and differences of two vectors are independent, with
        variances ``1 + 2 between`` and 1 if the speaker is one, and ``1 + between`` if there are
        two.
        """
        total = 1 + self.between
        of_sum, of_both = 1 / (total + self.between), 1 / total
        sums = np.square(left + right) @ of_sum / 2 + np.square(left - right).sum(1) / 2
        apart = (np.square(left) + np.square(right)) @ of_both
        constant = np.sum(2 * np.log(total) - np.log(total + self.between))
        return (constant - sums + apart) / 2

    def trial_scores(self, embeddings: Embeddings, trials: Trials) -> np.ndarray:
        """(num_trials,) float32 log-likelihood ratios of both sides of every trial.

        Raises:
            InputError: utterances without an embedding, or embeddings of another size.
        """
        vectors = self.project(embeddings.vectors)
        rows = embeddings.rows(trials.names.tolist())
        scores = np.empty(len(trials), np.float32)
        for start in range(0, len(scores), BLOCK):
            block = slice(start, start + BLOCK)
            left, right = vectors[rows[trials.enrol[block]]], vectors[rows[trials.test[block]]]
            scores[block] = self.scores(left, right)
        return scores


def fit_plda(
    vectors: np.ndarray,
    speakers: np.ndarray,
    *,
    lda: int | None = None,
    iterations: int = ITERATIONS,
) -> Plda:
    """Fit by expectation maximisation.

    Args:
        vectors: (num, dim), of speakers with two vectors or more; others tell of B alone.
        speakers: (num,) who they are of.
        lda: dimensions that linear discriminant analysis keeps; None for all, without it.
        iterations: of the EM.

    Raises:
        InputError: fewer than two speakers, nobody with two vectors, or LDA to more dimensions than
            there are; scikit-learn is not installed where LDA is asked for.
    """
    codes = np.unique(speakers, return_inverse=True)[1]
    counts = np.bincount(codes)
    if len(counts) < 2 or counts.max() < 2:
        raise InputError("PLDA is fitted to two speakers or more, with several recordings each.")
    centre = vectors.mean(0, dtype=np.float64)
    reduce = _discriminants(vectors - centre, codes, lda)
    short = _one_length((vectors - centre) @ reduce)
    mean = short.mean(0)
    between, within = _covariances(short - mean, codes, counts, iterations)
    # Of W = L L', inverse(L) makes it the identity; the rotation after it makes B diagonal.
    whiten = np.linalg.inv(np.linalg.cholesky(within)).T
    variances, rotation = np.linalg.eigh(whiten.T @ between @ whiten)
    order = np.argsort(-variances)
    return Plda(
        centre, reduce, mean, whiten @ rotation[:, order], np.maximum(variances[order], 0.0)
    )


def _one_length(vectors: np.ndarray) -> np.ndarray:
    """Rows of a length that leaves each number a variance of about one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * (math.sqrt(vectors.shape[1]) / np.maximum(norms, np.finfo(float).tiny))


def _discriminants(vectors: np.ndarray, codes: np.ndarray, lda: int | None) -> np.ndarray:
    dim = vectors.shape[1]
    if lda is None:
        return np.eye(dim)
    most = min(dim, int(codes.max()))
    if not 1 <= lda <= most:
        raise InputError(f"LDA to {lda} dimensions: choose 1 to {most}.")
    require("sklearn", "train", "linear discriminant analysis")
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    found = LinearDiscriminantAnalysis(n_components=lda, solver="svd").fit(vectors, codes)
    return np.asarray(found.scalings_[:, :lda], np.float64)


def _covariances(
    vectors: np.ndarray, codes: np.ndarray, counts: np.ndarray, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Covariances between and within speakers, (dim, dim) each, of centred vectors."""
    dim, num_speakers = vectors.shape[1], len(counts)
    sums = np.zeros((num_speakers, dim))
    np.add.at(sums, codes, vectors)
    scatter = vectors.T @ vectors
    means = sums / counts[:, None]
    between = np.cov(means.T, bias=True).reshape(dim, dim) + FLOOR * np.eye(dim)
    inside = vectors - means[codes]
    within = inside.T @ inside / max(len(vectors) - num_speakers, 1)
    floor = FLOOR * np.trace(within) / dim * np.eye(dim)
    within = within + floor
    for _ in range(iterations):
        of_means, of_vectors, cross = np.zeros((3, dim, dim))
        precision_b, precision_w = np.linalg.inv(between), np.linalg.inv(within)
        # Speakers of as many vectors share the covariance of what is known of their means.
        for count in np.unique(counts):
            same = counts == count
            covariance = np.linalg.inv(precision_b + count * precision_w)
            guessed = sums[same] @ precision_w @ covariance
            second = guessed.T @ guessed + same.sum() * covariance
            of_means += second
            of_vectors += count * second
            cross += guessed.T @ sums[same]
        between = of_means / num_speakers
        within = (scatter - cross - cross.T + of_vectors) / len(vectors) + floor
    return between, within


def save_plda(path: str | Path, model: Plda) -> None:
    """Write a model as ``.npz``.

    Raises:
        InputError: the path cannot be written.
    """
    arrays = {name: value for name, value in vars(model).items() if isinstance(value, np.ndarray)}
    with atomic_path(path) as temporary:
        np.savez(temporary, kind="plda", encoder=model.encoder or "", allow_pickle=False, **arrays)


def load_plda(path: str | Path) -> Plda:
    """Read what ``save_plda`` wrote.

    Raises:
        InputError: missing, damaged, or something else.
    """
    names = ("centre", "reduce", "mean", "rotate", "between")
    held = load_npz(path, ("kind", "encoder", *names))
    wrong = InputError(f"{path}: holds no PLDA that `speakervlad plda` wrote. Fit it again.")
    if str(held.get("kind")) != "plda" or not held.keys() >= {"encoder", *names}:
        raise wrong
    arrays = [np.asarray(held[name], np.float64) for name in names]
    model = Plda(*arrays, encoder=str(held["encoder"]) or None)
    dim, kept = model.centre.size, model.between.size
    shapes = [each.shape for each in arrays]
    are_numbers = all(np.isfinite(each).all() for each in arrays) and np.all(model.between >= 0)
    if shapes != [(dim,), (dim, kept), (kept,), (kept, kept), (kept,)] or not are_numbers:
        raise wrong
    return model
