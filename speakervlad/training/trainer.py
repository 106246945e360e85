"""One optimisation step, and nothing else: no files, no logs, no config."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from speakervlad.models.classifier import Loss
from speakervlad.models.encoder import SpeakerClassifier
from speakervlad.training.augment.augmenter import Examples
from speakervlad.training.batch_norm import synchronise
from speakervlad.training.distributed import World
from speakervlad.training.optim import set_learning_rate
from speakervlad.training.shards import SHARD_NAME, clip_gradients, is_sharded


@dataclass(frozen=True)
class StepPlan:
    """What the schedules say about one step."""

    learning_rate: float
    margin_share: float = 1.0
    trunk_rests: bool = False


class Trainer:
    """Runs single steps of a model on this process's share of the batch.

    Args:
        model: encoder and classifier.
        optimizer: over the model's parameters, in the groups of ``parameter_groups``.
        world: the processes that train together.
        plan: step to learning rate, margin share and whether the trunk rests.
        precision: ``float32`` or ``bfloat16`` (autocast).
        clip_norm: largest gradient norm; 0 clips nothing.
        accumulate: parts of a batch that go through the network one after another.
        sync_batch_norm: whether batch statistics are those of all processes.
        compile_model: whether to run the network through ``torch.compile``.
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
        if sync_batch_norm and world.size > 1:
            synchronise(self.model, world.device)
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
        if plan.trunk_rests:
            self.model.encoder.trunk.eval()
        self.model.classifier.before_step(step)
        self.model.classifier.warm_up(plan.margin_share)
        set_learning_rate(self.optimizer, plan.learning_rate, trunk_rests=plan.trunk_rests)
        self.optimizer.zero_grad(set_to_none=True)
        losses = [
            self._accumulate(part, last=number == self.accumulate)
            for number, part in enumerate(examples.split(self.accumulate), start=1)
        ]
        if self.clip_norm:
            clip_gradients(self.model, self.clip_norm)
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
    """The model with gradients averaged over all processes, but for classes that one holds."""
    if world.size == 1:
        return model
    devices = [world.device] if world.device.type == "cuda" else None
    if is_sharded(model):
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, [SHARD_NAME])
    return DistributedDataParallel(model, device_ids=devices)
