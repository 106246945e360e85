"""Matching names across files: the rows of a list, table or manifest that names stand for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.sound import AUDIO_SUFFIXES

if TYPE_CHECKING:
    from speakervlad.tables.manifest import Manifest

logger = logging.getLogger(__name__)

# Suffixes that are ignored when names are compared: recordings, and features kept beside them.
SUFFIXES = AUDIO_SUFFIXES | {".npy"}

NameParts = tuple[str, ...]


class NameIndex:
    """Finds the rows of names in a list of names.

    A name that is not in the list may differ by its extension or by leading folders:
    ``/data/a/1.wav``, ``a/1.flac`` and ``a/1`` are the same utterance if only one row matches.
    Two different names never match the same row, and names that are only found without some of
    their leading folders must all be without the same folders.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    @cached_property
    def exact(self) -> dict[str, int]:
        """Row of every name as it is spelt."""
        return {name: row for row, name in enumerate(self.names)}

    def find(self, wanted: Iterable[str]) -> np.ndarray:
        """(num_wanted,) int: the row of every wanted name, -1 where none or several match."""
        return self.match(list(wanted))[0]

    def match(self, wanted: Sequence[str]) -> tuple[np.ndarray, str]:
        """As ``find``, and a sentence on the first ambiguous name, or an empty text."""
        rows = np.array([self.exact.get(name, -1) for name in wanted], dtype=np.int64)
        unknown = {place: path_parts(wanted[place]) for place in np.flatnonzero(rows < 0).tolist()}
        if not unknown:
            return rows, ""
        known = [path_parts(name) for name in self.names]
        whole = _rows_by_key(known)
        tails = {
            depth: _rows_by_key(parts[-depth:] for parts in known)
            for depth in sorted(set(map(len, unknown.values())))
        }
        problems: list[str] = []
        by_dropped: dict[NameParts, list[int]] = {}
        for place, parts in unknown.items():
            matching, dropped = _matching(parts, whole, tails[len(parts)])
            if len(matching) == 1:
                rows[place] = matching[0]
                by_dropped.setdefault(dropped, []).append(place)
            elif matching:
                first, second = (self.names[row] for row in matching)
                problems.append(f"{wanted[place]} could be {first} or {second}.")
        by_dropped.pop((), None)
        problems += self._unmatch_shared(wanted, rows, unknown)
        problems += self._unmatch_different_folders(wanted, rows, list(by_dropped.values()))
        return rows, f" {problems[0]}" if problems else ""

    def _unmatch_different_folders(
        self, wanted: Sequence[str], rows: np.ndarray, groups: Sequence[list[int]]
    ) -> list[str]:
        """Take back the rows of names if they were found without different folders; say which.

        Args:
            wanted: the names.
            rows: their rows, which are changed.
            groups: places of names that were found without the same folders.
        """
        matched = [[place for place in places if rows[place] >= 0] for places in groups]
        firsts = [places[0] for places in matched if places]
        if len(firsts) < 2:
            return []
        pair = [f"{wanted[place]} as {self.names[rows[place]]}" for place in firsts[:2]]
        rows[[place for places in matched for place in places]] = -1
        return [f"Found only without their folders, which differ: {pair[0]}, {pair[1]}."]

    def _unmatch_shared(
        self, wanted: Sequence[str], rows: np.ndarray, inexact: Collection[int]
    ) -> list[str]:
        """Take back the rows that several different names match; say which.

        Args:
            wanted: the names.
            rows: their rows, which are changed.
            inexact: places of names that are not spelt as in the list.
        """
        owners: dict[int, str] = {}
        shared: dict[int, str] = {}
        for place, row in enumerate(rows.tolist()):
            other = owners.setdefault(row, wanted[place])
            if row >= 0 and other != wanted[place]:
                shared[row] = f"{other} and {wanted[place]} would both be {self.names[row]}."
        for place in inexact:
            rows[place] = -1 if rows[place] in shared else rows[place]
        return list(shared.values())


def _matching(
    parts: NameParts,
    whole: Mapping[NameParts, tuple[int, ...]],
    tails: Mapping[NameParts, tuple[int, ...]],
) -> tuple[tuple[int, ...], NameParts]:
    """The first one or two rows that match a name, and the leading folders it is matched without.

    Tried in this order: the whole name, rows without their leading folders, the name without one,
    two ... of its own.
    """
    for rows, start in ((whole, 0), (tails, 0), *((whole, n) for n in range(1, len(parts)))):
        if parts[start:] in rows:
            return rows[parts[start:]], parts[:start]
    return (), ()


def _rows_by_key(keys: Iterable[NameParts]) -> dict[NameParts, tuple[int, ...]]:
    """The first two rows of every key."""
    rows: dict[NameParts, tuple[int, ...]] = {}
    for row, key in enumerate(keys):
        rows[key] = (*rows.get(key, ())[:1], row)
    return rows


def path_parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a name: no extension, no leading slash; backslashes separate too."""
    path = PurePosixPath(name.replace("\\", "/"))
    audio = path.suffix.lower() in SUFFIXES
    return tuple(part for part in (path.with_suffix("") if audio else path).parts if part != "/")


def manifest_rows(manifest: Manifest, names: np.ndarray) -> np.ndarray:
    """(num_names,) int: the manifest row of every name, by utterance id or else by path; or -1."""
    return _match_manifest(manifest, names)[0]


def _match_manifest(manifest: Manifest, names: np.ndarray) -> tuple[np.ndarray, str]:
    wanted = names.tolist()
    rows, problem = NameIndex(list(manifest.utterance_ids)).match(wanted)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        by_path, other = NameIndex(list(manifest.paths)).match([wanted[row] for row in missing])
        rows[missing], problem = by_path, problem or other
    return rows, problem


def required_rows(manifest: Manifest, names: np.ndarray) -> np.ndarray:
    """``manifest_rows`` when nothing may be missing.

    Raises:
        InputError: names that the manifest does not have, or that are ambiguous.
    """
    rows, problem = _match_manifest(manifest, names)
    missing = names[rows < 0]
    if len(missing):
        raise InputError(
            f"{len(missing)} of {len(names)} recordings of the trials are not in the manifest: "
            f"{first_few(missing)}.{problem} Give the manifest of these recordings."
        )
    return rows
