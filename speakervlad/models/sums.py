"""Pooling as sums over frames, in numpy: what every runtime's descriptors become; no torch.

Every pooling layer is a function of moments ``sum_t w_t``, ``sum_t w_t x_t``, ``sum_t w_t x_t^2``
with weights w of its own, so moments of chunks, of recordings and of sessions add up.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

# tf.nn.l2_normalize: x * rsqrt(max(sum x^2, 1e-12))
L2_EPSILON = 1e-6


@dataclass(frozen=True)
class Finish:
    """What a pooling layer does with its moments: all that inference must know of the layer.

    Attributes:
        kind: row of ``FINISHES``: the mean; mean and standard deviation; residuals to centres.
        weighting: no weights; ``clusters``: weights (clusters, frames), each for all dimensions;
            ``channels``: weights (dim, frames), one for each dimension.
        log_weights: the weights come as logarithms.
        num_clusters: the first of the weighted clusters, which are kept; the others are ghosts.
        correction: subtracted from the number of frames by which squared deviations are divided;
            without weights alone, whose sum is that number.
        floor: added to the variance; the least norm that is divided by.
        intra_norm: whether every cluster's residual is divided by its norm.
        vector_norm: whether the whole vector is.
        centers: (clusters, dim) of residuals; None for no centres, which are zeros.
    """

    kind: Literal["mean", "statistics", "residuals"]
    weighting: Literal["none", "clusters", "channels"] = "none"
    log_weights: bool = False
    num_clusters: int = 1
    correction: int = 0
    floor: float = 0.0
    intra_norm: bool = False
    vector_norm: bool = False
    centers: np.ndarray | None = None

    def to_notes(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON takes it."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name != "centers"}

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Finish":
        """The inverse of ``to_notes``, with the arrays by their names."""
        return cls(**notes, centers=arrays.get("centers"))


@dataclass(frozen=True)
class PoolingSums:
    """Moments of frames in float64, so that hours add up as exactly as seconds.

    ``empty`` ones take ``add(frames)`` as frames arrive and ``merge(other)`` for what was summed
    elsewhere; ``finish()`` is the pooled vector at any time. They never change; every step returns
    a new object.

    Attributes:
        pooling: what to do with the moments.
        weight: sum of the weights, (clusters, 1) or (1, dim); None before the first frames.
        first: weighted sum of the frames, (clusters, dim).
        second: that of their squares, if the pooling needs it.
        num_frames: how many frames are in it.
    """

    pooling: Finish
    weight: np.ndarray | None = None
    first: np.ndarray | None = None
    second: np.ndarray | None = None
    num_frames: int = 0

    @classmethod
    def empty(cls, pooling: Finish) -> "PoolingSums":
        """No frames yet."""
        return cls(pooling)

    def add(self, frames: np.ndarray, weights: np.ndarray | None = None) -> "PoolingSums":
        """Add descriptors (dim, frames) and their weights, if the pooling has weights."""
        exact = frames.astype(np.float64)
        weight, first = self._weighted(exact, weights)
        squared = self.pooling.kind == "statistics"
        second = self._weighted(np.square(exact), weights)[1] if squared else None
        return self.merge(replace(self, weight=weight, first=first, second=second,
                                  num_frames=frames.shape[1]))  # fmt: skip

    def merge(self, other: "PoolingSums") -> "PoolingSums":
        """The moments of both sets of frames together.

        Raises:
            ValueError: they are of poolings or dimensions that do not fit each other.
        """
        if self.first is None or other.first is None:
            return other if self.first is None else self
        if self.first.shape != other.first.shape or self.pooling.kind != other.pooling.kind:
            raise ValueError("sums of different encoders cannot be merged.")
        return replace(
            self,
            weight=_plus(self.weight, other.weight),
            first=_plus(self.first, other.first),
            second=_plus(self.second, other.second),
            num_frames=self.num_frames + other.num_frames,
        )

    def finish(self) -> np.ndarray:
        """The pooled vector (out,) of all frames so far, float32.

        Moments with an axis in front of them, (sums, clusters, dim), give a vector each.

        Raises:
            ValueError: there is no frame yet.
        """
        if self.first is None:
            raise ValueError("the pooling state holds no frames yet.")
        return FINISHES[self.pooling.kind](self).astype(np.float32)

    def _weighted(
        self, frames: np.ndarray, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        kind = self.pooling.weighting
        if kind == "none" or weights is None:
            return np.full((1, 1), float(frames.shape[1])), frames.sum(axis=1)[None]
        exact = weights.astype(np.float64)
        if self.pooling.log_weights:
            exact = np.exp(exact)
        if kind == "channels":
            return exact.sum(axis=1)[None], (exact * frames).sum(axis=1)[None]
        exact = exact[: self.pooling.num_clusters]
        return exact.sum(axis=1)[:, None], exact @ frames.T


def _flat(moments: np.ndarray) -> np.ndarray:
    """(..., clusters, dim) as (..., clusters x dim)."""
    return moments.reshape(*moments.shape[:-2], -1)


def _plus(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return None if one is None or other is None else one + other


def _mean(sums: PoolingSums) -> np.ndarray:
    return _flat(sums.first / sums.weight)  # pyright: ignore[reportOptionalOperand]


def _statistics(sums: PoolingSums) -> np.ndarray:
    mean = _mean(sums)
    square = _flat(sums.second / sums.weight)  # pyright: ignore[reportOptionalOperand]
    variance = np.maximum(square - np.square(mean), 0)
    if sums.pooling.correction:
        assert sums.weight is not None
        count = sums.weight.ravel()
        variance *= count / np.maximum(count - sums.pooling.correction, 1)
    return np.concatenate([mean, np.sqrt(variance + sums.pooling.floor)], axis=-1)


def _residuals(sums: PoolingSums) -> np.ndarray:
    pooling, residuals = sums.pooling, sums.first
    assert residuals is not None
    if pooling.centers is not None:
        residuals = residuals - sums.weight * pooling.centers
    if pooling.intra_norm:
        residuals = unit(residuals, pooling.floor)
    vector = _flat(residuals)
    return unit(vector, pooling.floor) if pooling.vector_norm else vector


def unit(vectors: np.ndarray, floor: float) -> np.ndarray:
    """Vectors (..., dim) divided by their norms, which count as ``floor`` at least."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), floor)


FINISHES: dict[str, Callable[[PoolingSums], np.ndarray]] = {
    "mean": _mean,
    "statistics": _statistics,
    "residuals": _residuals,
}

# The name of 0.1.0, when every pooling had sums of its own.
VladState = PoolingSums
