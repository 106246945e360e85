"""The one exception that a user's input can cause."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user handed in is wrong; the message says what, where and what to do.

    The command line prints it as one line and exits with code 2. Programmer slips stay ``assert``.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'?`` when a known name is close, else the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."


def first_few(names: Iterable[str], limit: int = 5) -> str:
    """``a, b, c, d, e, ...`` for messages that would otherwise name thousands."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:limit]) + (", ..." if len(listed) > limit else "")
