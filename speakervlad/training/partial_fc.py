"""Partial FC: the classes of a margin loss, sharded over processes and sampled."""

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from speakervlad.config import ClassifierConfig
from speakervlad.errors import InputError, check_range
from speakervlad.models.classifier import (
    Classifier,
    Embeddings,
    Logits,
    Loss,
    MarginSoftmax,
    Speakers,
)
from speakervlad.models.precision import at_least_float32
from speakervlad.training.distributed import World

SHARDED_KINDS = ("am_softmax", "aam_softmax")
# Classes whose starts are drawn together.
BLOCK = 4096


def check_sharding(config: ClassifierConfig) -> None:
    """Refuse losses that cannot be sharded and rates that are none.

    Raises:
        InputError: as said.
    """
    if config.sharded and config.kind not in SHARDED_KINDS:
        raise InputError(
            f"classifier.sharded needs classifier.kind={' or '.join(SHARDED_KINDS)}, "
            f"not {config.kind}."
        )
    check_range("classifier.sample_rate", config.sample_rate, above=0, at_most=1)
    if config.sample_rate < 1 and not config.sharded:
        raise InputError("classifier.sample_rate below 1 needs classifier.sharded=true.")


class PartialFC(Classifier):
    """A margin softmax of which every process holds and computes its own range of classes.

    The loss is that of the whole batch of all processes over all classes, exactly: embeddings are
    gathered, and the sums of the softmax are added up over processes. With ``sample_rate < 1`` it
    is taken over the classes of the batch and a random share of the others (An et al. 2021 and
    2022). Which others depends on ``(seed, step)`` alone, not on the number of processes.

    Args:
        whole: the loss with the weights of all classes; its own range of them is all that is kept.
        world: the processes that share the classes.
        sample_rate: probability that a class outside of the batch takes part in a step.
        seed: of the draw.
    """

    def __init__(
        self, whole: MarginSoftmax, world: World, *, sample_rate: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__()
        self.world = world
        self.num_speakers = len(whole.weight)
        self.sample_rate = sample_rate
        self.seed = seed
        own = slice(*class_range(self.num_speakers, world.rank, world.size))
        self.first = own.start
        self.margin = whole
        self.margin.weight = nn.Parameter(whole.weight.detach()[own].clone())
        self._drawn: Tensor | None = None

    @classmethod
    def start(
        cls, whole: MarginSoftmax, world: World, *, sample_rate: float, seed: int
    ) -> "PartialFC":
        """Fresh classes on the CPU, with memory for those of this process alone.

        They are normal, of the length that rows of an orthogonal start have, and the same whatever
        the number of processes.

        Args:
            whole: the loss on the meta device.
            world: the processes that share the classes.
            sample_rate: as of the class.
            seed: of the start, and of the draw.
        """
        sharded = cls(whole, world, sample_rate=sample_rate, seed=seed)
        sharded.margin.to_empty(device="cpu")
        sharded.margin.warm_up(1.0)
        end = sharded.first + len(sharded.weight)
        with torch.no_grad():
            for block in range(sharded.first // BLOCK, -(-end // BLOCK)):
                rng = np.random.default_rng((seed, block, sharded.num_speakers))
                rows = rng.standard_normal((BLOCK, whole.weight.shape[1]), dtype=np.float32)
                low, high = max(block * BLOCK, sharded.first), min((block + 1) * BLOCK, end)
                drawn = torch.from_numpy(rows[low - block * BLOCK : high - block * BLOCK])
                sharded.weight[low - sharded.first : high - sharded.first] = drawn
            sharded.weight.div_(sharded.num_speakers**0.5)
        return sharded

    @property
    def weight(self) -> nn.Parameter:
        """The weights of this process's classes, ``(own speakers, dim)``."""
        return self.margin.weight

    def before_step(self, step: int) -> None:
        if self.sample_rate == 1:
            return
        rng = np.random.default_rng((self.seed, step))
        drawn = rng.random(self.num_speakers, dtype=np.float32) < self.sample_rate
        own = drawn[self.first : self.first + len(self.weight)]
        self._drawn = torch.from_numpy(own).to(self.weight.device)

    def warm_up(self, share: float) -> None:
        self.margin.warm_up(share)

    def after_step(self) -> None:
        self.margin.after_step()

    @torch.compiler.disable
    def forward(self, embeddings: Embeddings, speakers: Speakers) -> Loss:
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = gather_batch(at_least_float32(embeddings), self.world)
            speakers = _gather(speakers, self.world) - self.first
            weight, columns, is_own = self._classes(speakers)
            cosines = F.linear(F.normalize(embeddings), self.margin.directions(weight))
            return self._loss(cosines, columns[:, None], is_own[:, None])

    def _classes(self, speakers: Speakers) -> tuple[Tensor, Speakers, Tensor]:
        """Weights that take part, each row's column among them, and whether its class is ours.

        Rows whose class another process holds get some column of ours, to be left alone.
        """
        is_own = (speakers >= 0) & (speakers < len(self.weight))
        columns = speakers.clamp(0, len(self.weight) - 1)
        if self._drawn is None:
            return self.weight, columns, is_own
        taken = self._drawn.index_fill(0, columns[is_own], True)
        taken[0] |= ~taken.any()
        columns = (taken.cumsum(0)[columns] - 1).clamp(min=0)
        return self.weight[taken], columns, is_own

    def _loss(self, cosines: Logits, columns: Tensor, is_own: Tensor) -> Loss:
        own = cosines.gather(1, columns)
        with_margin = torch.where(is_own, self.margin.with_margin(own), own)
        logits = self.margin.scale * cosines.scatter(1, columns, with_margin)
        largest = self.world.largest(logits.detach().amax(dim=1))
        sums = add_up((logits - largest[:, None]).exp().sum(dim=1), self.world)
        target = self.margin.scale * add_up((with_margin * is_own).sum(dim=1), self.world)
        nearest = self.world.largest(cosines.detach().amax(dim=1))
        is_nearest = (own.detach().squeeze(1) >= nearest) & is_own.squeeze(1)
        accuracy = add_up(is_nearest.float().mean(), self.world)
        return Loss((sums.log() + largest - target).mean(), accuracy)

    def gather_rows(self, own: Tensor) -> Tensor:
        """Bring the rows of all processes' classes to the main process's CPU.

        Every process must call it; the others than the main one get their own rows back.
        """
        if not self.world.is_main:
            dist.send(own.contiguous(), 0)
            return own
        parts = [own.cpu()]
        for rank in range(1, self.world.size):
            first, end = class_range(self.num_speakers, rank, self.world.size)
            part = own.new_empty(end - first, *own.shape[1:])
            dist.recv(part, rank)
            parts.append(part.cpu())
        return torch.cat(parts)

    def own_rows(self, whole: Tensor) -> Tensor:
        """A copy of this process's classes' rows, of a tensor with a row for every class."""
        return whole[self.first : self.first + len(self.weight)].clone()


def class_range(num_classes: int, rank: int, size: int) -> tuple[int, int]:
    """First and end of the classes that a process holds."""
    return rank * num_classes // size, (rank + 1) * num_classes // size


def add_up(values: Tensor, world: World) -> Tensor:
    """The sum over processes of what each of them adds to the same loss, differentiably."""
    return values if world.size == 1 else _Sum.apply(values)


def gather_batch(values: Tensor, world: World) -> Tensor:
    """The rows of all processes, differentiably.

    The gradient comes multiplied by the number of processes: DDP will take the mean over them.
    """
    return values if world.size == 1 else _GatherBatch.apply(values, world)


def _gather(values: Tensor, world: World) -> Tensor:
    if world.size == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world.size)]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:  # noqa: ANN001
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # noqa: ANN001
        return gradient


class _GatherBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, world: World) -> Tensor:  # noqa: ANN001
        ctx.world = world
        return _gather(values, world)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN001
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        own = gradient.chunk(ctx.world.size)[ctx.world.rank]
        return own * ctx.world.size, None
