"""Training of a head on cached frames: crops per second of one core, and where the time goes.

    python benchmarks/frozen_head.py conf/default_encoder.yaml --seconds 2

The head, classifier and teacher's terms of a config with ``train.frozen_trunk``, on random frames
in memory that are read, moved and cropped as those of a cache are: no trunk, no audio. The
encoder that the config starts from is not needed. Processor time counts, not the clock, so that
other work on the machine does less harm.
"""

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from speakervlad.config import load_config
from speakervlad.models.folder import complete
from speakervlad.training.distributed import World, choose_device
from speakervlad.training.frame_crops import FrameBatch, FrameExamples
from speakervlad.training.start import build_model
from speakervlad.training.teacher import Targets
from speakervlad.training.trainer import build_trainer

SPEAKERS, UTTERANCES, FRAMES = 5000, 400, 400


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a crop")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--profile", action="store_true", help="print the slowest operations")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for precision in arguments.precision:
        for batch in arguments.batch:
            measure(arguments, precision, batch)


def measure(arguments: argparse.Namespace, precision: str, batch: int) -> None:
    """One line for one batch size."""
    config = load_config(arguments.config)
    train = replace(config.train, precision=precision, batch_size=batch)
    config = replace(
        config, init_from=None, init_projection=False, encoder=complete(config.encoder), train=train
    )
    device = choose_device(arguments.device)
    model = build_model(config, SPEAKERS)
    trainer = build_trainer(config, model, World(0, 1, device))
    trunk = model.encoder.trunk
    rng = np.random.default_rng(0)
    dim = trunk.channels * trunk.num_rows
    stored = rng.standard_normal((UTTERANCES, FRAMES, dim)).clip(0).astype(np.float16)
    vectors = torch.nn.functional.normalize(torch.randn(1, UTTERANCES, model.encoder.dim), dim=2)
    targets = Targets(vectors, torch.ones(SPEAKERS, dtype=torch.bool))
    shape = (trunk.channels, trunk.num_rows)
    examples = FrameExamples(shape, SPEAKERS, device, precision, targets)
    spec = model.encoder.front_end.spec
    length = round(arguments.seconds * 16000 / spec.hop_length / trunk.frame_stride)

    def step(number: int) -> None:
        rows = rng.integers(UTTERANCES, size=batch)
        frames = np.empty((batch, length, dim), np.float16)
        for row, out in zip(rows.tolist(), frames, strict=True):
            start = int(rng.integers(FRAMES - length + 1))
            out[:] = stored[row, start : start + length]
        index = torch.from_numpy(rows)
        given = FrameBatch(torch.from_numpy(frames), index, index, torch.zeros_like(index))
        trainer.step(number, examples(given))

    for number in range(3):
        step(number)
    if arguments.profile:
        with torch.profiler.profile() as profile:
            step(3)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=18))
    seconds = []
    for number in range(arguments.rounds):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.process_time() if device.type == "cpu" else time.perf_counter()
        step(number)
        if device.type == "cuda":
            torch.cuda.synchronize()
        ended = time.process_time() if device.type == "cpu" else time.perf_counter()
        seconds.append(ended - began)
    print(
        f"{precision:9} batch {batch:4}  crops of {arguments.seconds:g} s: "
        f"{batch / statistics.median(seconds):7.0f}/s (best {batch / min(seconds):.0f}/s)",
        flush=True,
    )


if __name__ == "__main__":
    main()
