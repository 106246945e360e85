"""What makes an answer about a recording less certain than it looks: warnings, or notes of a page.

Whoever answers where nobody reads a log listens; without a listener remarks are logged.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

Listener = Callable[[str], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def remark(
    logger: logging.Logger, name: str, words: str, *, advice: str = "", once: bool = False
) -> None:
    """Say something about a recording.

    Args:
        logger: of whoever says it.
        name: of the recording.
        words: what there is to say, behind the name.
        advice: what to do on the command line, for the log alone.
        once: whether a log has it once, however often the file is opened.
    """
    listener = _listener.get()
    if listener is not None:
        listener(words)
    else:
        (_log_once if once else _log)(logger, f"{name}: {words}{advice}")


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Let remarks of this thread go to a listener, not to the log."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def _log(logger: logging.Logger, message: str) -> None:
    logger.warning("%s", message)


_log_once = lru_cache(4096)(_log)
