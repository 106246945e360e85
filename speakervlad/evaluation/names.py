"""Who is meant by a name, and who speaks there: names across files, and speakers of trials."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.lists import Trials

logger = logging.getLogger(__name__)

# Fewer show nothing of how much speakers differ.
MIN_SPEAKERS = 5
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


def manifest_rows(manifest: Manifest, names: np.ndarray) -> np.ndarray:
    """(num_names,) int: the manifest row of every name, by utterance id or else by path; or -1."""
    wanted = names.tolist()
    rows = NameIndex(list(manifest.utterance_ids)).find(wanted)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        rows[missing] = NameIndex(list(manifest.paths)).find([wanted[row] for row in missing])
    return rows


def required_rows(manifest: Manifest, names: np.ndarray) -> np.ndarray:
    """``manifest_rows`` when nothing may be missing.

    Raises:
        InputError: names that the manifest does not have.
    """
    rows = manifest_rows(manifest, names)
    missing = names[rows < 0]
    if len(missing):
        raise InputError(
            f"{len(missing)} of {len(names)} recordings of the trials are not in the manifest: "
            f"{first_few(missing)}. Give the manifest of these recordings."
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
    sides = codes[np.stack([trials.enrol, trials.test])]
    present, numbers = np.unique(sides, return_inverse=True)
    enrol, test = numbers.reshape(2, -1)
    return TrialSpeakers(enrol, test, len(present))
