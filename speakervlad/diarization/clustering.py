"""From windows of speech to clusters, one a speaker; scipy and scikit-learn do the clustering."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speakervlad.errors import check_range

# More windows are clustered in blocks of so many; what is alike there counts as one window.
BLOCK = 1000
# For blocks: what is at least so alike is of one speaker for sure.
ALIKE = 0.8

# (items,) labels from 0 for a number of clusters.
Cut = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Limits:
    """How many speakers there may be.

    Attributes:
        least: at least so many.
        most: at most so many.
        seconds: of speech, which one must say at least; shorter sounds make no speaker.
    """

    least: int = 1
    most: int = 20
    seconds: float = 2.0

    def __post_init__(self) -> None:
        check_range("min_speakers", self.least, at_least=1)
        check_range("max_speakers", self.most, at_least=self.least)
        check_range("min_seconds", self.seconds, at_least=0.2)


@dataclass(frozen=True)
class Clusters:
    """Windows by speaker.

    Attributes:
        labels: (windows,) from 0, or -1 for those that make no speaker of their own.
        count: speakers.
    """

    labels: np.ndarray
    count: int


def agglomerative(vectors: np.ndarray, limits: Limits, threshold: float) -> tuple[Cut, int]:
    """Average linkage: clusters are joined while their mean cosine reaches a threshold."""
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(vectors.astype(np.float64), "average", "cosine")
    count = 1 + int((tree[:, 2] > 1 - threshold).sum())
    return lambda number: fcluster(tree, number, "maxclust") - 1, count


def spectral(vectors: np.ndarray, limits: Limits, threshold: float) -> tuple[Cut, int]:
    """Spectral clustering of each window's nearest ones; as many as the largest eigengap tells.

    von Luxburg, "A tutorial on spectral clustering", section 8.3 (2007).
    """
    from scipy.linalg import eigh
    from sklearn.cluster import KMeans

    cosines = (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(cosines, -1)
    kept = min(max(NEAREST, round(NEAREST_SHARE * len(vectors))), len(vectors) - 1)
    graph = np.where(cosines >= np.sort(cosines, axis=1)[:, [-kept]], np.maximum(cosines, 0), 0)
    graph = (graph + graph.T) / 2
    laplacian = np.diag(graph.sum(axis=1)) - graph
    most = min(limits.most + 1, len(vectors))
    values, basis = eigh(laplacian, subset_by_index=[0, most - 1])

    def cut(number: int) -> np.ndarray:
        rows = basis[:, : min(number, most)]
        return KMeans(min(number, most), n_init=10, random_state=0).fit_predict(rows)

    return cut, 1 + int(np.argmax(np.diff(values)))


NEAREST, NEAREST_SHARE = 6, 0.05
METHODS = {"agglomerative": agglomerative, "spectral": spectral}


def cluster(
    vectors: np.ndarray,
    seconds: np.ndarray,
    limits: Limits,
    threshold: float,
    method: str = "agglomerative",
) -> Clusters:
    """Cluster windows, within limits.

    Args:
        vectors: (windows, dim) unit vectors.
        seconds: (windows,), what each adds to the speech of its cluster.
        limits: of the number of speakers.
        threshold: mean cosine from which on clusters are of one speaker.
        method: row of ``METHODS``.
    """
    if len(vectors) == 1:
        return Clusters(np.zeros(1, int), 1)
    cut, count = METHODS[method](vectors, limits, threshold)
    labels, large = _large(cut(count), seconds, limits.seconds)
    while large < limits.least and count < len(vectors):
        count += 1
        labels, large = _large(cut(count), seconds, limits.seconds)
    while large > limits.most:
        count -= 1
        labels, large = _large(cut(count), seconds, limits.seconds)
    return Clusters(labels, large)


def _large(labels: np.ndarray, seconds: np.ndarray, least: float) -> tuple[np.ndarray, int]:
    """Only clusters of enough speech, numbered by their first windows; the largest in any case."""
    spoken = np.bincount(labels, seconds)
    large = spoken >= min(least, spoken.max())
    _, first = np.unique(labels, return_index=True)
    numbers = np.full(len(spoken), -1)
    order = [label for label in labels[np.sort(first)] if large[label]]
    numbers[order] = np.arange(len(order))
    return numbers[labels], len(order)
