"""Who is meant by a name, and who speaks there: names across files, and speakers of trials."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from speakervlad.data.audio import AUDIO_SUFFIXES
from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.lists import Trials

logger = logging.getLogger(__name__)

# Fewer show nothing of how much speakers differ.
MIN_SPEAKERS = 5
# Suffixes that a name may have or not: recordings, and features kept beside them.
SUFFIXES = AUDIO_SUFFIXES | {".npy"}

Parts = tuple[str, ...]


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
        losers: dict[Parts, list[int]] = {}
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
    parts: Parts, whole: Mapping[Parts, tuple[int, ...]], tails: Mapping[Parts, tuple[int, ...]]
) -> tuple[tuple[int, ...], Parts]:
    """One or two rows that a name fits, and the folders that it must lose for it.

    The name as it is comes first, then rows without their leading folders, then the name without
    its own.
    """
    for rows, start in ((whole, 0), (tails, 0), *((whole, n) for n in range(1, len(parts)))):
        if parts[start:] in rows:
            return rows[parts[start:]], parts[:start]
    return (), ()


def _rows_by_key(keys: Iterable[Parts]) -> dict[Parts, tuple[int, ...]]:
    """The first row of every key, and the second where there are several."""
    rows: dict[Parts, tuple[int, ...]] = {}
    for row, key in enumerate(keys):
        rows[key] = (*rows.get(key, ())[:1], row)
    return rows


def path_parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a name: no extension, no leading slash; backslashes separate too."""
    path = PurePosixPath(name.replace("\\", "/"))
    audio = path.suffix.lower() in SUFFIXES
    return tuple(part for part in (path.with_suffix("") if audio else path).parts if part != "/")


@dataclass(frozen=True)
class TrialSpeakers:
    """The speakers of both sides of every trial, as numbers.

    Attributes:
        enrol: (num_trials,) int.
        test: (num_trials,) int.
        num_speakers: how many there are.
    """

    enrol: np.ndarray
    test: np.ndarray
    num_speakers: int

    @classmethod
    def numbered(cls, enrol: np.ndarray, test: np.ndarray) -> "TrialSpeakers":
        """From any numbers of both sides, (num_trials,) int."""
        present, numbers = np.unique(np.stack([enrol, test]), return_inverse=True)
        sides = numbers.reshape(2, -1)
        return cls(sides[0], sides[1], len(present))

    def of(self, trials: np.ndarray) -> "TrialSpeakers":
        """The speakers of some trials only, by mask or indices."""
        return TrialSpeakers.numbered(self.enrol[trials], self.test[trials])


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


def speakers_from_manifest(trials: Trials, manifest: Manifest) -> TrialSpeakers:
    """The manifest's speakers of both sides.

    Raises:
        InputError: names that the manifest does not have, or labels that contradict it.
    """
    return _checked(trials, manifest.speaker_indices[required_rows(manifest, trials.names)])


def speakers_from_names(trials: Trials) -> TrialSpeakers:
    """The folders of every name but the last one or two, taken as its speaker if labels agree.

    ``id10270/x6uYqmx31kE/00001.wav`` is of speaker ``id10270``. The reading is accepted only when
    every target trial has one speaker and every non-target trial two.

    Raises:
        InputError: no reading of the names agrees with all labels.
    """
    parts = [path_parts(name) for name in trials.names.tolist()]
    shared = _num_shared_folders(parts)
    for keep in (1, 2):
        keys = [part[shared : shared + keep] for part in parts]
        if all(len(part) > shared + keep for part in parts):
            codes = np.unique(["/".join(key) for key in keys], return_inverse=True)[1]
            if not len(contradictions(trials, codes)):
                logger.info("speakers read from the names: %d", codes.max() + 1)
                return _checked(trials, codes)
    raise InputError(
        "the names do not tell the speakers (no leading folder agrees with all labels). "
        "Give a manifest."
    )


def speakers_if_known(trials: Trials, manifest: Manifest | None) -> TrialSpeakers | None:
    """The speakers of the trials: from the manifest, or else from the names if these tell them.

    Raises:
        InputError: the manifest does not fit the trials.
    """
    if manifest is not None:
        return speakers_from_manifest(trials, manifest)
    try:
        speakers = speakers_from_names(trials)
    except InputError as error:
        logger.info("no confidence intervals: %s", error)
        return None
    if speakers.num_speakers < MIN_SPEAKERS:
        logger.info("no confidence intervals: only %d speakers.", speakers.num_speakers)
        return None
    return speakers


def _num_shared_folders(parts: list[tuple[str, ...]]) -> int:
    """How many leading folders all names have in common."""
    shared = 0
    while all(len(part) > shared + 1 for part in parts):
        if len({part[shared] for part in parts}) > 1:
            break
        shared += 1
    return shared


def contradictions(trials: Trials, codes: np.ndarray) -> np.ndarray:
    """Indices of trials whose label is not what the speakers of ``names`` say."""
    return np.flatnonzero((codes[trials.enrol] == codes[trials.test]) != trials.labels())


def _checked(trials: Trials, codes: np.ndarray) -> TrialSpeakers:
    """Speakers of both sides, refused when they contradict the labels."""
    wrong = contradictions(trials, codes)
    if len(wrong):
        named = map(trials.spelt, wrong[:6])
        raise InputError(
            f"{len(wrong)} of {len(trials)} labels contradict the speakers: {first_few(named)}. "
            "Use the manifest that fits this list."
        )
    return TrialSpeakers.numbered(codes[trials.enrol], codes[trials.test])
