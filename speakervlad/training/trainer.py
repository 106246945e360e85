"""One optimisation step, its optimiser and its schedules: no files, no logs."""

import logging
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from speakervlad.config import Config, OptimConfig, ScheduleConfig
from speakervlad.errors import InputError
from speakervlad.models.encoder import SpeakerClassifier
from speakervlad.models.losses import Loss
from speakervlad.models.pooling import NetVLAD
from speakervlad.training.augment import Examples
from speakervlad.training.distributed import World

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepPlan:
    """What the schedules say about one step."""

    learning_rate: float
    margin_share: float = 1.0
    trunk_frozen: bool = False


class Trainer:
    """Runs single steps of a model on this process's share of the batch.

    Args:
        model: encoder and classifier.
        optimizer: over the model's parameters, in the groups of ``parameter_groups``.
        world: the processes that train together.
        plan: step to learning rate, margin share and whether the trunk is frozen.
        precision: ``float32`` or ``bfloat16`` (autocast).
        clip_norm: largest gradient norm; 0 clips nothing.
        accumulate: parts of a batch that go through the network one after another.
        sync_batch_norm: whether batch statistics are those of all processes; on GPUs alone
            (``nn.SyncBatchNorm``), on CPUs every process has its own.
        compile_model: whether to run the network through ``torch.compile``.
        frozen_stages: the trunk's stem and so many of its stages do not learn; 0 leaves the stem
            to learn as well.
    """

    def __init__(
        self,
        model: SpeakerClassifier,
        optimizer: torch.optim.Optimizer,
        world: World,
        *,
        plan: Callable[[int], StepPlan],
        precision: str = "float32",
        clip_norm: float = 0.0,
        accumulate: int = 1,
        sync_batch_norm: bool = False,
        compile_model: bool = False,
        frozen_stages: int = 0,
    ) -> None:
        self.model = model.to(world.device)
        if world.device.type == "cuda" or precision == "bfloat16":
            # Not in float32 on CPUs: there torch 2.14 was seen to corrupt memory in narrow trunks.
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = optimizer
        self.world = world
        self.plan = plan
        self.precision = precision
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self._frozen = model.encoder.trunk.first_stages(frozen_stages)
        for part in self._frozen:
            part.requires_grad_(False)
        if sync_batch_norm and world.size > 1:
            _synchronise(self.model, world.device)
        self._shared = _share(self.model, world)
        self._wrapped: Callable[..., Loss] = (
            torch.compile(self._shared) if compile_model else self._shared
        )

    def step(self, step: int, examples: Examples) -> Loss:
        """Forward, backward, update on this process's share of the batch.

        Returns:
            This process's loss, still on the device.
        """
        plan = self.plan(step)
        self.model.train()
        for part in self._frozen:
            part.eval()
        if plan.trunk_frozen:
            self.model.encoder.trunk.eval()
        self.model.classifier.warm_up(plan.margin_share)
        set_learning_rate(self.optimizer, plan.learning_rate, trunk_frozen=plan.trunk_frozen)
        self.optimizer.zero_grad(set_to_none=True)
        losses = [
            self._accumulate(part, last=number == self.accumulate)
            for number, part in enumerate(examples.split(self.accumulate), start=1)
        ]
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.model.classifier.after_step()
        values, accuracies = zip(*losses, strict=True)
        return Loss(torch.stack(values).mean(), torch.stack(accuracies).mean())

    def _accumulate(self, examples: Examples, *, last: bool) -> Loss:
        """Add a part's share of the gradient; processes exchange it with the last part only."""
        shared = self._shared
        waits = isinstance(shared, DistributedDataParallel) and not last
        with cast("DistributedDataParallel", shared).no_sync() if waits else nullcontext():
            with self._autocast():
                loss: Loss = self._wrapped(*examples)
            (loss.value / self.accumulate).backward()
        return Loss(loss.value.detach(), loss.accuracy)

    def _autocast(self) -> AbstractContextManager:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)


def _share(model: SpeakerClassifier, world: World) -> nn.Module:
    """The model with gradients averaged over all processes."""
    if world.size == 1:
        return model
    devices = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def _synchronise(model: SpeakerClassifier, device: torch.device) -> None:
    if device.type != "cuda":
        logger.warning("train.sync_batch_norm needs GPUs: every process uses its own statistics")
        return
    nn.SyncBatchNorm.convert_sync_batchnorm(model)


def build_optimizer(model: SpeakerClassifier, config: OptimConfig) -> torch.optim.Optimizer:
    """Adam (coupled decay), AdamW (decoupled) or SGD with Nesterov momentum.

    Every parameter group says whether it belongs to the ``trunk``, so that it alone can
    have a learning rate of 0.
    """
    groups = parameter_groups(model, config.weight_decay)
    if config.kind == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.kind]
    return kind(groups, lr=config.lr, eps=config.epsilon, fused=True)


def parameter_groups(model: SpeakerClassifier, weight_decay: float) -> list[dict]:
    """Trunk and rest, each with and without decay; batch norm and cluster centres have none."""
    free = {id(parameter) for parameter in undecayed(model)}
    trunk = {id(parameter) for parameter in model.encoder.trunk.parameters()}
    groups = []
    for in_trunk in (True, False):
        for decays in (True, False):
            parameters = [
                parameter
                for parameter in model.parameters()
                if (id(parameter) in trunk) == in_trunk and (id(parameter) in free) != decays
            ]
            decay = weight_decay if decays else 0.0
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "trunk": in_trunk})
    return groups


def undecayed(model: SpeakerClassifier) -> Iterable[nn.Parameter]:
    """Batch norm's scales and shifts, and the cluster centres."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            yield from module.parameters()
        elif isinstance(module, NetVLAD):
            yield module.centers


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """What an optimiser keeps of every parameter, and whether it has the parameter's shape."""
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer": True} if optimizer.defaults["momentum"] else {}
    return {"step": False, "exp_avg": True, "exp_avg_sq": True}


def set_learning_rate(
    optimizer: torch.optim.Optimizer, rate: float, *, trunk_frozen: bool = False
) -> None:
    """Give all groups this rate, or none to the trunk's groups while it is frozen."""
    for group in optimizer.param_groups:
        group["lr"] = 0.0 if trunk_frozen and group["trunk"] else rate


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


def build_plan(config: Config, margin_warmup_steps: int = 0) -> Callable[[int], StepPlan]:
    """The schedules of learning rate, margin and frozen trunk as one function of the step."""

    def plan(step: int) -> StepPlan:
        factor = rate_factor(step, config.train.steps, config.schedule)
        return StepPlan(
            config.optim.lr * factor,
            margin_share(step, margin_warmup_steps),
            step < config.train.freeze_trunk_steps,
        )

    return plan


def build_trainer(config: Config, model: SpeakerClassifier, world: World) -> Trainer:
    """The trainer that a config describes, with a fresh optimiser."""
    return Trainer(
        model,
        build_optimizer(model, config.optim),
        world,
        plan=build_plan(config, model.classifier.margin_warmup_steps),
        precision=config.train.precision,
        clip_norm=config.optim.clip_norm,
        accumulate=config.train.accumulate,
        sync_batch_norm=config.train.sync_batch_norm,
        compile_model=config.train.compile,
        frozen_stages=config.train.frozen_stages,
    )
