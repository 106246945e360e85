"""Who speaks on both sides of a trial: from a manifest, or read from the names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.scoring.trials import Trials
from speakervlad.tables.names import path_parts, required_rows

if TYPE_CHECKING:
    from speakervlad.tables.manifest import Manifest

logger = logging.getLogger(__name__)

# With fewer speakers their spread cannot be estimated.
MIN_SPEAKERS = 5


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
    def numbered(cls, enrol: np.ndarray, test: np.ndarray) -> TrialSpeakers:
        """From any numbers of both sides, (num_trials,) int."""
        present, numbers = np.unique(np.stack([enrol, test]), return_inverse=True)
        sides = numbers.reshape(2, -1)
        return cls(sides[0], sides[1], len(present))

    def of(self, trials: np.ndarray) -> TrialSpeakers:
        """The speakers of some trials only, by mask or indices."""
        return TrialSpeakers.numbered(self.enrol[trials], self.test[trials])


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
