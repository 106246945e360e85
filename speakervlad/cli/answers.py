"""One answer for each of many recordings: failures are reported and do not stop the others."""

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from speakervlad.cli.console import describe, errors
from speakervlad.cli.options import parse_fraction
from speakervlad.errors import InputError
from speakervlad.progress import track
from speakervlad.urls import called

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def answers(
    paths: Sequence[Path],
    description: str,
    compute: Callable[[Path], Result],
    *,
    max_bad: str = "0%",
    bad_list: Path | None = None,
) -> Iterator[tuple[Path, Result]]:
    """Yield each recording with what was computed of it; those that cannot be used come last.

    Args:
        paths: of the recordings.
        description: of the work, for the progress bar.
        compute: what to do with each.
        max_bad: the share of them that may fail: ``1%`` or ``0.01``.
        bad_list: a CSV for those that failed and their reasons.

    Raises:
        InputError: more failed, or all: of the last one, when the others are printed. Or the list
            cannot be written.
    """
    from speakervlad.corpus.work import BadFile, BadList

    tolerated, listed = parse_fraction(max_bad), BadList(bad_list, column="file")
    failures: dict[Path, InputError] = {}
    for path in track(paths, description, len(paths)):
        try:
            found = compute(path)
        except Exception as error:
            failures[path] = _of_recording(path, error)
        else:
            yield path, found
    listed.write([BadFile(called(path), str(error)) for path, error in failures.items()])
    _judge(list(failures.values()), len(paths), tolerated)


def _judge(failures: list[InputError], num_files: int, tolerated: float) -> None:
    """Report every failure; fail as well if there are too many."""
    if failures and (len(failures) > tolerated * num_files or len(failures) == num_files):
        for failure in failures[:-1]:
            errors.print(f"error: {failure}")
        raise failures[-1]
    for failure in failures:
        logger.warning("left out: %s", failure)


def _of_recording(path: Path, error: Exception) -> InputError:
    """What stopped one recording, in a line that names it."""
    if isinstance(error, InputError):
        return error
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    kind = type(error).__name__
    words = describe(error) or kind
    return InputError(f"{called(path)}: {words} ({kind}; --debug before the command says where)")
