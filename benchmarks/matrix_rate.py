"""How much of the machine's matrix rate a forward pass reaches.

    python benchmarks/matrix_rate.py [--encoder default] [--seconds 10] [--threads 1]

Counts the operations of convolutions and matrix products of one recording with torch, times
each backend on it (front end included), and in turn with it
a matrix product of 2048 x 2048 in the same precision with torch. The share is the median over the
rounds of (operations / time) over the rate of the product.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from embedding import OURS, ours
from material import voice, write_published_size
from torch.utils.flop_counter import FlopCounterMode

from speakervlad.encoder.location import find_encoder
from speakervlad.models.folder import load_encoder_folder

SIZE = 2048
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", help="a name that ships, or a folder; else the published size")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "published"
        encoder = find_encoder(arguments.encoder) if arguments.encoder else folder
        if arguments.encoder is None:
            write_published_size(folder)
        measure(encoder, arguments.seconds, arguments.rounds)


def measure(encoder: Path, seconds: float, rounds: int) -> None:
    """One line per backend and precision."""
    samples = voice(seconds)
    operations = count_operations(encoder, seconds)
    print(f"{operations / 1e9:.1f} GFLOP in {seconds:g} s of audio")
    for backend, precision in OURS:
        try:
            system = ours(encoder, backend, precision)
        except ImportError as error:
            print(f"{backend:12} {precision:9} {str(error).splitlines()[0]}")
            continue
        product = matrix_product(TYPES[precision])
        shares, rates = [], []
        for _ in range(rounds):
            rate = 2 * SIZE**3 / timed(product)
            rates.append(rate)
            shares.append(operations / timed(lambda: system.embed(samples)) / rate)  # noqa: B023
        print(
            f"{backend:12} {precision:9} {statistics.median(shares):6.1%} of "
            f"{statistics.median(rates) / 1e9:.0f} GFLOP/s "
            f"({min(shares):.1%} to {max(shares):.1%})",
            flush=True,
        )


def count_operations(encoder: Path, seconds: float) -> float:
    """Floating-point operations of a forward pass, two for each multiplication."""
    network, _ = load_encoder_folder(encoder)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.from_numpy(voice(seconds))[None])
    return counter.get_total_flops()


def matrix_product(dtype: torch.dtype) -> Callable[[], object]:
    """A product that nothing but arithmetic limits."""
    one, other = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
    return lambda: one @ other


def timed(work: Callable[[], object]) -> float:
    """Seconds of a second call."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
