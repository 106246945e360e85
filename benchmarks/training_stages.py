"""Where the time of a training goes: disk, decoding, augmentation, front end, network.

    python benchmarks/training_stages.py conf/open_speech_small.yaml data.train_manifest=train.csv

Nothing is written; the config and its overrides are those of ``speakervlad train``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import torch
import typer

from speakervlad.cli.console import console
from speakervlad.cli.recipe import run_recipe
from speakervlad.config import Config, load_config
from speakervlad.tables.manifest import load_manifest
from speakervlad.training.augment import Augmenter, DrawnCrops, collate
from speakervlad.training.distributed import World, choose_device
from speakervlad.training.loading import (
    build_augmenter,
    build_dataset,
    build_loader,
    build_sampler,
    num_classes,
    stream,
)
from speakervlad.training.run import check_config
from speakervlad.training.start import build_model
from speakervlad.training.trainer import Trainer, build_trainer

# Batches that are not counted: workers start, kernels are compiled.
NUM_WARM = 2


@dataclass(frozen=True)
class Stages:
    """Seconds that one crop takes in every stage.

    Attributes:
        worker: of one worker: ``disk``, ``decode``, ``draw`` (noise, rooms and codecs).
        device: of the device: ``augment``, ``front end``, ``network`` (forward, backward, update).
        loader: all workers together, with what it costs to hand batches over.
    """

    worker: dict[str, float]
    device: dict[str, float]
    loader: float

    @property
    def bottleneck(self) -> str:
        """The longest stage of the slower side."""
        loads = self.loader > sum(self.device.values())
        stages = self.worker if loads else self.device
        return max(stages, key=lambda name: stages[name])

    @property
    def crops_per_second(self) -> float:
        """What training can reach: loading and computing go on side by side."""
        return 1 / max(self.loader, sum(self.device.values()))


def measure(config: Config, *, num_batches: int = 10) -> Stages:
    """Measure an experiment's stages on its own data, without writing anything.

    Disk is the time that a first reading takes longer than a second one; of files that the
    operating system still holds in memory it is nothing.

    Args:
        config: the experiment; one process is measured.
        num_batches: how many batches every stage is measured on.

    Raises:
        InputError: the config or its data cannot be used.
    """
    config = check_config(config, 1)
    world = World(0, 1, choose_device(config.train.device))
    manifest = load_manifest(config.data.train_manifest, config.data.train_root)
    model = build_model(config, num_classes(config, manifest))
    front_end, speakers = model.encoder.front_end.spec, len(manifest.speaker_names)
    crops = build_dataset(config, manifest, front_end)
    augmenter = build_augmenter(config, front_end, speakers, world.device)
    trainer = build_trainer(config, model, world)
    size = config.train.batch_size
    worker = _worker(config, crops, world, num_batches * size)
    device = _device(config, crops, augmenter, trainer, num_batches)
    return Stages(worker, device, _loader(config, crops, world, num_batches))


def _worker(config: Config, crops: DrawnCrops, world: World, count: int) -> dict[str, float]:
    keys = list(islice(build_sampler(config, crops.crops.manifest, 0, world), count))

    def read() -> None:
        for key in keys:
            crops.crops[key]

    def draw() -> None:
        for key in keys:
            crops[key]

    first, again, drawn = (_seconds(work) / count for work in (read, read, draw))
    return {"disk": max(first - again, 0.0), "decode": again, "draw": max(drawn - again, 0.0)}


def _device(
    config: Config, crops: DrawnCrops, augmenter: Augmenter, trainer: Trainer, count: int
) -> dict[str, float]:
    size = config.train.batch_size
    keys = islice(build_sampler(config, crops.crops.manifest, 0, trainer.world), size)
    batch = collate([crops[key] for key in keys])
    examples = augmenter(batch)
    front_end = trainer.model.encoder.front_end.train()

    @torch.no_grad()
    def spectrograms() -> None:
        front_end(examples.sound)

    work = {
        "augment": lambda: augmenter(batch),
        "front end": spectrograms,
        "network": lambda: trainer.step(0, examples),
    }
    seconds = {
        name: _per_crop(run, trainer.world.device, count, size) for name, run in work.items()
    }
    seconds["network"] = max(seconds["network"] - seconds["front end"], 0.0)
    return seconds


def _per_crop(
    work: Callable[[], object], device: torch.device, count: int, batch_size: int
) -> float:
    def repeat(times: int) -> None:
        for _ in range(times):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    repeat(NUM_WARM)
    return _seconds(lambda: repeat(count)) / (count * batch_size)


def _loader(config: Config, crops: DrawnCrops, world: World, count: int) -> float:
    read = stream(build_loader(config, crops, 0, world))
    # Before the clock starts, workers have filled their queues, which hold two batches each.
    warm = NUM_WARM + 2 * config.data.num_workers
    for _ in islice(read, warm):
        pass
    return _seconds(lambda: list(islice(read, count))) / (count * config.train.batch_size)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(
    config: Annotated[Path, typer.Argument(help="YAML file: one complete experiment.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as data.num_workers=8.")
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="Batches per stage.")] = 10,
) -> None:
    """Say where the time of training goes, and name the bottleneck."""
    experiment = load_config(config, overrides or [])
    stages, workers = measure(experiment, num_batches=batches), experiment.data.num_workers
    console.print("stage        ms per crop  crops/s")
    for side, found in (("worker", stages.worker), ("device", stages.device)):
        for name, seconds in found.items():
            console.print(f"{name:12} {1000 * seconds:11.3f}  {_rate(seconds)}  one {side}")
    loader = stages.loader
    console.print(f"{'loader':12} {1000 * loader:11.3f}  {_rate(loader)}  {workers} workers")
    console.print(
        f"bottleneck: {stages.bottleneck}; training can reach {stages.crops_per_second:.0f} crops/s"
    )


def _rate(seconds: float) -> str:
    return f"{1 / seconds:7.0f}" if seconds > 0 else "      -"


if __name__ == "__main__":
    run_recipe(main)
