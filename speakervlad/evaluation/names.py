"""Finding an utterance whose name is spelt a little differently in another file."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".sph", ".aac", ".mp4", ".webm", ".npy"}
)


class NameIndex:
    """Rows of a list of names.

    A name that is not in the list may differ by its extension or by leading folders:
    ``/data/a/1.wav``, ``a/1.flac`` and ``a/1`` are the same utterance as long as only one row fits.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    @cached_property
    def exact(self) -> dict[str, int]:
        """Row of every name as it is spelt."""
        return {name: row for row, name in enumerate(self.names)}

    def find(self, wanted: Iterable[str]) -> np.ndarray:
        """(num_wanted,) int: the row of every wanted name, -1 where none or several fit."""
        wanted = list(wanted)
        rows = np.array([self.exact.get(name, -1) for name in wanted], dtype=np.int64)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            rows[unknown] = self._find_by_tail([path_parts(wanted[row]) for row in unknown])
        return rows

    def _find_by_tail(self, wanted: list[tuple[str, ...]]) -> list[int]:
        known = [path_parts(name) for name in self.names]
        whole = unique_rows(known)
        tails = {
            depth: unique_rows([parts[-depth:] for parts in known])
            for depth in sorted({len(parts) for parts in wanted})
        }
        return [_find_one(parts, whole, tails) for parts in wanted]


def _find_one(
    parts: tuple[str, ...],
    whole: dict[tuple[str, ...], int],
    tails: dict[int, dict[tuple[str, ...], int]],
) -> int:
    """Drop the wanted name's leading folders until a row fits, else let the rows drop theirs."""
    for start in range(len(parts)):
        row = whole.get(parts[start:], -1)
        if row >= 0:
            return row
    return tails[len(parts)].get(parts, -1)


def unique_rows(keys: list[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Row of every key, -1 for a key that stands for several rows."""
    rows: dict[tuple[str, ...], int] = {}
    for row, key in enumerate(keys):
        rows[key] = -1 if key in rows else row
    return rows


def path_parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a name: no extension, no leading slash; backslashes separate too."""
    path = PurePosixPath(name.replace("\\", "/"))
    audio = path.suffix.lower() in AUDIO_SUFFIXES
    return tuple(part for part in (path.with_suffix("") if audio else path).parts if part != "/")
