"""Parts of a benchmark that must not disturb each other."""

import multiprocessing
import sys
from collections.abc import Callable


def in_own_process(work: Callable[..., object], *arguments: object) -> None:
    """Run in a fresh process, so that threads, memory and caches are its own."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)
