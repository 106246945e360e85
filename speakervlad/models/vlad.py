"""VLAD with hard assignment, and the k-means that it starts from, in numpy; no torch.

The layers that soften the assignment and train it are in ``models/pooling.py``.
"""

import math

import numpy as np

from speakervlad.errors import InputError
from speakervlad.extras import require
from speakervlad.models.sums import L2_EPSILON, Finish, PoolingSums


def vlad(
    descriptors: np.ndarray,
    centers: np.ndarray,
    *,
    intra_norm: bool = True,
    vector_norm: bool = True,
) -> np.ndarray:
    """Sums of residuals to the nearest centres.

    ``V(j, k) = sum_i a_k(x_i) (x_i(j) - c_k(j))``, where ``a_k(x_i)`` is 1 for the centre that is
    nearest to ``x_i`` and 0 for all others. Jegou et al., "Aggregating local descriptors into a
    compact image representation", CVPR 2010, equation 1; Arandjelovic et al., "NetVLAD", CVPR 2016,
    equation 1. Every cluster's residual is L2-normalised (Arandjelovic and Zisserman, "All about
    VLAD", CVPR 2013), then the whole; a cluster without descriptors is zeros.

    Nothing can be learnt through ``a_k``: it jumps where a descriptor is as near to one centre as
    to another, and its gradient is zero everywhere else. ``NetVLAD`` puts a softmax in its place.

    Args:
        descriptors: ``(positions, dim)``, or ``(batch, positions, dim)``.
        centers: ``(clusters, dim)``, as ``fit_centers`` returns them.
        intra_norm: L2-normalise every cluster's residual.
        vector_norm: L2-normalise the whole vector.

    Returns:
        float32 ``(clusters * dim,)``, cluster by cluster, or ``(batch, clusters * dim)``.

    Raises:
        ValueError: sizes that do not fit each other, no positions, or values that are not finite.

    >>> import numpy as np
    >>> from speakervlad import fit_centers, vlad
    >>> maps = np.random.default_rng(0).random((10, 3 * 3, 512))  # ten images, 3 x 3 positions
    >>> centers = fit_centers(maps.reshape(-1, 512), 16)
    >>> vlad(maps[0], centers).shape, vlad(maps, centers).shape
    ((8192,), (10, 8192))
    """
    descriptors = _finite("descriptors", descriptors, (2, 3))
    centers = _finite("centers", centers, (2,))
    if descriptors.shape[-1] != centers.shape[1]:
        raise InputError(
            f"descriptors of shape {descriptors.shape} do not fit centers of shape {centers.shape}:"
            " the last sizes must be equal."
        )
    pooling = Finish(
        "residuals",
        "clusters",
        num_clusters=len(centers),
        floor=L2_EPSILON,
        intra_norm=intra_norm,
        vector_norm=vector_norm,
        centers=centers,
    )
    vectors = [
        PoolingSums.empty(pooling).add(each.T, hard_assignment(each, centers)).finish()
        for each in descriptors.reshape(-1, *descriptors.shape[-2:])
    ]
    return np.stack(vectors).reshape(*descriptors.shape[:-2], -1)


def hard_assignment(descriptors: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """``a_k(x_i)``: float32 ``(clusters, positions)``, 1 for the nearest centre and 0 elsewhere.

    Args:
        descriptors: ``(positions, dim)``.
        centers: ``(clusters, dim)``.
    """
    nearest = (descriptors @ centers.T - np.square(centers).sum(axis=1) / 2).argmax(axis=1)
    return np.eye(len(centers), dtype=np.float32)[:, nearest]


def fit_centers(descriptors: np.ndarray, num_clusters: int, *, seed: int = 0) -> np.ndarray:
    """Centres of descriptors by k-means, the vocabulary of VLAD.

    Args:
        descriptors: ``(count, dim)``, from many images or recordings.
        num_clusters: K.
        seed: of the k-means.

    Returns:
        ``(num_clusters, dim)``, of the type of ``descriptors``.

    Raises:
        ValueError: fewer descriptors than clusters, or values that are not finite.
    """
    require("sklearn", "train", "k-means")
    from sklearn.cluster import KMeans

    descriptors = _finite("descriptors", descriptors, (2,))
    if not 1 <= num_clusters <= len(descriptors):
        raise InputError(
            f"num_clusters={num_clusters}: must be at least 1 and at most the number of "
            f"descriptors, whose shape is {descriptors.shape}."
        )
    return KMeans(num_clusters, random_state=seed).fit(descriptors).cluster_centers_


def vlad_parameters(
    frames: np.ndarray,
    ghost_frames: np.ndarray | None,
    num_clusters: int,
    num_ghosts: int,
    seed: int,
) -> tuple[np.ndarray, float]:
    """K-means centres of clean frames, then of degraded ones, and alpha.

    alpha = -log(0.01) / mean(d2^2 - d1^2) over the clean frames, with d1 and d2 the distances to
    the nearest two of all centres, so that the nearest centre gets about 100 times the weight of
    the second (Arandjelovic et al. 2016, layerVLADv2 of the authors' code). Ghost centres from
    degraded material: Zhong et al. 2018, section 3.

    Returns:
        centres ``(num_clusters + num_ghosts, dim)``, ghosts last, and alpha.

    Raises:
        ValueError: as ``fit_centers``.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    centers = fit_centers(frames, num_clusters, seed=seed)
    if num_ghosts and ghost_frames is not None:
        centers = np.concatenate([centers, fit_centers(ghost_frames, num_ghosts, seed=seed)])
    if len(centers) < 2:
        return centers, 1.0
    squared = euclidean_distances(frames, centers, squared=True)
    squared.partition(1, axis=1)
    gap = float(np.mean(squared[:, 1] - squared[:, 0]))
    return centers, -math.log(0.01) / max(gap, 1e-12)


def _finite(name: str, array: np.ndarray, num_axes: tuple[int, ...]) -> np.ndarray:
    """An array of so many axes that holds finite numbers, as floats.

    Raises:
        InputError: it is none.
    """
    array = np.asarray(array)
    if array.ndim not in num_axes or 0 in array.shape:
        axes = " or ".join(map(str, num_axes))
        raise InputError(f"{name} of shape {array.shape}: expected {axes} axes, none empty.")
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{name} of shape {array.shape}: some values are NaN or infinite.")
    return array
