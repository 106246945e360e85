"""Pooling that adds up, whatever computes it, and in numpy for the frames of exported graphs."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np


@dataclass(frozen=True)
class PoolingSums(ABC):
    """Sums over frames, in float64 so that hours add up as exactly as seconds.

    ``empty`` ones take ``add(frames)`` as frames arrive and ``merge(other)`` for what was summed
    elsewhere; ``finish()`` is the pooled vector at any time. They never change; every step returns
    a new object.

    Attributes:
        pooling: what to do with the frames.
        sums: what adds up, an array or a tensor; None before the first frames.
        num_frames: how many frames are in it.
    """

    pooling: Any
    sums: Any = None
    num_frames: int = 0

    @classmethod
    def empty(cls, pooling: Any) -> Self:  # noqa: ANN401 - a layer or what is known of it
        """No frames yet."""
        return cls(pooling)

    def add(self, frames: Any, guide: Any = None) -> Self:  # noqa: ANN401 - array or tensor
        """Add descriptors ``(..., dim, frames)``.

        Args:
            frames: the descriptors.
            guide: what the weights of NetVLAD come from, if it is something else.
        """
        return self._plus(self._measure(frames, guide), frames.shape[-1])

    def merge(self, other: Self) -> Self:
        """The sums of both sets of frames together."""
        return self if other.sums is None else self._plus(other.sums, other.num_frames)

    def finish(self) -> Any:  # noqa: ANN401 - array or tensor
        """The pooled vector ``(..., out)`` of all frames so far, float32.

        Raises:
            ValueError: there is no frame yet.
        """
        if self.sums is None:
            raise ValueError("the pooling state holds no frames yet.")
        return self._conclude(self.sums)

    def _plus(self, sums: Any, num_frames: int) -> Self:  # noqa: ANN401 - array or tensor
        total = sums if self.sums is None else self.sums + sums
        return replace(self, sums=total, num_frames=self.num_frames + num_frames)

    @abstractmethod
    def _measure(self, frames: Any, guide: Any) -> Any:  # noqa: ANN401 - array or tensor
        """The sums of some frames in float64."""

    @abstractmethod
    def _conclude(self, sums: Any) -> Any:  # noqa: ANN401 - array or tensor
        """The pooled vector of all sums in float32."""


class Pooling(NamedTuple):
    """What an exported file notes of its pooling layer.

    Attributes:
        kind: as in the config.
        floor: added to the variance of ``statistics``; the least norm that ``netvlad`` divides by.
        centers: (clusters, dim) of ``netvlad``.
        intra_norm: whether every cluster is divided by its norm.
        vector_norm: whether the whole vector is.
    """

    kind: str
    floor: float = 0.0
    centers: np.ndarray = np.empty((0, 0))
    intra_norm: bool = False
    vector_norm: bool = False

    def to_json(self) -> str:
        return json.dumps(self._asdict() | {"centers": self.centers.tolist()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        return cls(**values | {"centers": np.array(values["centers"])})


class VladSums(PoolingSums):
    """Residual sums ``(clusters, dim)``; ``guide`` are the weights (clusters, frames)."""

    pooling: Pooling

    def _measure(self, frames: np.ndarray, guide: np.ndarray) -> np.ndarray:
        weights = guide.astype(np.float64)
        return weights @ frames.T - weights.sum(axis=1, keepdims=True) * self.pooling.centers

    def _conclude(self, sums: np.ndarray) -> np.ndarray:
        residuals = self._unit(sums) if self.pooling.intra_norm else sums
        vector = residuals.ravel()
        return (self._unit(vector) if self.pooling.vector_norm else vector).astype(np.float32)

    def _unit(self, vectors: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return vectors / np.maximum(norms, self.pooling.floor)


class AverageSums(PoolingSums):
    """Sums ``(dim,)``."""

    def _measure(self, frames: np.ndarray, guide: None) -> np.ndarray:
        return frames.sum(axis=1, dtype=np.float64)

    def _conclude(self, sums: np.ndarray) -> np.ndarray:
        return (sums / self.num_frames).astype(np.float32)


class StatisticsSums(PoolingSums):
    """First and second moments ``(2, dim)``."""

    pooling: Pooling

    def _measure(self, frames: np.ndarray, guide: None) -> np.ndarray:
        exact = frames.astype(np.float64)
        return np.stack([exact.sum(axis=1), np.square(exact).sum(axis=1)])

    def _conclude(self, sums: np.ndarray) -> np.ndarray:
        mean, square = sums / self.num_frames
        variance = np.maximum(square - np.square(mean), 0)
        deviation = np.sqrt(variance + self.pooling.floor)
        return np.concatenate([mean, deviation]).astype(np.float32)


SUMS: dict[str, type[PoolingSums]] = {
    "netvlad": VladSums,
    "average": AverageSums,
    "statistics": StatisticsSums,
}


def empty_sums(pooling: Pooling) -> PoolingSums:
    """The sums that fit a pooling layer, without frames."""
    return SUMS[pooling.kind].empty(pooling)
