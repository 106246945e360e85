"""A whole training step: crops per second, and its share of the device's limits.

    python benchmarks/training_step.py                                  # CPU, batches of 32
    python benchmarks/training_step.py --device cuda --precision bfloat16 --compile \
        --batch 160 320 640 1024

The published encoder (or another config's) on crops of 2.5 s with 1,000 speakers: front end,
forward, backward, update; no augmentation, no loader. In every round the step takes turns with a
matrix product in the same precision and with a copy of 256 MiB. Operations are those of
convolutions and matrix products; bytes are what the step moves when every operation reads its
inputs and writes its outputs once, unfused: with `--compile` less is moved, so that the second
share may exceed 100 %.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from speakervlad.config import Config, load_config
from speakervlad.training.augment import Examples
from speakervlad.training.distributed import World, choose_device
from speakervlad.training.start import build_model
from speakervlad.training.trainer import Trainer, build_trainer

CROP, SPEAKERS = 40_000, 1000
MATRIX, COPY_BYTES = {"cpu": 2048, "cuda": 8192}, 2**28
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", help="an experiment; the published encoder by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=TYPES, nargs="+", default=list(TYPES))
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config) if arguments.config else Config()
    device = choose_device(arguments.device)
    for precision in arguments.precision:
        for batch in arguments.batch:
            measure(config, device, precision, batch, arguments.compile, arguments.rounds)


def measure(
    config: Config, device: torch.device, precision: str, batch: int, compiled: bool, rounds: int
) -> None:
    """One line for one batch size."""
    examples = Examples(
        0.1 * torch.randn(batch, CROP, device=device),
        torch.arange(batch, device=device) % SPEAKERS,
    )
    eager = trainer_of(config, device, precision, compiled=False)
    with FlopCounterMode(display=False) as counter, Traffic() as traffic:
        eager.step(0, examples)
    trainer = trainer_of(config, device, precision, compiled=compiled)
    work = {
        "step": lambda: trainer.step(0, examples),
        "product": matrix_product(device, TYPES[precision]),
        "copy": copy(device),
    }
    for _ in range(2):
        timed(work["step"], device)
    seconds = [{name: timed(call, device) for name, call in work.items()} for _ in range(rounds)]
    operations = [counter.get_total_flops() / one["step"] for one in seconds]
    products = [2 * MATRIX[device.type] ** 3 / one["product"] for one in seconds]
    moved = [traffic.total / one["step"] for one in seconds]
    copies = [2 * COPY_BYTES / one["copy"] for one in seconds]
    middle = statistics.median
    print(
        f"{precision:9} batch {batch:5}  {batch / middle(one['step'] for one in seconds):8.1f} "
        f"crops/s  {middle(operations) / 1e9:9.0f} of {middle(products) / 1e9:.0f} GFLOP/s "
        f"({middle(operations) / middle(products):.0%})  {middle(moved) / 1e9:7.1f} of "
        f"{middle(copies) / 1e9:.1f} GB/s ({middle(moved) / middle(copies):.0%})",
        flush=True,
    )


def trainer_of(config: Config, device: torch.device, precision: str, *, compiled: bool) -> Trainer:
    """A trainer of the config's model, as `train` builds it."""
    options = replace(config.train, precision=precision, compile=compiled)  # pyright: ignore
    config = replace(config, train=options)
    return build_trainer(config, build_model(config, SPEAKERS), World(0, 1, device))


class Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = (leaf for leaf in tree_leaves((args, kwargs, out)))
            self.total += sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
        return out


def matrix_product(device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """A product that nothing but arithmetic limits."""
    size = MATRIX[device.type]
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return lambda: one @ other


def copy(device: torch.device) -> Callable[[], object]:
    """A copy that nothing but memory limits."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
