"""Pooling that adds up: over chunks of one recording, over recordings of one speaker.

``state = VladState.empty(pooling)``, then ``state.add(frames, guide)`` as frames arrive,
``state.merge(other)`` for what was summed elsewhere, ``state.finish()`` for the pooled vector at
any time. States never change; every step returns a new one.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.models.pooling import (
    VARIANCE_FLOOR,
    NetVLAD,
    StatisticsPooling,
    TemporalAveragePooling,
)

Frames = Float[Tensor, "batch dim frame"]


@dataclass(frozen=True)
class PoolingState:
    """Sums over frames, in float64 so that hours add up as exactly as seconds.

    Attributes:
        pooling: the layer whose output ``finish`` gives.
        sums: what adds up, ``(batch, ...)``; None before the first frames.
        num_frames: how many frames are in it.
    """

    pooling: nn.Module
    sums: Tensor | None = None
    num_frames: int = 0

    @classmethod
    def empty(cls, pooling: nn.Module) -> Self:
        """No frames yet."""
        return cls(pooling)

    def add(self, frames: Frames, guide: Frames | None = None) -> Self:
        """Add descriptors, and what the soft assignment looks at if that is something else."""
        return self._plus(self._measure(frames, guide).double(), frames.shape[-1])

    def merge(self, other: Self) -> Self:
        """The state of both sets of frames together."""
        return self if other.sums is None else self._plus(other.sums, other.num_frames)

    def finish(self) -> Float[Tensor, "batch out"]:
        """The pooled vector of all frames so far, float32.

        Raises:
            ValueError: there is no frame yet.
        """
        if self.sums is None:
            raise ValueError("the pooling state holds no frames yet.")
        return self._conclude(self.sums).float()

    def _plus(self, sums: Tensor, num_frames: int) -> Self:
        total = sums if self.sums is None else self.sums + sums
        return replace(self, sums=total, num_frames=self.num_frames + num_frames)

    def _measure(self, frames: Frames, guide: Frames | None) -> Tensor:
        raise NotImplementedError

    def _conclude(self, sums: Tensor) -> Tensor:
        raise NotImplementedError


class VladState(PoolingState):
    """Residual sums of NetVLAD or GhostVLAD: ``sums (batch, clusters, dim)``."""

    pooling: NetVLAD

    def _measure(self, frames: Frames, guide: Frames | None) -> Tensor:
        return self.pooling.residual_sums(frames, guide)

    def _conclude(self, sums: Tensor) -> Tensor:
        return self.pooling.normalise(sums)


class AverageState(PoolingState):
    """``sums (batch, dim)``."""

    def _measure(self, frames: Frames, guide: Frames | None) -> Tensor:
        return frames.double().sum(dim=2)

    def _conclude(self, sums: Tensor) -> Tensor:
        return sums / self.num_frames


class StatisticsState(PoolingState):
    """First and second moments: ``sums (batch, 2, dim)``."""

    def _measure(self, frames: Frames, guide: Frames | None) -> Tensor:
        exact = frames.double()
        return torch.stack([exact.sum(dim=2), exact.square().sum(dim=2)], dim=1)

    def _conclude(self, sums: Tensor) -> Tensor:
        mean, square = (sums / self.num_frames).unbind(dim=1)
        variance = (square - mean.square()).clamp(min=0)
        return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=1)


STATES: dict[type[nn.Module], type[PoolingState]] = {
    NetVLAD: VladState,
    TemporalAveragePooling: AverageState,
    StatisticsPooling: StatisticsState,
}


def empty_state(pooling: nn.Module) -> PoolingState:
    """The state that fits a pooling layer."""
    return STATES[type(pooling)].empty(pooling)
