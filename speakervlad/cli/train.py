"""The commands that train: ``train``, ``average``."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli import app
from speakervlad.cli.console import console, errors, set_up_logging

Show = Callable[[int, int, str], None]


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file: one complete experiment.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as train.steps=100 resume=true.")
    ] = None,
) -> None:
    """Train an encoder; under torchrun, on all its processes."""
    import logging

    from speakervlad.config import load_config
    from speakervlad.extras import require

    require("torch", "train", "training")
    experiment = load_config(config, overrides or [])
    is_main = os.environ.get("RANK", "0") == "0"
    if not is_main:
        set_up_logging(logging.WARNING)
    from speakervlad.training.run import train as run

    with training_line(enabled=is_main) as show:
        folder = run(experiment, show)
    if is_main:
        console.print(f"encoder: {folder}")


@app.command()
def average(
    out: Annotated[Path, typer.Argument(help="Encoder folder to write.")],
    encoders: Annotated[list[Path], typer.Argument(help="Encoder folders of one run.")],
) -> None:
    """Average the weights of several encoders of one run."""
    from speakervlad.extras import require

    require("torch", "train", "averaging")
    from speakervlad.training.averaging import average_encoders

    average_encoders(encoders, out)
    console.print(f"mean of {len(encoders)} encoders: {out}")


@contextmanager
def training_line(*, enabled: bool = True) -> Iterator[Show]:
    """One line that shows progress and the newest figures, on stderr."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  {task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, disable=not enabled) as progress:
        task = progress.add_task("", total=None)

        def show(step: int, total: int, line: str) -> None:
            progress.update(task, completed=step, total=total, description=line)

        yield show
