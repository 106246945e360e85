"""The command that says where the time goes: ``bench-data``."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import console


def bench_data(
    config: Annotated[Path, typer.Argument(help="YAML file: one complete experiment.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as data.num_workers=8.")
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="Batches per stage.")] = 10,
) -> None:
    """Say where the time of training goes, and name the bottleneck.

    Example: speakervlad bench-data mine.yaml data.num_workers=2
    """
    from speakervlad.config import load_config
    from speakervlad.extras import require

    require("torch", "train", "training")
    experiment = load_config(config, overrides or [])
    from speakervlad.training.bench import bench_data as measure

    bench = measure(experiment, num_batches=batches)
    workers = experiment.data.num_workers
    console.print("stage        ms per crop  crops/s")
    for side, stages in (("worker", bench.worker), ("device", bench.device)):
        for name, seconds in stages.items():
            console.print(f"{name:12} {1000 * seconds:11.3f}  {_rate(seconds)}  one {side}")
    console.print(
        f"{'loader':12} {1000 * bench.loader:11.3f}  {_rate(bench.loader)}  {workers} workers"
    )
    console.print(
        f"bottleneck: {bench.bottleneck}; training can reach {bench.crops_per_second:.0f} crops/s"
    )


def _rate(seconds: float) -> str:
    return f"{1 / seconds:7.0f}" if seconds > 0 else "      -"
