"""Retrieval: the nearest vectors of a database, recall@N, and whitening; as NetVLAD is judged."""

import numpy as np

from speakervlad.errors import InputError

# Distances that are in memory at once.
BLOCK_VALUES = 20_000_000


def nearest(queries: np.ndarray, database: np.ndarray, n: int) -> np.ndarray:
    """The rows of the database that are nearest to every query, the nearest first.

    Args:
        queries: ``(queries, dim)``.
        database: ``(rows, dim)``, compared by Euclidean distance.
        n: how many.

    Returns:
        int ``(queries, n)``.

    Raises:
        ValueError: sizes that do not fit each other, values that are not finite, or ``n`` outside
            of 1 to the rows of the database.
    """
    queries, database = _same_dim("queries", queries, "database", database)
    if not 1 <= n <= len(database):
        raise InputError(f"n={n}: must be from 1 to the {len(database)} rows of the database.")
    half_squares = np.square(database).sum(axis=1) / 2
    step = max(1, BLOCK_VALUES // len(database))
    blocks = (queries[start : start + step] for start in range(0, len(queries), step))
    rows = [np.argsort(half_squares - block @ database.T, kind="stable")[:, :n] for block in blocks]
    return np.concatenate(rows)


def recall_at(n: int, queries: np.ndarray, database: np.ndarray, matches: np.ndarray) -> float:
    """Recall@N: the share of the queries that have a match among their N nearest.

    Arandjelovic et al., "NetVLAD", CVPR 2016, section 5.1: a query is localised when at least one
    of the N retrieved images shows its place.

    Args:
        n: N.
        queries: ``(queries, dim)``.
        database: ``(rows, dim)``, without the queries themselves.
        matches: bool ``(queries, rows)``, which rows show the place of a query.

    Raises:
        ValueError: as ``nearest``, or a query has no match at all.

    >>> import numpy as np
    >>> from retrieval import recall_at
    >>> database = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
    >>> queries = np.array([[0.1, 0.0], [0.9, 0.0]])
    >>> matches = np.array([[True, False, False], [True, False, False]])
    >>> recall_at(1, queries, database, matches), recall_at(2, queries, database, matches)
    (0.5, 1.0)
    """
    matches = np.asarray(matches, bool)
    if matches.shape != (len(queries), len(database)):
        raise InputError(
            f"matches of shape {matches.shape}: expected {len(queries)} queries x {len(database)} "
            "rows of the database."
        )
    without = np.flatnonzero(~matches.any(axis=1))
    if len(without):
        raise InputError(
            f"{len(without)} queries have no match, such as {without[0]}. Leave them out."
        )
    found = np.take_along_axis(matches, nearest(queries, database, n), axis=1)
    return float(found.any(axis=1).mean())


def whiten(vectors: np.ndarray, train: np.ndarray, num_dims: int | None = None) -> np.ndarray:
    """PCA whitening: uncorrelated dimensions of variance 1 over the training vectors.

    ``(x - mean) U / s`` with the first principal axes U and standard deviations s of the training
    vectors; equal to ``PCA(num_dims, whiten=True)`` of scikit-learn, up to the sign of an axis.
    Jegou and Chum, "Negative evidences and co-occurrences in image retrieval", ECCV 2012; the
    NetVLAD paper L2-normalises the result, ``y / norm(y)``, before it compares (section 5.1).

    Args:
        vectors: ``(count, dim)``, what is whitened.
        train: ``(rows, dim)``, other vectors, which the axes are fitted on.
        num_dims: axes that are kept, the strongest; by default all that ``train`` determines, which
            are ``min(rows - 1, dim)``.

    Returns:
        ``(count, num_dims)``.

    Raises:
        ValueError: sizes that do not fit each other, values that are not finite, or more axes than
            the training vectors determine.

    >>> import numpy as np
    >>> from retrieval import whiten
    >>> train = np.random.default_rng(0).normal(size=(500, 8)) * np.arange(1, 9)
    >>> white = whiten(train, train, num_dims=3)
    >>> np.allclose(np.cov(white.T), np.eye(3))
    True
    """
    vectors, train = _same_dim("vectors", vectors, "train", train)
    most = min(len(train) - 1, train.shape[1])
    num_dims = most if num_dims is None else num_dims
    if not 1 <= num_dims <= most:
        raise InputError(
            f"num_dims={num_dims}: train of shape {train.shape} determines 1 to {most} axes."
        )
    mean = train.mean(axis=0)
    _, lengths, axes = np.linalg.svd(train - mean, full_matrices=False)
    deviations = lengths[:num_dims] / np.sqrt(len(train) - 1)
    if deviations[-1] <= 10 * np.finfo(train.dtype).eps * np.abs(train).max():
        raise InputError(
            f"num_dims={num_dims}: train varies along fewer axes than that. Ask for fewer."
        )
    return (vectors - mean) @ axes[:num_dims].T / deviations


def _same_dim(
    name: str, vectors: np.ndarray, other_name: str, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices of finite numbers with rows of one size.

    Raises:
        InputError: they are none.
    """
    vectors, others = (
        array if array.dtype.kind == "f" else array.astype(np.float64)
        for array in map(np.asarray, (vectors, others))
    )
    fit = vectors.ndim == others.ndim == 2 and vectors.shape[1] == others.shape[1]
    if not fit or 0 in vectors.shape + others.shape:
        raise InputError(
            f"{name} of shape {vectors.shape} and {other_name} of shape {others.shape}: expected "
            "(count, dim) of both, with the same dim, and none empty."
        )
    for called, matrix in ((name, vectors), (other_name, others)):
        if not np.isfinite(matrix).all():
            raise InputError(f"{called} of shape {matrix.shape}: some values are NaN or infinite.")
    return vectors, others
