"""How the scripts in ``recipes/`` run: as commands with the manners of ``speakervlad`` itself."""

import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from speakervlad.cli import describe
from speakervlad.cli.console import errors, set_up_logging
from speakervlad.errors import InputError


def run_recipe(command: Callable[..., None]) -> NoReturn:
    """Parse the arguments for one function and run it; bad input is one line and exit code 2."""
    set_up_logging()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except (InputError, OSError) as error:
        errors.print(f"error: {describe(error)}", markup=False)
        sys.exit(2)
    sys.exit(0)
