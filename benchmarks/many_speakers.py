"""Step time and memory of a million classes: plain, sharded over two processes, sampled.

    python benchmarks/many_speakers.py            # 1,000,000 classes
    python benchmarks/many_speakers.py 100000

AAM-softmax over classes of 256 with Adam, embeddings random, a batch of 32 in all; the
encoder is left out. Every line is a run of its own; seconds and peak memory are those of one
process, which computes with one thread. CPU time, so that other work on the machine does not count.
"""

import os
import resource
import sys
import time
from pathlib import Path

import torch
from torch.multiprocessing.spawn import spawn

from speakervlad.models.classifier import AAMSoftmax, Classifier, MarginSoftmax
from speakervlad.training.distributed import World, join_world
from speakervlad.training.partial_fc import PartialFC, class_range

DIM, BATCH, STEPS = 256, 32, 3


def main() -> None:
    """Measure every line in fresh processes."""
    num_classes = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    for name, size, rate in (
        ("plain, 1 process", 1, None),
        ("sharded, 2 processes", 2, 1.0),
        ("sampled 0.1, 1 process", 1, 0.1),
        ("sharded, sampled 0.1, 2 processes", 2, 0.1),
    ):
        os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="29517", WORLD_SIZE=str(size))
        spawn(_measure, (name, num_classes, rate), nprocs=size)


def _measure(rank: int, name: str, num_classes: int, rate: float | None) -> None:
    os.environ["RANK"] = str(rank)
    torch.set_num_threads(1)
    with join_world("cpu") as world:
        classifier = _classifier(world, num_classes, rate)
        optimizer = torch.optim.Adam([classifier.weight])
        embeddings = torch.randn(BATCH // world.size, DIM, requires_grad=True)
        seconds = []
        for step in range(STEPS):
            start = time.process_time()
            classifier.before_step(step)
            speakers = torch.randint(num_classes, (len(embeddings),))
            optimizer.zero_grad()
            classifier(embeddings, speakers).value.backward()
            optimizer.step()
            world.wait()
            seconds.append(time.process_time() - start)
        if world.is_main:
            print(f"  {min(seconds):6.2f} CPU s/step  {_peak_gib():6.2f} GiB  {name}", flush=True)


def _classifier(world: World, num_classes: int, rate: float | None) -> Classifier:
    """As ``PartialFC`` would leave it, without the memory and minutes of an orthogonal start."""
    first, end = class_range(num_classes, world.rank, world.size)
    with torch.device("meta"):
        whole: MarginSoftmax = AAMSoftmax(DIM, num_classes)
    classifier = whole if rate is None else PartialFC(whole, world, sample_rate=rate)
    margin = whole.to_empty(device="cpu")
    assert len(margin.weight) == end - first
    torch.nn.init.normal_(margin.weight)
    margin.warm_up(1.0)
    return classifier


def _peak_gib() -> float:
    # Linux keeps the peak of a forked parent in ru_maxrss; VmHWM starts afresh with exec.
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
