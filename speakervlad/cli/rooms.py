"""The command that simulates rooms for reverberation: ``rooms``."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import notes, track


def rooms(
    out: Annotated[Path, typer.Argument(help="Folder for the responses and their manifest.csv.")],
    count: Annotated[int, typer.Option(min=1, help="Rooms.")] = 2000,
    seed: Annotated[int, typer.Option(help="Key of all randomness.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; one per core by default.")
    ] = None,
) -> None:
    """Simulate room impulse responses, for augment.rir_manifest.

    Example: speakervlad rooms rooms/ --count 500
    """
    from speakervlad.extras import require

    require("torch", "train", "augmentation")
    from speakervlad.training.sources import simulate_rooms

    manifest = simulate_rooms(out, num_rooms=count, seed=seed, num_workers=workers, track=track)
    manifest.save(out / "manifest.csv")
    notes.print(f"{len(manifest)} rooms: {out / 'manifest.csv'}")
