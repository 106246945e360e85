"""What the commands share: the rich console, progress bars, one-line errors."""

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console

Item = TypeVar("Item")

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """A progress bar with count, rate and remaining time, on stderr, gone when done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    silent = not errors.is_terminal
    with Progress(*columns, console=errors, transient=True, disable=silent) as progress:
        yield from progress.track(items, total=total, description=description)


def set_up_logging(level: int = logging.INFO) -> None:
    """Library messages go to stderr as plain lines; only the command line calls this."""
    from rich.logging import RichHandler

    handler = RichHandler(console=errors, show_path=False, show_time=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("speakervlad").setLevel(level)
