"""The ``speakervlad`` command: every command body reads, calls one library function, writes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from speakervlad import __version__
from speakervlad.cli.console import errors, set_up_logging
from speakervlad.errors import InputError

app = typer.Typer(
    name="speakervlad",
    help="Speaker recognition with NetVLAD and GhostVLAD: train, embed, score, judge.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

# Each module registers its commands on ``app``, so they come after it.
from speakervlad.cli import (  # noqa: E402
    bench,  # noqa: F401
    calibration,  # noqa: F401
    convert,  # noqa: F401
    data,  # noqa: F401
    embed,  # noqa: F401
    evaluation,  # noqa: F401
    export,  # noqa: F401
    info,  # noqa: F401
    quickstart,  # noqa: F401
    rooms,  # noqa: F401
    train,  # noqa: F401
    trials,  # noqa: F401
    verify,  # noqa: F401
)


def print_version(wanted: bool) -> None:
    """Answer ``--version`` and end."""
    if wanted:
        typer.echo(f"speakervlad {__version__}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=print_version, help="Print it and exit."),
    ] = False,
) -> None:
    """Options that come before any command."""


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 2."""
    set_up_logging()
    try:
        app()
    except (InputError, OSError) as error:
        errors.print(f"error: {describe(error)}", markup=False)
        sys.exit(2)


def describe(error: Exception) -> str:
    """One line for one error; an OSError names its file, and what to look at."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        start = "" if Path(error.filename).is_absolute() else f", which starts from {Path.cwd()}"
        return f"{error.filename}: {error.strerror}. Check the path{start}."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
