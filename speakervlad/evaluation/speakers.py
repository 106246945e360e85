"""Who speaks in a trial: from a manifest, or from the names when they agree with the labels."""

import logging
from dataclasses import dataclass

import numpy as np

from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError, first_few
from speakervlad.evaluation.names import NameIndex, path_parts
from speakervlad.evaluation.trials import Trials

logger = logging.getLogger(__name__)


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
        named = [f"{trials.enrol_ids[t]} {trials.test_ids[t]}" for t in wrong[:6]]
        raise InputError(
            f"{len(wrong)} of {len(trials)} labels contradict the speakers: {first_few(named)}. "
            "Use the manifest that fits this list."
        )
    sides = codes[np.stack([trials.enrol, trials.test])]
    present, numbers = np.unique(sides, return_inverse=True)
    enrol, test = numbers.reshape(2, -1)
    return TrialSpeakers(enrol, test, len(present))
