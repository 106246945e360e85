"""How the scripts in ``recipes/`` run: as commands with the manners of ``speakervlad`` itself."""

import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from speakervlad.cli.console import run


def run_recipe(command: Callable[..., None]) -> NoReturn:
    """Parse the arguments for one function and run it; an error is one line and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run(app)
    sys.exit(0)
