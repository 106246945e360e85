"""Who is meant by a name, and who speaks there: names across files, and speakers of trials."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.sound import AUDIO_SUFFIXES
from speakervlad.tables.manifest import Manifest

logger = logging.getLogger(__name__)

# Suffixes that a name may have or not: recordings, and features kept beside them.
SUFFIXES = AUDIO_SUFFIXES | {".npy"}

NameParts = tuple[str, ...]


class NameIndex:
    """Rows of a list of names.

    A name that is not in the list may differ by its extension or by leading folders:
    ``/data/a/1.wav``, ``a/1.flac`` and ``a/1`` are the same utterance as long as only one row fits.
    Nothing that was asked for may be lost by it: two different names never share a row, and all
    names that lose folders lose the same ones.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    @cached_property
    def exact(self) -> dict[str, int]:
        """Row of every name as it is spelt."""
        return {name: row for row, name in enumerate(self.names)}

    def find(self, wanted: Iterable[str]) -> np.ndarray:
        """(num_wanted,) int: the row of every wanted name, -1 where no row is certain to fit."""
        return self.match(list(wanted))[0]

    def match(self, wanted: Sequence[str]) -> tuple[np.ndarray, str]:
        """As ``find``, and a sentence that names what was ambiguous, or nothing."""
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
        losers: dict[NameParts, list[int]] = {}
        for place, parts in unknown.items():
            fitting, dropped = _fitting(parts, whole, tails[len(parts)])
            if len(fitting) == 1:
                rows[place] = fitting[0]
                losers.setdefault(dropped, []).append(place)
            elif fitting:
                first, second = (self.names[row] for row in fitting)
                problems.append(f"{wanted[place]} could be {first} or {second}.")
        losers.pop((), None)
        problems += self._shared(wanted, rows, unknown)
        problems += self._differently_cut(wanted, rows, list(losers.values()))
        return rows, f" {problems[0]}" if problems else ""

    def _differently_cut(
        self, wanted: Sequence[str], rows: np.ndarray, losers: Sequence[list[int]]
    ) -> list[str]:
        """Take back the rows of names that would lose different folders; say which."""
        left = [[place for place in places if rows[place] >= 0] for places in losers]
        firsts = [places[0] for places in left if places]
        if len(firsts) < 2:
            return []
        pair = [f"{wanted[place]} as {self.names[rows[place]]}" for place in firsts[:2]]
        rows[[place for places in left for place in places]] = -1
        return [f"Found only without their folders, which differ: {pair[0]}, {pair[1]}."]

    def _shared(
        self, wanted: Sequence[str], rows: np.ndarray, unsure: Collection[int]
    ) -> list[str]:
        """Take back the rows that several different names would share; say which."""
        owners: dict[int, str] = {}
        shared: dict[int, str] = {}
        for place, row in enumerate(rows.tolist()):
            other = owners.setdefault(row, wanted[place])
            if row >= 0 and other != wanted[place]:
                shared[row] = f"{other} and {wanted[place]} would both be {self.names[row]}."
        for place in unsure:
            rows[place] = -1 if rows[place] in shared else rows[place]
        return list(shared.values())


def _fitting(
    parts: NameParts,
    whole: Mapping[NameParts, tuple[int, ...]],
    tails: Mapping[NameParts, tuple[int, ...]],
) -> tuple[tuple[int, ...], NameParts]:
    """One or two rows that a name fits, and the folders that it must lose for it.

    The name as it is comes first, then rows without their leading folders, then the name without
    its own.
    """
    for rows, start in ((whole, 0), (tails, 0), *((whole, n) for n in range(1, len(parts)))):
        if parts[start:] in rows:
            return rows[parts[start:]], parts[:start]
    return (), ()


def _rows_by_key(keys: Iterable[NameParts]) -> dict[NameParts, tuple[int, ...]]:
    """The first row of every key, and the second where there are several."""
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
