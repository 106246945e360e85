"""The command that copies the recordings of the package: ``examples``."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import console


def examples(
    folder: Annotated[Path, typer.Argument(help="Folder to copy them into.")] = Path("examples"),
) -> None:
    """Copy twelve recordings of five people, to try the commands with.

    Example: speakervlad examples
    """
    from speakervlad.audio.examples import copy_examples

    for path in copy_examples(folder):
        console.print(path)
