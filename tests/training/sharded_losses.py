"""Losses and gradients of a sharded margin loss, as torchrun computes them on every rank."""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from speakervlad.models.classifier import AAMSoftmax, AMSoftmax
from speakervlad.training.distributed import World, join_world
from speakervlad.training.partial_fc import PartialFC

DIM, SPEAKERS, BATCH = 16, 101, 12
KINDS = {"am_softmax": AMSoftmax, "aam_softmax": AAMSoftmax}
CASES = [(kind, rate) for kind in KINDS for rate in (1.0, 0.3, 1e-9)]


def batch():
    generator = torch.Generator().manual_seed(3)
    waves = torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64)
    return waves, torch.randint(SPEAKERS, (BATCH,), generator=generator)


def layers(kind):
    torch.manual_seed(0)
    return nn.Linear(DIM, DIM).double(), KINDS[kind](DIM, SPEAKERS).double()


def loss_and_gradients(kind, rate, world: World):
    """As one process would find them: of the mean loss over the whole batch."""
    encoder, whole = layers(kind)
    classifier = PartialFC(whole, world, sample_rate=rate, seed=5)
    classifier.before_step(7)
    waves, speakers = (part.chunk(world.size)[world.rank] for part in batch())
    shared = DistributedDataParallel(encoder) if world.size > 1 else encoder
    embeddings = shared(waves)
    embeddings.retain_grad()
    loss = classifier(embeddings, speakers)
    loss.value.backward()
    return {
        "loss": loss.value.detach(),
        "accuracy": loss.accuracy,
        "embeddings": gathered(embeddings.grad / world.size, world),
        "encoder": encoder.weight.grad,
        "weight": classifier.gather_rows(classifier.weight.grad),
    }


def gathered(values, world):
    parts = [torch.empty_like(values) for _ in range(world.size)]
    if world.size == 1:
        return values
    dist.all_gather(parts, values)
    return torch.cat(parts)


if __name__ == "__main__":
    with join_world("cpu") as world:
        found = [loss_and_gradients(*case, world) for case in CASES]
        if world.is_main:
            torch.save(found, sys.argv[1])
