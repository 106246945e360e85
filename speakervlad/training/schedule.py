"""Schedules as pure functions of the step: nothing to save, nothing to resume."""

import math
from collections.abc import Callable
from itertools import pairwise

from speakervlad.config import ScheduleConfig
from speakervlad.errors import InputError, check_range


def constant(progress: float, final_factor: float) -> float:
    """Always 1."""
    return 1.0


def cosine(progress: float, final_factor: float) -> float:
    """Half a cosine from 1 down to ``final_factor``."""
    return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * progress)) / 2


def exponential(progress: float, final_factor: float) -> float:
    """Constant ratio per step from 1 down to ``final_factor``."""
    return final_factor**progress


DECAYS: dict[str, Callable[[float, float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "exponential": exponential,
}


def rate_factor(step: int, total_steps: int, schedule: ScheduleConfig) -> float:
    """What the base learning rate is multiplied with at a step counted from 0.

    During ``warmup_steps`` the factor rises linearly from ``warmup_start`` to the schedule's own
    value; a ``warmup_start`` of 1 leaves the schedule alone.
    """
    if schedule.kind == "steps":
        factor = schedule.factors[sum(step >= milestone for milestone in schedule.milestones)]
    else:
        progress = min(step / max(total_steps, 1), 1.0)
        factor = DECAYS[schedule.kind](progress, schedule.final_factor)
    if step < schedule.warmup_steps:
        start = schedule.warmup_start
        factor *= start + (1 - start) * (step + 1) / schedule.warmup_steps
    return factor


def check_schedule(schedule: ScheduleConfig) -> None:
    """Refuse milestones and factors that do not fit each other, and numbers out of range.

    Raises:
        InputError: as said.
    """
    check_range("schedule.warmup_steps", schedule.warmup_steps, at_least=0)
    check_range("schedule.warmup_start", schedule.warmup_start, at_least=0, at_most=1)
    check_range("schedule.final_factor", schedule.final_factor, at_least=0, at_most=1)
    if schedule.kind != "steps":
        return
    if len(schedule.factors) != len(schedule.milestones) + 1:
        raise InputError(
            f"schedule.factors: {len(schedule.factors)} factors for "
            f"{len(schedule.milestones)} milestones. Give one factor more than milestones."
        )
    if any(later <= earlier for earlier, later in pairwise(schedule.milestones)):
        raise InputError("schedule.milestones: must increase. Sort them.")


def margin_share(step: int, warmup_steps: int) -> float:
    """Share of the final margin at a step: linear from 0 to 1 over the warm-up."""
    return 1.0 if warmup_steps == 0 else min(step / warmup_steps, 1.0)
