"""Text and JSON that users hand in, read with errors in words."""

import json
from pathlib import Path
from typing import Any

from speakervlad.errors import InputError


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever the text says
    """JSON that somebody handed in.

    Raises:
        ValueError: it is none, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_text(path: Path) -> str:
    """Text that somebody handed in.

    Raises:
        InputError: missing, no file, not to be read, or not in UTF-8.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path}: is a device or a pipe, no text file.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text file in UTF-8 ({error.reason}).") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}).") from error


def seconds_in(text: str) -> float:
    """A number of seconds, as files of turns have it.

    Raises:
        ValueError: it is none; nor is ``1_0``, which Python alone takes for one.
    """
    if "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)
