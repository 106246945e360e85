"""The one exception that a user's input can cause, and what its messages are made of."""

import difflib
import operator
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


def check_range(
    key: str,
    value: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    multiple_of: int | None = None,
) -> None:
    """Refuse a number outside of its range, and NaN.

    Raises:
        InputError: names key, value and range.
    """
    bounds = (
        (above, "above", operator.gt),
        (at_least, "at least", operator.ge),
        (below, "below", operator.lt),
        (at_most, "at most", operator.le),
        (multiple_of, "a multiple of", lambda number, unit: number % unit == 0),
    )
    asked = [(bound, words, holds) for bound, words, holds in bounds if bound is not None]
    if not all(holds(value, bound) for bound, _, holds in asked):
        expected = " and ".join(f"{words} {bound:g}" for bound, words, _ in asked)
        raise InputError(f"{key}={value}: must be {expected}.")
