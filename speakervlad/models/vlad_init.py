"""The NetVLAD paper's starting point: cluster centres and the sharpness alpha."""

import math

import numpy as np


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
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics.pairwise import euclidean_distances

    def cluster(rows: np.ndarray, count: int) -> np.ndarray:
        return KMeans(count, random_state=seed).fit(rows).cluster_centers_

    centers = cluster(frames, num_clusters)
    if num_ghosts and ghost_frames is not None:
        centers = np.concatenate([centers, cluster(ghost_frames, num_ghosts)])
    if len(centers) < 2:
        return centers, 1.0
    squared = euclidean_distances(frames, centers, squared=True)
    squared.partition(1, axis=1)
    gap = float(np.mean(squared[:, 1] - squared[:, 0]))
    return centers, -math.log(0.01) / max(gap, 1e-12)
