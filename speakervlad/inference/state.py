"""Pooling that adds up: over chunks of one recording, over recordings of one speaker.

``state = VladState.empty(pooling)``, then ``state.add(frames, guide)`` as frames arrive,
``state.merge(other)`` for what was summed elsewhere, ``state.finish()`` for the pooled vector at
any time. States never change; every step returns a new one.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from speakervlad.inference.pooling_sums import PoolingSums
from speakervlad.models.pooling import (
    VARIANCE_FLOOR,
    NetVLAD,
    StatisticsPooling,
    TemporalAveragePooling,
)

Frames = Float[Tensor, "batch dim frame"]
Pooled = Float[Tensor, "batch out"]


class VladState(PoolingSums):
    """Residual sums of NetVLAD or GhostVLAD: ``sums (batch, clusters, dim)``."""

    pooling: NetVLAD

    def _measure(self, frames: Frames, guide: Frames | None) -> Tensor:
        return self.pooling.residual_sums(frames, guide).double()

    def _conclude(self, sums: Tensor) -> Pooled:
        return self.pooling.normalise(sums).float()


class AverageState(PoolingSums):
    """``sums (batch, dim)``."""

    def _measure(self, frames: Frames, guide: Frames | None) -> Tensor:
        return frames.double().sum(dim=2)

    def _conclude(self, sums: Tensor) -> Pooled:
        return (sums / self.num_frames).float()


class StatisticsState(PoolingSums):
    """First and second moments: ``sums (batch, 2, dim)``."""

    def _measure(self, frames: Frames, guide: Frames | None) -> Tensor:
        exact = frames.double()
        return torch.stack([exact.sum(dim=2), exact.square().sum(dim=2)], dim=1)

    def _conclude(self, sums: Tensor) -> Pooled:
        mean, square = (sums / self.num_frames).unbind(dim=1)
        variance = (square - mean.square()).clamp(min=0)
        return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=1).float()


STATES: dict[type[nn.Module], type[PoolingSums]] = {
    NetVLAD: VladState,
    TemporalAveragePooling: AverageState,
    StatisticsPooling: StatisticsState,
}


def empty_state(pooling: nn.Module) -> PoolingSums:
    """The state that fits a pooling layer."""
    return STATES[type(pooling)].empty(pooling)
