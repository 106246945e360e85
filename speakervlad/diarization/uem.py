"""UEM files: which parts of which recordings are judged."""

from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.texts import read_text, seconds_in

UEM_FIELDS = 4


def load_uem(path: str | Path) -> dict[str, np.ndarray]:
    """NIST's un-partitioned evaluation map: a line of recording, channel, begin and end a part.

    Args:
        path: text in UTF-8; lines that begin with ``;;`` are comments.

    Returns:
        float64 (parts, 2) by recording, in seconds; sorted and apart.

    Raises:
        InputError: missing, no text, nothing in it, or a damaged line, which is named.
    """
    parts: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(read_text(Path(path)).splitlines(), 1):
        fields = line.split()
        if fields and not fields[0].startswith(";;"):
            parts.setdefault(fields[0], []).append(_part(fields, f"{path}, line {number}", line))
    if not parts:
        raise InputError(f"{path}: names no part of a recording. Expected `recording 1 begin end`.")
    return {name: _apart(np.array(of_it)) for name, of_it in parts.items()}


def _part(fields: list[str], where: str, line: str) -> tuple[float, float]:
    try:
        start, end = map(seconds_in, fields[2:]) if len(fields) == UEM_FIELDS else (-1.0, -1.0)
    except ValueError:
        start = end = -1.0
    if not 0 <= start < end < float("inf"):
        raise InputError(
            f"{where}: {line.strip()[:120]!r} is no part of a recording. Expected `recording 1 "
            "begin end`, in seconds, four fields without white space in them."
        )
    return start, end


def _apart(parts: np.ndarray) -> np.ndarray:
    """The same, sorted; those that touch or overlap are one."""
    parts = parts[np.argsort(parts[:, 0], kind="stable")]
    ends = np.maximum.accumulate(parts[:, 1])
    is_first = np.concatenate([[True], parts[1:, 0] > ends[:-1]])
    is_last = np.concatenate([is_first[1:], [True]])
    return np.stack([parts[is_first, 0], ends[is_last]], axis=1)
