"""From windows of speech to clusters, one a speaker; scipy does the clustering."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speakervlad.errors import InputError, check_range, did_you_mean
from speakervlad.models.sums import unit

# This share of the mean of a recording's windows is subtracted from each: it reflects the room.
COMMON = 0.3
# Mean cosine of windows from which on clusters are of one speaker.
SAME = 0.22
# Of more windows every second, third ... is clustered; the others go to their nearest speaker.
MOST = 1000
# Neighbours of a window: at least so many, at most this share of all; so many values are tried.
FEWEST, NEAREST_SHARE, TRIED = 5, 0.2, 12
# Beginnings that k-means is tried from, and rounds of each.
TRIES, ROUNDS = 10, 30
# Smaller norms are replaced by this one.
TINY = 1e-12


@dataclass(frozen=True)
class Limits:
    """How many speakers there may be.

    Attributes:
        least: at least so many.
        most: at most so many.
        seconds: of speech that one must say; shorter sounds make no speaker.
    """

    least: int = 1
    most: int = 20
    seconds: float = 2.0

    def __post_init__(self) -> None:
        check_range("min_speakers", self.least, at_least=1)
        check_range("max_speakers", self.most, at_least=self.least)
        check_range("min_seconds", self.seconds, at_least=0.2)


# (windows,) labels from 0 for a number of clusters.
Cut = Callable[[int], np.ndarray]


def agglomerative(vectors: np.ndarray, limits: Limits) -> tuple[Cut, int]:
    """Average linkage: clusters are joined while their mean cosine reaches ``SAME``."""
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(vectors.astype(np.float64), "average", "cosine")
    count = 1 + int((tree[:, 2] > 1 - SAME).sum())
    return lambda number: fcluster(tree, number, "maxclust") - 1, count


def spectral(vectors: np.ndarray, limits: Limits) -> tuple[Cut, int]:
    """Spectral clustering of nearest windows; as many clusters as the largest eigengap tells.

    How many windows count as near is found where the gap is largest for that number (Park et al.,
    "Auto-tuning spectral clustering for speaker diarization using normalized maximum eigengap",
    IEEE Signal Processing Letters 27, 2020).
    """
    nearest = np.argsort(-(vectors @ vectors.T) + 3 * np.eye(len(vectors)), axis=1, kind="stable")
    most = min(limits.most + 1, len(vectors))
    largest = max(FEWEST + 2, int(NEAREST_SHARE * len(vectors)))
    best, chosen, count = np.inf, FEWEST, 1
    for near in np.unique(np.geomspace(FEWEST, largest, TRIED).round().astype(int)).tolist():
        # All eigenvalues: LAPACK's search for some of them fails where they repeat.
        values = np.linalg.eigvalsh(_laplacian(nearest[:, :near]))
        gaps = np.diff(values[:most]) / values[-1]
        widest = gaps.max()
        if widest > 0 and near < best * widest:
            best, chosen, count = near / widest, near, 1 + int(gaps.argmax())
    basis = np.linalg.eigh(_laplacian(nearest[:, :chosen]))[1]

    def cut(number: int) -> np.ndarray:
        number = min(number, most)
        return k_means(basis[:, :number], number)

    return cut, count


def k_means(rows: np.ndarray, number: int) -> np.ndarray:
    """(rows,) labels from 0 of the tightest of some k-means clusterings, the same every time."""
    from scipy.cluster.vq import kmeans2

    rng, tightest, best = np.random.default_rng(0), np.inf, np.zeros(len(rows), int)
    for _ in range(TRIES):
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            # Of a cluster that lost all its rows, and of rows that are all the same.
            warnings.simplefilter("ignore", UserWarning)
            centres, labels = kmeans2(rows, number, iter=ROUNDS, minit="++", rng=rng)
        spread = float(((rows - centres[labels]) ** 2).sum())
        if spread < tightest:
            tightest, best = spread, labels
    return best


def _laplacian(nearest: np.ndarray) -> np.ndarray:
    """Of the graph whose edges tie each item to its nearest ones, half an edge each way."""
    graph = np.zeros((len(nearest), len(nearest)))
    np.put_along_axis(graph, nearest, 1.0, axis=1)
    graph = (graph + graph.T) / 2
    return np.diag(graph.sum(axis=1)) - graph


METHODS = {"agglomerative": agglomerative, "spectral": spectral}


def cluster(
    vectors: np.ndarray,
    seconds: np.ndarray,
    limits: Limits,
    method: str = "spectral",
    spare: int = 0,
) -> np.ndarray:
    """Cluster windows, within limits.

    Args:
        vectors: (windows, dim) unit vectors.
        seconds: (windows,), what each adds to the speech of its cluster.
        limits: of the number of speakers.
        method: row of ``METHODS``.
        spare: if any, so many clusters more than are found, or half as many again, for a caller
            who joins those of one speaker.

    Returns:
        (windows,) speakers from 0, or -1 for windows that make no speaker of their own.

    Raises:
        InputError: an unknown method.
    """
    if method not in METHODS:
        raise InputError(f"unknown clustering {method!r}. {did_you_mean(method, METHODS)}")
    if len(vectors) == 1:
        return np.zeros(1, int)
    vectors = unit(vectors - COMMON * vectors.mean(axis=0), TINY)
    step = -(-len(vectors) // MOST)
    every, vectors, seconds = vectors, vectors[::step], seconds[::step] * step
    cut, count = METHODS[method](vectors, limits)
    if spare:
        count = min(count + max(spare, count // 2), max(count, limits.most), len(vectors))
    labels, large = _large(cut(count), seconds, limits.seconds)
    while large < limits.least and count < len(vectors):
        count += 1
        labels, large = _large(cut(count), seconds, limits.seconds)
    while large > limits.most:
        count -= 1
        labels, large = _large(cut(count), seconds, limits.seconds)
    return labels if step == 1 else _nearest(every, vectors, labels)


def _nearest(vectors: np.ndarray, others: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(windows,) labels of those among labelled others whose mean each window is nearest to."""
    known = np.unique(labels[labels >= 0])
    centres = unit(np.stack([others[labels == label].mean(axis=0) for label in known]), TINY)
    return known[(vectors @ centres.T).argmax(axis=1)]


def _large(labels: np.ndarray, seconds: np.ndarray, least: float) -> tuple[np.ndarray, int]:
    """Only clusters of enough speech, numbered anew, and how many; the largest in any case."""
    spoken = np.bincount(labels, seconds)
    large = spoken >= min(least, spoken.max())
    numbers = np.where(large, np.cumsum(large) - 1, -1)
    return numbers[labels], int(large.sum())
