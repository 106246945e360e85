"""Pooling sums as arrays by name, for files that keep them."""

import numpy as np

from speakervlad.models.sums import Finish, PoolingSums


def arrays_of(sums: PoolingSums) -> dict[str, np.ndarray]:
    """The moments by name, float64; ``num_frames`` int64.

    Those of several layers side by side have the number of the layer before their name.
    """
    known = {"weight": sums.weight, "first": sums.first, "second": sums.second}
    arrays = {
        name: np.ascontiguousarray(array) for name, array in known.items() if array is not None
    }
    for number, part in enumerate(sums.parts):
        arrays |= {f"{number}.{name}": array for name, array in arrays_of(part).items()}
    return arrays | {"num_frames": np.array([sums.num_frames], np.int64)}


def sums_of(arrays: dict[str, np.ndarray], pooling: Finish) -> PoolingSums:
    """Moments from arrays by name.

    Raises:
        KeyError, ValueError: something is missing, or no finite float64 of fitting shapes.
    """
    num_frames = int(arrays["num_frames"].ravel()[0])
    if pooling.parts:
        parts = tuple(
            sums_of(_numbered(arrays, number), part.finish)
            for number, part in enumerate(pooling.parts)
        )
        return PoolingSums(pooling, num_frames=num_frames, parts=parts)
    weight, first, second = arrays["weight"], arrays["first"], arrays.get("second")
    given = [array for array in (weight, first, second) if array is not None]
    if any(array.dtype != np.float64 or array.ndim != 2 for array in given):
        raise ValueError("not two-dimensional float64")
    if not all(np.isfinite(array).all() for array in given):
        raise ValueError("not finite")
    if pooling.centers is not None and first.shape != pooling.centers.shape:
        raise ValueError(f"moments {first.shape}, centres {pooling.centers.shape}")
    fits_rows = weight.shape in ((len(first), 1), (1, first.shape[1]), (1, 1))
    if pooling.weighting == "clusters":
        fits_rows = weight.shape == (pooling.num_clusters, 1)
    if not fits_rows or pooling.has_second != (second is not None):
        raise ValueError("moments of another pooling")
    if second is not None and second.shape != first.shape:
        raise ValueError("second moments of another shape")
    return PoolingSums(pooling, weight, first, second, num_frames)


def _numbered(arrays: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """The moments of one of several layers, by their own names."""
    prefix = f"{number}."
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
