"""The commands that train: ``train``, ``average``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import notes, set_up_logging, training_line


def train(
    config: Annotated[Path, typer.Argument(help="YAML file: one complete experiment.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as train.steps=100 resume=true.")
    ] = None,
) -> None:
    """Train an encoder; under torchrun, on all its processes.

    Ctrl-C saves and leaves; resume=true goes on, past the end with a larger train.steps.

    Example: speakervlad train mine.yaml train.steps=2000 run_dir=runs/mine
    """
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
    if is_main and folder:
        notes.print(f"encoder: {folder}")
    elif is_main:
        notes.print("stopped early and saved; the same command with resume=true goes on")


def average(
    out: Annotated[Path, typer.Argument(help="Encoder folder to write.")],
    encoders: Annotated[list[Path], typer.Argument(help="Encoder folders of one run.")],
) -> None:
    """Average the weights of several encoders of one run.

    Example: speakervlad average mean/ encoders/one encoders/two
    """
    from speakervlad.extras import require

    require("torch", "train", "averaging")
    from speakervlad.training.run_folder import average_encoders

    average_encoders(encoders, out)
    notes.print(f"mean of {len(encoders)} encoders: {out}")
